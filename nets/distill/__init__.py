"""DGI: distillation-guided image inpainting (Suin, Purohit, Rajagopalan, ICCV 2021)."""
