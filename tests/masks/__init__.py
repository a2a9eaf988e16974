"""Hole shapes, their recipes, and masks of others."""
