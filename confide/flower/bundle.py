"""The app bundle that Flower requires with every run: a static one without Python code.

Flower would unpack a bundle on every node and put its folder before the installed packages, so that
a coordinator could run its own code there. confide's executor never unpacks one
(:mod:`confide.flower.executor`), and the bundle that confide's coordinator sends holds no code.
"""

import functools
from importlib import resources

from flwr.cli.build import build_fab_from_files

_FILE = "pyproject.toml"


@functools.cache
def bundle() -> bytes:
    """Return the bundle; it has the same bytes each time."""
    content = resources.files("confide.flower").joinpath("app", _FILE).read_bytes()
    return build_fab_from_files({_FILE: content})[0]


__all__ = ["bundle"]
