"""Encodings of numeric columns: one file each, and the table that lists them."""
