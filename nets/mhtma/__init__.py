"""MHTMA: learning to scale temperature in masked self-attention (Zhou, Zeng, Gong, 2023), with ATMA and sketches."""
