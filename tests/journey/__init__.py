"""The whole way."""
