"""DeepGIN: deep generative inpainting network for extreme image inpainting (Li et al., 2020)."""
