"""Sums that nobody sees inside: what institutions and coordinator compute alike."""
