"""Adapters to Flower: the only code that uses its private modules and attributes."""
