"""Records of many institutions, read and encoded together, and cut apart by their positions.

In a simulation one process holds everybody's records, and reading twenty rows costs nearly what
reading a thousand does. Encoding is a function of a record and of what is public, never of the
records beside it, so that what is cut out of a pool is bit for bit what an institution gets by
encoding its own: tensors, units, splits. Where that does not hold, or nobody knows, a pool is
refused (:func:`is_poolable`), and what is wrong with records is told by institution: whoever makes
a pool encodes one by one where it raises.
"""

import functools
from collections.abc import Sequence
from dataclasses import replace

import torch
from datasets import Dataset

from confide.client.records.encoded import (
    InstitutionData,
    grouped,
    refuse_untrainable,
)
from confide.client.records.split_layout import identify, laid_out
from confide.client.records.subgroups import codes_of
from confide.client.records.units import orders, take
from confide.config.data import DataConfig
from confide.config.tasks.task import TaskConfig
from confide.errors import DataError
from confide.models.workload import Workload
from confide.protocol.messages import SPLITS
from confide.tasks.outcomes.build import outcome_of
from confide.tasks.schema import read_targets
from confide.tasks.task import Examples


def is_poolable(task: TaskConfig, workload: Workload) -> bool:
    """Say whether records of several institutions may be encoded together.

    Not those of a custom task, which may read what it likes of the records beside one; not files,
    which are opened one by one anyway and are large; and not features of a frozen backbone, which
    a cache knows by the whole set of records that they were computed of.

    Args:
        task: schema of the records.
        workload: encodes them.
    """
    # Records without labels are read by what their institution's others have.
    is_own = workload.custom_task is None and task.files is None and not workload.self_trains
    return is_own and workload.prepare == workload.task.encode


class RecordPool:
    """Records of several institutions, encoded together.

    Args:
        records: checked records.
        config: settings of the id columns and the shares of the splits.
        task: schema of the records, as they are encoded.
        workload: encodes them; a poolable one.

    Raises:
        DataError: if anybody's do not fit; the text knows no institution.
    """

    def __init__(
        self, records: Dataset, config: DataConfig, *, task: TaskConfig, workload: Workload
    ) -> None:
        self._records, self._config = records, config
        self._known = identify(records, config, workload, task.told_apart)
        told = task.told_apart
        self._codes = torch.from_numpy(codes_of(records, told)) if told else None
        device = workload.compute.device
        self._examples = workload.prepare(records).to(device)
        self._nothing = workload.prepare(take(records, [])).to(device)
        self._outcome = outcome_of(task)
        # Odd targets that are a remark about all records may be a mistake in somebody's: all of
        # them outside a range is another unit.
        notes = read_targets(records, task).notes
        self._odd = {name: records[name][:] for name in task.target_columns} if notes else {}

    @functools.cached_property
    def _orders(self) -> Sequence[str]:
        return orders(self._records, self._known.columns)

    def cut(
        self, name: str, rows: Sequence[int], *, key: bytes
    ) -> tuple[InstitutionData, list[str]]:
        """Return an institution's encoded records, and the ids of its units or of their owners.

        Args:
            name: name of the institution.
            rows: positions of its records in the pool.
            key: secret of the institution, which decides each unit's split.

        Raises:
            DataError: naming the institution, if none of its records is left to train on; naming
                nobody, if its targets do not fit.
        """
        parts, units = laid_out(
            rows,
            self._known,
            lambda several: [self._orders[row] for row in several],
            config=self._config,
            key=key,
        )
        refuse_untrainable(name, [parts[split] for split in SPLITS])
        encoded = {split: self._taken(part) for split, part in parts.items()}
        names, owners = self._known.owners, {}
        if names is not None:
            owners = {split: [names[row] for row in part] for split, part in parts.items()}
        data = grouped(encoded, owners, group_column=self._config.group_column)
        if self._codes is not None:
            data = replace(data, test_subgroups=self._codes[parts["test"]])
        return replace(data, apart=len(rows) - data.num_records), units

    def _taken(self, rows: Sequence[int]) -> Examples:
        """Return encoded records of a split, as wide as they alone would be."""
        if not rows:
            return self._nothing
        if self._odd:
            found = self._outcome.read(
                {name: [column[row] for row in rows] for name, column in self._odd.items()}
            )
            if found.problems:
                raise DataError([problem.text for problem in found.problems])
        indices, pool = torch.tensor(rows), self._examples
        lengths = None if pool.lengths is None else pool.lengths[indices]
        return Examples(pool.take(indices), lengths, pool.ragged)


__all__ = ["RecordPool", "is_poolable"]
