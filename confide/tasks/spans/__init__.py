"""Spans of words: their tags, and the lists that records hold."""
