"""Exported models of pictures and sounds, and the code that goes into their folders."""
