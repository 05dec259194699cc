"""A source that was opened: what every reader of a format gives."""

from collections.abc import Iterator, MutableSequence, Sequence
from dataclasses import dataclass, field

import pyarrow

BATCH = 10_000
"""Records read at a time."""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A source that was opened.

    Attributes:
        columns: names of all its columns.
        batches: batches of text with those of the wanted columns that it has; of values as they
            are, if the source is read whole.
        is_json: whether the batches hold values as JSON; only of a source that is read whole.
        lines: line of each record that was read so far, from 1; None where there are no lines.
        places: name of each record's file, where records are files; None where they are not.
        notes: sentences on what was read so far, which its owner should read.
    """

    columns: tuple[str, ...]
    batches: Iterator[pyarrow.Table]
    is_json: bool = False
    lines: MutableSequence[int] | None = None
    places: Sequence[str] | None = None
    notes: list[str] = field(default_factory=list)


__all__ = ["BATCH", "Opened"]
