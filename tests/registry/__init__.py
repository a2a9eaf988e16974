"""Scores to versions: package, gate, promotion, rollback."""
