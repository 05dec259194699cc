"""Rounds of many institutions in one process, computed together."""
