"""Schemas of tasks whose records are files: pictures and sounds."""
