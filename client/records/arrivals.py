"""Which records are there, and which of them an earlier run was trained on.

A record arrives at a place: the value of a column, such as the date of a visit, or, to try this out
on records without one, a number in [0, 1) by a keyed hash of its unit. Records from ``data.until``
on are not there yet. Those before ``data.old_before`` are old: none of them is trained on again,
and those in the test split are scored by themselves.
"""

import hashlib
from collections.abc import Sequence

from datasets import Dataset

from confide.client.records.units import column_of_names
from confide.config.data import DataConfig
from confide.errors import DataError


class Arrivals:
    """Tells of records when they arrived.

    Args:
        config: bounds.
        values: of the column, one a record; None where units' hashes decide.

    Raises:
        DataError: if a bound is a number and a value is none.
    """

    def __init__(self, config: DataConfig, values: Sequence[str] | None) -> None:
        self._config, self._values = config, values
        bounds = [bound for bound in (config.until, config.old_before) if bound is not None]
        self._numeric = values is None or all(_number(bound) is not None for bound in bounds)
        if self._numeric and values is not None and bounds:
            wrong = [value for value in values if _number(value) is None]
            if wrong:
                raise DataError(
                    f"Column {config.arrival_column}: {len(wrong)} of {len(values)} values are no"
                    f" numbers, which data.until={config.until} and data.old_before="
                    f"{config.old_before} are compared with; write all alike, such as 2026-06-30."
                )

    def is_there(self, row: int, unit: str, *, key: bytes) -> bool:
        """Say whether a record is there by now.

        Args:
            row: its position.
            unit: its unit's id, or its owner's.
            key: secret of the institution.
        """
        return self._config.until is None or self._is_before(row, unit, self._config.until, key)

    def is_old(self, row: int, unit: str, *, key: bytes) -> bool:
        """Say whether an earlier run was trained on a record's split of that time."""
        bound = self._config.old_before
        return bound is not None and self._is_before(row, unit, bound, key)

    def _is_before(self, row: int, unit: str, bound: str, key: bytes) -> bool:
        if self._values is None:
            return _place(unit, key) < float(bound)
        value = self._values[row]
        return float(value) < float(bound) if self._numeric else value < bound


def arrivals_of(records: Dataset, config: DataConfig) -> Arrivals | None:
    """Return what tells when records arrived; None where all are there and new.

    Raises:
        DataError: if the column is missing, or a value of it is null or no number.
    """
    if config.until is None and config.old_before is None:
        return None
    column = config.arrival_column
    return Arrivals(config, None if column is None else column_of_names(records, column))


def _place(unit: str, key: bytes) -> float:
    """Return a number in [0, 1) that a unit has for ever, independent of its split."""
    digest = hashlib.blake2b(
        unit.encode(), key=key, digest_size=8, person=b"confide/arrive"
    ).digest()
    return int.from_bytes(digest, "little") / 2**64


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


__all__ = ["Arrivals", "arrivals_of"]
