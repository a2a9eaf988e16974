"""How photos of any size come to a network of one size."""
