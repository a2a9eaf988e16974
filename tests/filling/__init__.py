"""Tests of filling photos from files to files."""
