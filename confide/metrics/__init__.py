"""Metrics: a table a family of tasks, in one file with the functions that compute them."""
