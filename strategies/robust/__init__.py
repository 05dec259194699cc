"""Aggregation rules that withstand hostile institutions, and mixings before them."""
