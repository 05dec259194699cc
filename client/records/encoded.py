"""An institution's records, encoded for the model: one part for each split."""

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace

import torch
from datasets import Dataset
from torch import Tensor

from confide.client.records.groups import group_codes
from confide.client.records.split_layout import identify, laid_out
from confide.client.records.subgroups import codes_of
from confide.client.records.units import (
    Splits,
    column_of_names,
    orders,
    take,
)
from confide.config.data import DataConfig
from confide.errors import DataError, PrivacyError
from confide.metrics.subgroups.groups import Subgroups
from confide.models.workload import Workload
from confide.protocol.messages import OLD, SPLITS
from confide.storage.tensor_files import sha256
from confide.tasks.outcomes.outcome import Outcome
from confide.tasks.task import Examples


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
        confidence: probability that a model has to give a class, more than this, for a training
            record without a label to be trained on as one of it; None where all have labels.
        left_out: number of records that are in no split, since they have no label and their owner
            is held out.
        test_subgroups: group of each test record by column, int64 of shape [n, columns], where
            metrics are told by groups; None where they are not.
        apart: number of records that are in no split, since they are not there yet, or old and not
            for testing.
        old: test records that the model which the run starts from was tested on before; ``test`` is
            without them. None for none.
    """

    train: Examples
    validation: Examples
    test: Examples
    groups: Tensor | None = None
    held_out_groups: Mapping[str, Tensor] = field(default_factory=dict)
    group_column: str | None = None
    confidence: float | None = None
    left_out: int = 0
    test_subgroups: Tensor | None = None
    apart: int = 0
    old: Examples | None = None

    def split(self, name: str) -> Examples:
        """Return the records of a split."""
        if name == OLD and self.old is None:
            return self.test.select(torch.arange(0))
        examples: Examples = getattr(self, name)
        return examples

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of its splits."""
        return SPLITS if self.old is None else (*SPLITS, OLD)

    def to(self, device: torch.device) -> "InstitutionData":
        """Return the same records on a device."""
        train, validation, test = (self.split(name).to(device) for name in SPLITS)
        old = None if self.old is None else self.old.to(device)
        return replace(self, train=train, validation=validation, test=test, old=old)

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
        """SHA-256 of the training records as they are encoded, and as they are labelled."""
        # It would let anybody check a guess at the records: it leaves only in a keyed hash.
        more = {} if self.groups is None else {"groups": self.groups}
        if self.confidence is not None:  # a slash keeps this apart from every column's name
            more["/confidence"] = torch.tensor(self.confidence, dtype=torch.float64)
        return sha256({**self.train.columns, **more})

    def held_out_digest(self, split: str) -> str:
        """SHA-256 of the validation or test records as they are encoded."""
        examples, groups = self.split(split), self.held_out_groups.get(split)
        # A slash keeps these apart from every column's name
        more = {"/lengths": examples.lengths, "/groups": groups}
        if split == "test":
            more["/subgroups"] = self.test_subgroups
        return sha256(
            {**examples.columns, **{name: part for name, part in more.items() if part is not None}}
        )

    @property
    def num_records(self) -> int:
        """Number of records over all splits."""
        return sum(len(self.split(name)) for name in self.parts)

    def label_counts(self, outcome: Outcome) -> dict[str, int]:
        """Return label, or what else the outcome counts by -> number of records over all splits.

        Exact, and so only for the institution itself and for simulations.
        """
        counted: Counter[str] = Counter()
        for name in self.parts:  # labels of tokens are not as wide in each of them
            counted.update(outcome.counts(self.split(name).labels.cpu().numpy()))
        return dict(counted)


def encode_splits(
    name: str,
    splits: Splits,
    prepare: Callable[[Dataset], Examples],
    *,
    group_column: str | None = None,
    told_apart: Sequence[Subgroups] = (),
    old: Dataset | None = None,
) -> InstitutionData:
    """Encode an institution's splits.

    Args:
        name: name of the institution.
        splits: records of each split.
        prepare: function that encodes records.
        group_column: name of the column that identifies a record's owner; None if ungrouped.
        told_apart: groups by which metrics on test records are told.
        old: test records that an earlier run was tested on; None for none.

    Raises:
        DataError: if records do not fit the schema, or none is left to train on.
    """
    refuse_untrainable(name, splits)
    parts = dict(zip(SPLITS, splits, strict=True)) | ({} if old is None else {OLD: old})
    try:
        encoded = {split: prepare(records) for split, records in parts.items()}
        codes = torch.from_numpy(codes_of(splits.test, told_apart)) if told_apart else None
    except DataError as error:
        raise DataError([f"Institution {name}: {problem}" for problem in error.problems]) from None
    owners = {
        split: column_of_names(records, group_column)
        for split, records in parts.items()
        if group_column is not None
    }
    return replace(grouped(encoded, owners, group_column=group_column), test_subgroups=codes)


def refuse_untrainable(name: str, splits: Sequence[Sized]) -> None:
    """Check that an institution has something to train on; the first split is that of training.

    Raises:
        DataError: if not.
    """
    if not len(splits[0]):
        raise DataError(
            f"Institution {name} has {sum(map(len, splits))} records, none of them to train on; "
            "give it more, or lower data.validation and data.test."
        )


def grouped(
    encoded: Mapping[str, Examples],
    owners: Mapping[str, Sequence[str]],
    *,
    group_column: str | None,
) -> InstitutionData:
    """Put an institution's encoded splits together.

    Args:
        encoded: split -> its records.
        owners: split -> whose each of its records is; empty if ungrouped.
        group_column: name of the column that identifies a record's owner; None if ungrouped.
    """
    codes = {split: group_codes(names) for split, names in owners.items()}
    return InstitutionData(
        train=encoded["train"],
        validation=encoded["validation"],
        test=encoded["test"],
        groups=codes.pop("train", None),
        held_out_groups=codes,
        group_column=group_column,
        old=encoded.get(OLD),
    )


def encode_institution(
    name: str,
    records: Dataset,
    config: DataConfig,
    *,
    workload: Workload,
    key: bytes,
    told_apart: Sequence[Subgroups] = (),
) -> tuple[InstitutionData, list[str]]:
    """Split and encode one institution's records.

    Args:
        name: name of the institution.
        records: checked records, one a unit.
        config: settings of the id columns and the shares of the splits.
        workload: workload that encodes the records.
        key: secret of the institution, which decides each unit's split.
        told_apart: groups by which metrics on test records are told.

    Returns:
        The encoded records, and the ids of their units; of their owners if records are grouped.

    Raises:
        DataError: naming the institution and what does not fit.
    """
    known = identify(records, config, workload, told_apart)
    positions, units = laid_out(
        range(len(records)),
        known,
        lambda several: orders(take(records, several), known.columns),
        config=config,
        key=key,
    )
    splits = Splits(*(take(records, positions[split]) for split in Splits._fields))
    old = take(records, positions[OLD]) if OLD in positions else None
    data = encode_splits(
        name,
        splits,
        lambda part: workload.prepare(part).to(workload.compute.device),
        group_column=config.group_column,
        told_apart=told_apart,
        old=old,
    )
    left_out = len(records) - data.num_records
    if known.arrivals is not None:  # without labels or not: one reason each
        return replace(data, apart=left_out), units
    return replace(data, left_out=left_out), units


__all__ = [
    "InstitutionData",
    "encode_institution",
    "encode_splits",
    "grouped",
    "refuse_untrainable",
]
