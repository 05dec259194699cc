"""LEAF's JSON: users, how many samples each has, and the samples.

Caldas et al., LEAF: A Benchmark for Federated Settings, 2018 (arXiv 1812.01097). A file is
``{"users": [...], "num_samples": [...], "user_data": {USER: {"x": [...], "y": [...]}}}``; a folder
holds several of them, or ``train`` and ``test`` with several each. Every sample becomes a record:
``user``; ``x0``, ``x1``, ... where x is a list, of numbers or texts, and ``x`` where it is one;
``y`` likewise; and ``split`` where the folder has two.
"""

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow

from confide.client.records.sources.json_lines import decoded, json_table, table_of
from confide.client.records.sources.opened import BATCH, Opened
from confide.client.records.sources.reading import Reading
from confide.client.records.sources.text_files import text_lines
from confide.errors import DataError

USER, SPLIT = "user", "split"
SPLITS = ("train", "test")
"""Names of the folders of LEAF's own split."""
_SUFFIX = ".json"
_EXPECTED = (
    'expected LEAF\'s {"users": [...], "num_samples": [...],'
    ' "user_data": {USER: {"x": [...], "y": [...]}}}'
)
_HEAD = 4096  # bytes in which a file says that it is one
_BEGINS = re.compile(rb'\s*\{\s*"(users|num_samples|user_data|hierarchies)"\s*:\s*[\[{]')
_JOINED = (
    "LEAF's folders train and test are read as one, with a column split: data.validation and"
    " data.test split each institution's records anew."
)


def is_leaf_file(path: Path) -> bool:
    """Say whether a .json file begins as LEAF's do."""
    with path.open("rb") as file:
        return _BEGINS.match(file.read(_HEAD).removeprefix(b"\xef\xbb\xbf")) is not None


def is_leaf_folder(folder: Path) -> bool:
    """Say whether a folder holds LEAF's files, or ``train`` and ``test`` with some."""
    shown = _shown(folder)
    if shown and all(path.name in SPLITS and path.is_dir() for path in shown):
        shown = [file for path in shown for file in _shown(path)]
    first = next((path for path in shown if path.suffix.lower() == _SUFFIX), None)
    return first is not None and first.is_file() and is_leaf_file(first)


def is_split(folder: Path) -> bool:
    """Say whether LEAF's files lie in folders of its own split, which become a column."""
    return is_leaf_folder(folder) and any(path.is_dir() for path in _shown(folder))


def open_leaf(path: Path, columns: Sequence[str], reading: Reading) -> Opened:
    """Open one of LEAF's files.

    Raises:
        DataError: if it is malformed: of which user, what, and how to mend it.
    """
    return _opened([(path, None)], columns, reading)


def open_leaf_folder(folder: Path, columns: Sequence[str], reading: Reading) -> Opened:
    """Open a folder of LEAF's files.

    Raises:
        DataError: if there are files of another kind, a file is malformed, or a user is in two.
    """
    shown = _shown(folder)
    splits = [path.name for path in shown if path.is_dir()]
    places: list[tuple[Path, str | None]] = (
        [(file, path.name) for path in shown for file in _shown(path)]
        if splits
        else [(file, None) for file in shown]
    )
    others = [path for path, _ in places if path.suffix.lower() != _SUFFIX or not path.is_file()]
    if others:
        raise DataError(
            f"data.path={folder}: expected LEAF's {_SUFFIX} files alone; move"
            f" {others[0].relative_to(folder)} elsewhere."
        )
    return _opened(places, columns, reading)


def _opened(
    places: Sequence[tuple[Path, str | None]], columns: Sequence[str], reading: Reading
) -> Opened:
    path, split = places[0]
    notes = [_JOINED] if split is not None else []
    # What a first sample has decides the columns; each other one is held against it
    shape = next((_shape(sample) for _, sample in _samples(path, reading, [])), None)
    if shape is None:
        raise DataError(f"data.path={path}: no user has a sample; {_EXPECTED}.")
    names = (USER, *shape, *([SPLIT] if split is not None else []))
    kept = [name for name in names if name in columns]
    return Opened(
        columns=names,
        batches=_batches(places, kept, reading, notes, shape),
        is_json=reading.whole,
        notes=notes,
    )


