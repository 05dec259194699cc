"""Dotted names in tables of kinds: what implements an entry, imported when it is first used.

Configs are checked without torch, so a table of this package names implementations instead of
importing them. The names are constants of confide's own code, never of a config or a plan: those
are :mod:`confide.config.custom`'s, which holds them against a list first.
"""

import importlib
from typing import Any


def implementation(path: str) -> Any:
    """Import what a table's entry names.

    Args:
        path: ``package.module.name``.

    >>> implementation("math.floor")(2.5)
    2
    """
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


__all__ = ["implementation"]
