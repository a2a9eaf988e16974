"""Batches to weights: the loop, its state, its records, its launch."""