def _batches(
    places: Sequence[tuple[Path, str | None]],
    kept: Sequence[str],
    reading: Reading,
    notes: list[str],
    shape: tuple[str, ...],
) -> Iterator[pyarrow.Table]:
    seen: dict[tuple[str, str | None], Path] = {}
    table = json_table if reading.whole else table_of
    for path, split in places:
        for user, samples in itertools.groupby(_samples(path, reading, notes), _user):
            before = seen.setdefault((user, split), path)
            if before != path:
                raise DataError(
                    f"data.path={path}: user {user} is in {before.name} as well; leave one of them"
                    " out, or call them differently."
                )
            rows = (_row(path, user, sample, shape) for _, sample in samples)
            while batch := list(itertools.islice(rows, BATCH)):
                cells = [
                    [row.get(name, user if name == USER else split) for row in batch]
                    for name in kept
                ]
                yield table(cells, kept)


def _user(named: tuple[str, tuple[Any, Any]]) -> str:
    return named[0]


def _samples(
    path: Path, reading: Reading, notes: list[str]
) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Yield each user's samples, checked for what a file says of itself."""
    text = "".join(text_lines(path, reading, notes))
    whole = decoded(path, text, reading, expected=_EXPECTED)
    users, counts = _list(path, whole, "users"), _list(path, whole, "num_samples")
    data = whole.get("user_data")
    if not isinstance(data, dict):
        raise DataError(f"data.path={path}: user_data is no object; {_EXPECTED}.")
    named = Counter(map(str, users))
    twice = [user for user, count in named.items() if count > 1]
    if twice:
        raise DataError(f"data.path={path}: users names {twice[0]} twice; leave one of them out.")
    for user in sorted(named.keys() ^ data.keys()):
        has, lacks = ("user_data", "users") if user in data else ("users", "user_data")
        raise DataError(
            f"data.path={path}: user {user} is in {has} and not in {lacks}; add it there, or leave"
            " it out of both."
        )
    if len(counts) != len(users):
        raise DataError(
            f"data.path={path}: num_samples has {len(counts)} entries for {len(users)} users;"
            " write one for each."
        )
    for user, count in zip(named, counts, strict=True):
        yield from ((user, sample) for sample in _of_user(path, user, count, data[user]))


def _of_user(path: Path, user: str, count: Any, data: Any) -> Iterator[tuple[Any, Any]]:
    where = f"data.path={path}: user {user}"
    if not isinstance(data, dict) or not all(isinstance(data.get(key), list) for key in "xy"):
        raise DataError(f"{where}: expected lists x and y; {_EXPECTED}.")
    x, y = data["x"], data["y"]
    if len(x) != len(y):
        raise DataError(f"{where}: {len(x)} samples x, and {len(y)} y; write as many of both.")
    if str(count) != str(len(x)):
        raise DataError(
            f"{where}: num_samples says {count}, and there are {len(x)}; correct it, or bring the"
            " samples that are missing."
        )
    return zip(x, y, strict=True)


def _shape(sample: tuple[Any, Any]) -> tuple[str, ...]:
    """Name the columns of a sample."""
    return tuple(
        name
        for key, value in zip("xy", sample, strict=True)
        for name in ([f"{key}{i}" for i in range(len(value))] if isinstance(value, list) else [key])
    )


def _row(
    path: Path, user: str, sample: tuple[Any, Any], shape: tuple[str, ...]
) -> Mapping[str, Any]:
    where = f"data.path={path}: user {user}"
    if _shape(sample) != shape:
        lengths = [len(one) if isinstance(one, list) else "one value" for one in sample]
        raise DataError(
            f"{where}: a sample has x of {lengths[0]} and y of {lengths[1]}, and the first sample"
            f" of all has columns {shape[0]} to {shape[-1]}; write all of one length."
        )
    values = [one for part in sample for one in (part if isinstance(part, list) else [part])]
    for name, value in zip(shape, values, strict=True):
        if isinstance(value, list | dict):
            raise DataError(
                f"{where}: {name} is a {type(value).__name__} inside a list; write each sample as a"
                " number, a text, or a flat list of these."
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise DataError(
                f"{where}: {name} is {value}, which JSON has no word for; write a number, or null"
                " where it is missing."
            )
    return dict(zip(shape, values, strict=True))


def _list(path: Path, whole: Mapping[str, Any], key: str) -> list[Any]:
    found = whole.get(key)
    if not isinstance(found, list):
        raise DataError(f"data.path={path}: {key} is no list; {_EXPECTED}.")
    return found


def _shown(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


__all__ = [
    "SPLIT",
    "SPLITS",
    "USER",
    "is_leaf_file",
    "is_leaf_folder",
    "open_leaf",
    "open_leaf_folder",
]
