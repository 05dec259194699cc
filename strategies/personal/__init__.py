"""Algorithms by which institutions predict with tensors of their own."""
