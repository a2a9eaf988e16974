"""Scores to versions: package, gate, promotion, roll back."""
