"""Metrics of each kind of outcome: one file a table."""
