"""Texts that are written from other texts."""
