"""Populations too large to be listed: institutions named, asked for and opened one at a time."""
