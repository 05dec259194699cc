"""Noise on what a round's clients come to, so that no single client shows in the models."""
