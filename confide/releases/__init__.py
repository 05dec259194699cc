"""Releases: what institutions answer with besides updates and scores, a kind a file."""
