"""The verbs, as users call them."""
