"""An institution's records, encoded for the model: one part for each split."""

import functools
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from datasets import Dataset
from torch import Tensor

from confide.client.records.groups import group_codes
from confide.client.records.units import (
    Splits,
    SplitShares,
    column_of_names,
    numbered_units,
    split_records,
    unit_ids,
)
from confide.config.data import DataConfig
from confide.errors import DataError, PrivacyError
from confide.models.workload import Workload
from confide.protocol.messages import SPLITS
from confide.storage.tensor_files import sha256
from confide.tasks.outcomes.outcome import Outcome
from confide.tasks.task import Examples, TableTask


@dataclass(frozen=True, kw_only=True)
class InstitutionData:
    """An institution's encoded records.

    Attributes:
        train: training records; their number n is declared public.
        validation: records scored every round.
        test: records scored once, at the end.
        groups: group of each training record, 0 to G - 1, int64 of shape [n]; None if ungrouped.
        held_out_groups: validation and test -> the same of that split's records; empty if
            ungrouped.
        group_column: name of the column that identifies a record's owner; None if ungrouped.
    """

    train: Examples
    validation: Examples
    test: Examples
    groups: Tensor | None = None
    held_out_groups: Mapping[str, Tensor] = field(default_factory=dict)
    group_column: str | None = None

    def split(self, name: str) -> Examples:
        """Return the records of a split."""
        examples: Examples = getattr(self, name)
        return examples

    def to(self, device: torch.device) -> "InstitutionData":
        """Return the same records on a device."""
        return InstitutionData(
            **{name: self.split(name).to(device) for name in SPLITS},
            groups=self.groups,
            held_out_groups=self.held_out_groups,
            group_column=self.group_column,
        )

    def num_units(self, unit: str) -> int:
        """Return n: training records, or groups of them.

        Raises:
            PrivacyError: if groups are asked for and the records are ungrouped.
        """
        if unit != "group":
            return len(self.train)
        if self.groups is None:
            raise PrivacyError(
                "privacy.unit=group needs data.group_column, the column that names a record's"
                " owner; set it."
            )
        return int(self.groups.max()) + 1

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the training records as they are encoded."""
        # It would let anybody check a guess at the records: it leaves only in a keyed hash.
        groups = {} if self.groups is None else {"groups": self.groups}
        return sha256({**self.train.columns, **groups})

    def held_out_digest(self, split: str) -> str:
        """SHA-256 of the validation or test records as they are encoded."""
        examples, groups = self.split(split), self.held_out_groups.get(split)
        # A slash keeps these apart from every column's name
        more = {"/lengths": examples.lengths, "/groups": groups}
        return sha256(
            {**examples.columns, **{name: part for name, part in more.items() if part is not None}}
        )

    @property
    def num_records(self) -> int:
        """Number of records over all splits."""
        return sum(len(self.split(name)) for name in SPLITS)

    def label_counts(self, outcome: Outcome) -> dict[str, int]:
        """Return label, or what else the outcome counts by -> number of records over all splits.

        Exact, and so only for the institution itself and for simulations.
        """
        counted: Counter[str] = Counter()
        for name in SPLITS:  # labels of tokens are not as wide in each of them
            counted.update(outcome.counts(self.split(name).labels.cpu().numpy()))
        return dict(counted)


def encode_splits(
    name: str,
    splits: Splits,
    prepare: Callable[[Dataset], Examples],
    *,
    group_column: str | None = None,
) -> InstitutionData:
    """Encode an institution's splits.

    Args:
        name: name of the institution.
        splits: records of each split.
        prepare: function that encodes records.
        group_column: name of the column that identifies a record's owner; None if ungrouped.

    Raises:
        DataError: if records do not fit the schema, or none is left to train on.
    """
    if not len(splits.train):
        raise DataError(
            f"Institution {name} has {sum(map(len, splits))} records, none of them to train on; "
            "give it more, or lower data.validation and data.test."
        )
    try:
        encoded = {split: prepare(records) for split, records in zip(SPLITS, splits, strict=True)}
    except DataError as error:
        raise DataError([f"Institution {name}: {problem}" for problem in error.problems]) from None
    codes = {
        split: group_codes(column_of_names(records, group_column))
        for split, records in zip(SPLITS, splits, strict=True)
        if group_column is not None
    }
    return InstitutionData(
        **encoded,
        groups=codes.pop("train", None),
        held_out_groups=codes,
        group_column=group_column,
    )


def encode_institution(
    name: str, records: Dataset, config: DataConfig, *, workload: Workload, key: bytes
) -> tuple[InstitutionData, list[str]]:
    """Split and encode one institution's records.

    Args:
        name: name of the institution.
        records: checked records, one a unit.
        config: settings of the id columns and the shares of the splits.
        workload: workload that encodes the records.
        key: secret of the institution, which decides each unit's split.

    Returns:
        The encoded records, and the ids of their units; of their owners if records are grouped.

    Raises:
        DataError: naming the institution and what does not fit.
    """
    content, owner = workload.task.content_columns(), config.group_column
    ids = unit_ids(records, id_column=config.id_column, content_columns=content, group_column=owner)
    # Of what was checked only rows of a table repeat, each of which is a unit of its own
    shown = list(dict.fromkeys([*content, *workload.target_columns]))
    records, ids = numbered_units(records, ids, columns=shown)
    # All records of an owner are in one split: otherwise test scores would reward a model for
    # having seen the same patient in training
    held_together = split_by = column_of_names(records, owner) if owner else ids
    if config.id_column is None and owner is None and isinstance(workload.task, TableTask):
        # Rows that differ by their label alone have numbers in common: one more of them would move
        # a row of each other label to another split
        alike = unit_ids(records, id_column=None, content_columns=shown)
        records, split_by = numbered_units(records, alike, columns=shown)
    shares = SplitShares(validation=config.validation, test=config.test)
    splits = split_records(records, split_by, key=key, shares=shares)
    data = encode_splits(
        name,
        splits,
        lambda part: workload.prepare(part).to(workload.compute.device),
        group_column=owner,
    )
    return data, sorted(set(held_together))


__all__ = ["InstitutionData", "encode_institution", "encode_splits"]
