"""Aggregation strategies: one algorithm, one file."""
