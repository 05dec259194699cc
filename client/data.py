"""An institution's records: units, splits, encoded examples.

The unit is a record. Records with the same id, or, without ids, the same content, are one unit and count once. Splits are
drawn by a keyed hash of the unit's id: exporting the records anew, in another order or with others added, moves nobody
between train, validation and test, and nobody without the key can choose who is where.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from datasets import Dataset

from confide.errors import DataError
from confide.exchange import SPLITS
from confide.tasks.classification import require_columns
from confide.tasks.task import Examples

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SplitShares:
    """Shares of units for validation and test; the rest trains."""

    validation: float
    test: float


class Splits(NamedTuple):
    """Three parts of an institution's records, no unit in two of them."""

    train: Dataset
    validation: Dataset
    test: Dataset


def unit_ids(records: Dataset, *, id_column: str | None, content_columns: Sequence[str]) -> list[str]:
    """Name the unit of each record.

    Args:
        records: n records.
        id_column: where the unit's id stands; None where the content is the unit.
        content_columns: what makes a record what it is.

    Raises:
        DataError: if a column is missing or an id is null.
    """
    if id_column is not None:
        require_columns(records, [id_column])
        ids = records[id_column]
        nulls = sum(value is None or value == "" for value in ids)
        if nulls:
            raise DataError(
                f"Column {id_column}: {nulls} of {len(records)} ids are null; give each record one, or set data.id_column=null."
            )
        return [str(value) for value in ids]
    require_columns(records, content_columns)
    columns = [records[name] for name in content_columns]
    return [hashlib.sha256(repr(values).encode()).hexdigest() for values in zip(*columns, strict=True)]


def drop_repeated(records: Dataset, ids: Sequence[str]) -> tuple[Dataset, list[str]]:
    """Keep the first record of each unit."""
    first: dict[str, int] = {}
    for index, unit in enumerate(ids):
        first.setdefault(unit, index)
    if len(first) == len(ids):
        return records, list(ids)
    log.info("%d of %d records repeat another and count once.", len(ids) - len(first), len(ids))
    return records.select(list(first.values())), list(first)


def split_records(records: Dataset, ids: Sequence[str], *, key: bytes, shares: SplitShares) -> Splits:
    """Split by a keyed hash of each unit's id.

    Args:
        records: one record a unit.
        ids: their units.
        key: secret of the institution.
        shares: expected shares of validation and test.
    """
    parts: dict[str, list[int]] = {split: [] for split in SPLITS}
    for index, unit in enumerate(ids):
        digest = hashlib.blake2b(unit.encode(), key=key, digest_size=8, person=b"confide/split").digest()
        position = int.from_bytes(digest, "little") / 2**64
        split = "test" if position < shares.test else "validation" if position < shares.test + shares.validation else "train"
        parts[split].append(index)
    return Splits(*(records.select(parts[split]) for split in SPLITS))


@dataclass(frozen=True, kw_only=True)
class InstitutionData:
    """An institution's encoded records.

    Attributes:
        train: what is trained on; its size n is declared public.
        validation: scored every round.
        test: scored once, at the end.
    """

    train: Examples
    validation: Examples
    test: Examples

    def split(self, name: str) -> Examples:
        """Return one of the three."""
        examples: Examples = getattr(self, name)
        return examples

    def label_counts(self, labels: Sequence[str]) -> dict[str, int]:
        """Count labels over all splits; exact, for the institution's own eyes and for simulations."""
        counts: Counter[int] = Counter()
        for name in SPLITS:
            counts.update(self.split(name).labels.tolist())
        return {label: counts[i] for i, label in enumerate(labels)}


def encode_splits(name: str, splits: Splits, prepare: Callable[[Dataset], Examples]) -> InstitutionData:
    """Encode an institution's splits.

    Raises:
        DataError: if records do not fit the schema, or none is left to train on.
    """
    if not len(splits.train):
        total = sum(len(part) for part in splits)
        raise DataError(
            f"Institution {name} has {total} records, none of them to train on; "
            "give it more, or lower data.validation and data.test."
        )
    try:
        return InstitutionData(**{split: prepare(records) for split, records in zip(SPLITS, splits, strict=True)})
    except DataError as error:
        raise DataError(f"Institution {name}: {error}") from None


__all__ = ["InstitutionData", "SplitShares", "Splits", "drop_repeated", "encode_splits", "split_records", "unit_ids"]
