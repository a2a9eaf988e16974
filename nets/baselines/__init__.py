"""Other papers' generators, to which DGI's distillation is added (Table 3): GC, EC, PC."""
