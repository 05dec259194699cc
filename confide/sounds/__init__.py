"""Sounds: from files to the spectrograms that models take. Needs no torch."""
