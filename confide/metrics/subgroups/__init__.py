"""Metrics by groups of records: what is told of each, when, and how far apart groups are."""
