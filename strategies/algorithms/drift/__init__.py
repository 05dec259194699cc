"""Algorithms for institutions whose records are unlike, or whose work is unequal."""
