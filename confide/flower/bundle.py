"""The bundle that Flower wants with every run: static, package data, without a line of Python.

Flower would unpack a bundle on every node and put its folder before the installed packages, so that
a coordinator could run code of its own there. confide's executor never unpacks one
(:mod:`confide.flower.executor`), and the bundle that confide's coordinator sends holds none.
"""

import functools
from importlib import resources

from flwr.cli.build import build_fab_from_files

_FILE = "pyproject.toml"


@functools.cache
def bundle() -> bytes:
    """Return the bundle, the same bytes each time."""
    content = resources.files("confide.flower").joinpath("app", _FILE).read_bytes()
    return build_fab_from_files({_FILE: content})[0]


__all__ = ["bundle"]
