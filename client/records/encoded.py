"""An institution's encoded records, one part a split."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from datasets import Dataset
from torch import Tensor

from confide.client.records.groups import group_codes
from confide.client.records.units import (
    Splits,
    SplitShares,
    column_of_names,
    keep_units,
    split_records,
    unit_ids,
)
from confide.config.data import DataConfig
from confide.errors import DataError, PrivacyError
from confide.models.workload import Workload
from confide.protocol.messages import SPLITS
from confide.tasks.task import Examples


@dataclass(frozen=True, kw_only=True)
class InstitutionData:
    """An institution's encoded records.

    Attributes:
        train: what is trained on; its size n is declared public.
        validation: scored every round.
        test: scored once, at the end.
        groups: whose each training record is, 0 to G - 1, int64 of shape [n]; None where nobody
            asked.
        group_column: that says so.
    """

    train: Examples
    validation: Examples
    test: Examples
    groups: Tensor | None = None
    group_column: str | None = None

    def split(self, name: str) -> Examples:
        """Return one of the three."""
        examples: Examples = getattr(self, name)
        return examples

    def to(self, device: torch.device) -> "InstitutionData":
        """Move all three."""
        return InstitutionData(
            **{name: self.split(name).to(device) for name in SPLITS},
            groups=self.groups,
            group_column=self.group_column,
        )

    def num_units(self, unit: str) -> int:
        """Return n: training records, or groups of them.

        Raises:
            PrivacyError: if groups are asked for and nobody knows them.
        """
        if unit != "group":
            return len(self.train)
        if self.groups is None:
            raise PrivacyError(
                "privacy.unit=group needs data.group_column, the column that says whose a record"
                " is; set it."
            )
        return int(self.groups.max()) + 1

    def label_counts(self, labels: Sequence[str]) -> dict[str, int]:
        """Count labels over all splits; exact, for the institution's own eyes and for simulations."""
        counts: Counter[int] = Counter()
        for name in SPLITS:
            counts.update(self.split(name).labels.tolist())
        return {label: counts[i] for i, label in enumerate(labels)}


def encode_splits(
    name: str,
    splits: Splits,
    prepare: Callable[[Dataset], Examples],
    *,
    group_column: str | None = None,
) -> InstitutionData:
    """Encode an institution's splits.

    Args:
        name: of the institution.
        splits: its records.
        prepare: encodes them.
        group_column: says whose a record is; None where nobody asks.

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
        encoded = {split: prepare(records) for split, records in zip(SPLITS, splits, strict=True)}
    except DataError as error:
        raise DataError([f"Institution {name}: {problem}" for problem in error.problems]) from None
    groups = (
        group_codes([str(owner) for owner in splits.train[group_column][:]])
        if group_column
        else None
    )
    return InstitutionData(**encoded, groups=groups, group_column=group_column)


def encode_institution(
    name: str, records: Dataset, config: DataConfig, *, workload: Workload, key: bytes
) -> tuple[InstitutionData, list[str]]:
    """Split and encode one institution's records.

    Args:
        name: of the institution.
        records: checked, one a unit.
        config: its columns of ids, and the shares of the splits.
        workload: encodes them.
        key: secret of the institution, which deals units out to the splits.

    Returns:
        Its records, and the ids of their units: whose they are where a column says so.

    Raises:
        DataError: naming the institution and what does not fit.
    """
    content, owner = workload.task.content_columns(), config.group_column
    ids = unit_ids(records, id_column=config.id_column, content_columns=content, group_column=owner)
    units = keep_units(records, ids, columns=[*content, workload.task.label_column()])
    held_together = column_of_names(units.records, owner) if owner else units.ids
    shares = SplitShares(validation=config.validation, test=config.test)
    splits = split_records(units.records, held_together, key=key, shares=shares)
    data = encode_splits(
        name,
        splits,
        lambda part: workload.prepare(part).to(workload.compute.device),
        group_column=owner,
    )
    return data, sorted(set(held_together))


__all__ = ["InstitutionData", "encode_institution", "encode_splits"]
