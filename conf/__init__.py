"""Hydra's config groups: values and choices.

Types, ranges and defaults are in :mod:`confide.config.run`.
"""
