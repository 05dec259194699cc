"""Differential privacy shared by both sides: accounting and randomness."""
