"""Speed against the peers, by hand: `python -m tests.benchmarks.NAME`; nothing here is a test."""
