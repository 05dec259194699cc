"""A real browser."""

from browsing import browser

__all__ = ["browser"]
