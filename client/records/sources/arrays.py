"""Records that are pictures in arrays, of a .npz as MedMNIST writes it."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy
import pyarrow

from confide.client.records.sources.opened import BATCH, Opened
from confide.config.tasks.media.pictures import PictureReading
from confide.errors import DataError
from confide.held import ARRAY, array_place, opener_of

SPLIT = "split"
"""Further column: the name of the array."""


def open_arrays(path: Path, columns: Sequence[str], reading: PictureReading) -> Opened:
    """Open a .npz as MedMNIST writes it: NAME_images [n, h, w, ...] and NAME_labels [n, ...].

    Raises:
        DataError: if it has no such arrays, or as many labels as pictures nowhere.
    """
    with _arrays(path) as arrays:
        pairs = _pairs(path, list(arrays.files))
        labels = {name: _listed_array(arrays, of, path) for name, of in pairs.items() if of}
    shapes = {one.shape[1] for one in labels.values()}
    label = reading.label_column or "label"
    wide = max(shapes, default=0)
    named = [label] if wide == 1 else [f"{label}_{i}" for i in range(wide)]
    names = (reading.column, *named, SPLIT)
    kept = [name for name in names if name in columns]
    return Opened(columns=names, batches=_array_batches(path, pairs, labels, named, kept, reading))


@contextlib.contextmanager
def _arrays(path: Path) -> Iterator[numpy.lib.npyio.NpzFile]:
    """Open a .npz.

    Raises:
        DataError: if it, or what is read of it, is damaged or larger than memory.
    """
    try:
        # Of a damaged one numpy would leave its own file open
        with path.open("rb") as file, numpy.load(file, allow_pickle=False) as arrays:
            yield arrays
    except DataError:
        raise
    except Exception as error:  # of zip, zlib and numpy, on bytes that may be anything
        why = str(error).strip().rstrip(".") or type(error).__name__
        raise DataError(f"data.path={path}: cannot be read as .npz: {why}.") from None


def _listed_array(arrays: numpy.lib.npyio.NpzFile, name: str, path: Path) -> numpy.ndarray:
    """Return an array as one row a record, [n, m]."""
    array: numpy.ndarray = arrays[name]
    if not array.ndim or not array.size:
        raise DataError(
            f"data.path={path}: {name} has shape {list(array.shape)}; expected one entry a record."
        )
    return array.reshape(len(array), -1)


def _pairs(path: Path, names: Sequence[str]) -> Mapping[str, str | None]:
    """Return array of pictures -> that of their labels."""
    pictures = [name for name in names if name.endswith("images")]
    if not pictures:
        raise DataError(
            f"data.path={path}: has arrays {', '.join(names)}; expected pictures as NAME_images and"
            " labels as NAME_labels."
        )
    labels = {name: f"{name.removesuffix('images')}labels" for name in pictures}
    return {name: of if of in names else None for name, of in labels.items()}


def _array_batches(
    path: Path,
    pairs: Mapping[str, str | None],
    labels: Mapping[str, numpy.ndarray],
    named: Sequence[str],
    kept: Sequence[str],
    reading: PictureReading,
) -> Iterator[pyarrow.Table]:
    opened, place = opener_of(reading), str(path.resolve())
    for name in pairs:
        with _arrays(path) as arrays:
            count = len(_listed_array(arrays, name, path))
        rows = labels.get(name)
        if rows is not None and len(rows) != count:
            raise DataError(f"data.path={path}: {name} has {count} pictures, {len(rows)} labels.")
        for start in range(0, count, BATCH):
            numbers = range(start, min(start + BATCH, count))
            made: dict[str, list[str | None]] = {SPLIT: [name.removesuffix("_images")] * BATCH}
            for i, column in enumerate(named):
                made[column] = [None if rows is None else _text(rows[n][i]) for n in numbers]
            if reading.column in kept:
                made[reading.column] = [
                    opened.look(ARRAY, array_place((place, name, n))).text for n in numbers
                ]
            yield pyarrow.table(
                {one: pyarrow.array(made[one][: len(numbers)], pyarrow.string()) for one in kept}
            )


def _text(label: numpy.generic) -> str | None:
    """Write a label; None for NaN, with which numbers say that there is none."""
    return str(label) if label == label else None


__all__ = ["SPLIT", "open_arrays"]
