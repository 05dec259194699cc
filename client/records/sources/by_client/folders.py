"""The table of layouts of folders whose files name institutions in a column."""

from collections.abc import Callable, Sequence
from pathlib import Path

from confide.client.records.sources.by_client.leaf import (
    SPLIT,
    USER,
    is_leaf_folder,
    is_split,
    open_leaf_folder,
)
from confide.client.records.sources.by_client.partitioned import is_partitioned, open_partitioned
from confide.client.records.sources.opened import Opened
from confide.client.records.sources.reading import Reading

OpenFn = Callable[[Path, Sequence[str], Reading], Opened]
"""Opens a folder as one source, with the columns to keep."""

LAYOUTS: tuple[tuple[Callable[[Path], bool], OpenFn], ...] = (
    (is_partitioned, open_partitioned),
    (is_leaf_folder, open_leaf_folder),
)
"""Whether a folder is of a layout, and what opens it; the first that fits."""


def layout_of(folder: Path) -> OpenFn | None:
    """Return what opens a folder as one source; None where it is of no such layout."""
    return next((opens for fits, opens in LAYOUTS if fits(folder)), None)


def institution_in(folder: Path) -> str | None:
    """Return the column that names institutions in a folder of such a layout; None for another."""
    if is_partitioned(folder):
        named = min(path.name for path in folder.iterdir() if "=" in path.name)
        return named.partition("=")[0]
    return USER if is_leaf_folder(folder) else None


def no_inputs(folder: Path) -> tuple[str, ...]:
    """Return columns that say where a record lay, and nothing of whom it is about."""
    return (SPLIT,) if is_split(folder) else ()


__all__ = ["LAYOUTS", "OpenFn", "institution_in", "layout_of", "no_inputs"]
