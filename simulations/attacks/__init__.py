"""Hostile institutions of a simulation: what they send, and what they train on."""
