"""Weights to scores: fillers, metrics, pairs, comparison."""
