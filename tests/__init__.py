"""Tests mirror the tree; laws/ holds the property and crash tests, journey/ walks the whole way."""
