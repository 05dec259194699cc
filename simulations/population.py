"""The records of a simulation, partitioned among named institutions."""

import inspect
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy
from datasets import Dataset

from confide.client.records.checked import (
    by_file,
    institutions_of,
    load_checked_records,
    partition_column,
)
from confide.client.records.sources.sources import FILE_COLUMN
from confide.client.records.tally import Tally
from confide.client.records.units import take
from confide.config.custom import implementation
from confide.config.data import DataConfig
from confide.config.outcomes.outcome import DEFAULT_OUTCOME
from confide.config.spelling import canonical_name
from confide.config.tasks.task import TaskConfig
from confide.errors import ConfigError, DataError
from confide.privacy.randomness import seed_from
from confide.protocol.masked_sums import EVERYBODY
from confide.simulations.generators.source import read_generated
from confide.simulations.partitioners import PARTITIONERS, NaturalPartitioner
from confide.tasks.outcomes.build import outcome_of
from confide.tasks.reading import parse_number
from confide.tasks.schema import read_targets

if TYPE_CHECKING:
    from flwr_datasets.partitioner import Partitioner

_OWN_SETTINGS = {"num_partitions": "data.num_clients", "seed": "data.partition_seed"}
_INDEX, _BY = "index", "by"
# Exceptions by which flwr_datasets' partitioners refuse records or arguments
_REFUSALS = (ArithmeticError, AssertionError, LookupError, TypeError, ValueError)


@dataclass(frozen=True, kw_only=True)
class PartitionedRecords:
    """Records, partitioned among institutions.

    Attributes:
        records: of all institutions.
        indices: institution -> positions of its records, in the order of institutions' names or
            numbers.
        tally: how many records were read, and why some are in no part.
        notes: further sentences that whoever looks at the run should read.
    """

    records: Dataset
    indices: Mapping[str, Sequence[int]]
    tally: Tally
    notes: Sequence[str] = ()

    @property
    def parts(self) -> Mapping[str, Dataset]:
        """Institution -> its records, made when they are asked for."""
        return _Parts(self.records, self.indices)


class _Parts(Mapping[str, Dataset]):
    """Records by institution: of many only some are looked at by themselves."""

    def __init__(self, records: Dataset, indices: Mapping[str, Sequence[int]]) -> None:
        self._records, self._indices = records, indices

    def __getitem__(self, name: str) -> Dataset:
        return take(self._records, self._indices[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._indices)

    def __len__(self) -> int:
        return len(self._indices)


def partition_records(config: DataConfig, *, task: TaskConfig, secret: bytes) -> PartitionedRecords:
    """Load records, check them, keep one a unit, and partition them.

    Args:
        config: settings of the records and of the partitioning.
        task: task that the records must fit.
        secret: secret of the simulation, which decides if ``partition_seed`` is null.

    Raises:
        DataError: if the records do not fit the task, or do not suit the partitioner.
        ConfigError: if the partitioner's arguments are wrong, or there are not ``num_clients``
            institutions.
    """
    seed = config.partition_seed
    if seed is None:
        seed = seed_from(secret, "partition") % 2**32  # numpy takes no larger one
    # Before the records are read, which may take minutes: wrong arguments are reported at once
    partitioner = _partitioner(config, seed)
    read_fn = read_generated if config.generator is not None else None
    checked = load_checked_records(config, task, read_fn=read_fn)
    records, tally = checked.records, checked.tally
    # Records are sorted by unit; some partitioners cut that order into pieces
    if config.partitioner != "natural" or config.max_records is not None:
        records = records.shuffle(seed=seed, keep_in_memory=True)
    if config.max_records is not None and len(records) > config.max_records:
        tally = tally.without("max_records", len(records) - config.max_records)
        records = records.select(range(config.max_records))
    if (config.expected_clients or 1) > len(records):
        raise DataError(
            f"data.num_clients={config.expected_clients} exceeds the {len(records)} records of"
            f" {config.source}; lower it."
        )
    indices, remarks = _partition(config, partitioner, _view(config, task, records))
    if len(indices) != (config.num_clients or len(indices)):
        raise ConfigError(_wrong_count(config, list(indices)))
    tally = tally.without("partitioner", len(records) - sum(map(len, indices.values())))
    return PartitionedRecords(
        records=records,
        indices=indices,
        tally=tally,
        notes=(*checked.notes, *remarks),
    )


def _partitioner(config: DataConfig, seed: int) -> "Partitioner":
    """Return the partitioner; the column that it partitions by is always called ``by``."""
    made = implementation(PARTITIONERS[config.partitioner])
    given = config.partitioner_args
    parameters = {
        name: p for name, p in inspect.signature(made.__init__).parameters.items() if name != "self"
    }
    problems = list(_argument_problems(config, parameters))
    if problems:
        raise ConfigError(problems)
    ours = {"num_partitions": config.expected_clients, "alpha": config.alpha, "seed": seed}
    arguments = {
        name: value
        for name, value in {**ours, **given, "partition_by": _BY}.items()
        if name in parameters
    }
    if "distribution_array" in arguments:  # a config holds lists, and this has to be an array
        arguments["distribution_array"] = numpy.array(arguments["distribution_array"])
    try:
        return made(**arguments)
    except _REFUSALS as error:
        raise ConfigError(
            f"data.partitioner={config.partitioner}, data.partitioner_args={given}: {error}"
        ) from None


def _argument_problems(
    config: DataConfig, parameters: Mapping[str, inspect.Parameter]
) -> list[str]:
    key, given = f"data.partitioner={config.partitioner}", config.partitioner_args
    free = [name for name in parameters if name not in _OWN_SETTINGS]
    own = sorted(set(given) & set(_OWN_SETTINGS))
    problems = [
        f"data.partitioner_args.{name}: has a setting of its own; set {_OWN_SETTINGS[name]}"
        " instead."
        for name in own
    ]
    unknown = sorted(set(given) - set(free) - set(own))
    if unknown:
        known = f"it knows {', '.join(free)}" if free else "it takes none"
        problems.append(
            f"data.partitioner_args names {', '.join(unknown)}, which {key} does not take; {known}."
            " data.partitioner_args={} empties it."
        )
    # alpha has a default of its own in the config, and partition_by is always ours
    others = [name for name in free if name not in given and name not in ("alpha", "partition_by")]
    missing = [name for name in others if parameters[name].default is inspect.Parameter.empty]
    if missing:
        example = ", ".join(f"{name}: ..." for name in missing)
        problems.append(
            f"{key} needs {', '.join(missing)}; set data.partitioner_args='{{{example}}}'."
        )
    return problems


def _view(config: DataConfig, task: TaskConfig, records: Dataset) -> Dataset:
    """Return what a partitioner sees: each record's position, and the value to partition by."""
    column = FILE_COLUMN if by_file(config) else partition_column(config)
    if column is None:
        values = _strata(task, records)
    else:
        values = [str(value) for value in records[column][:]]
        if not by_file(config):  # files are called what they are called; 1.0 in one is 1 in another
            values = list(map(canonical_name, values))
            if config.partition_values and config.partitioner == "natural":
                values = institutions_of(values, config)
    by: list[str] | list[int] | list[float] = values
    if config.partitioner == "inner_dirichlet":  # needs classes numbered from 0
        number = {value: i for i, value in enumerate(sorted(set(values)))}
        by = [number[value] for value in values]
    elif config.partitioner == "continuous":
        by = [parse_number(value) for value in values]
        wrong = sum(number != number for number in by)  # nan: read from no number
        if wrong:
            raise DataError(
                f"Column {column}: {wrong} of {len(by)} values are not numbers, which"
                " data.partitioner=continuous sorts by; choose another data.partition_by."
            )
    return Dataset.from_dict({_INDEX: list(range(len(values))), _BY: by})


def _strata(task: TaskConfig, records: Dataset) -> list[str]:
    """Name what made-up institutions differ by where no column is named."""
    if task.outcome.kind == DEFAULT_OUTCOME:  # raw labels, of which a class may have several
        return [canonical_name(str(label or "")) for label in records[task.label_column][:]]
    return outcome_of(task).strata(read_targets(records, task).values)


def _partition(
    config: DataConfig, partitioner: "Partitioner", view: Dataset
) -> tuple[dict[str, list[int]], list[str]]:
    """Return the positions of each institution's records, and the partitioner's warnings."""
    partitioner.dataset = view
    try:
        with warnings.catch_warnings(record=True) as caught:
            # Python tells a warning once a process, which may hold many runs
            warnings.simplefilter("always")
            count = partitioner.num_partitions
            indices = {
                _name(config, partitioner, i): partitioner.load_partition(i)[_INDEX][:]
                for i in range(count)
            }
    except _REFUSALS as error:
        raise DataError(
            f"data.partitioner={config.partitioner}: {error} "
            "Change data.num_clients, data.partitioner_args or data.partitioner."
        ) from None
    if EVERYBODY in indices:
        raise DataError(
            f"data.partition_by={config.partition_by}: no institution may be called {EVERYBODY!r},"
            " which stands for all of them together; rename it by data.partition_values."
        )
    remarks = [f"data.partitioner={config.partitioner}: {warning.message}" for warning in caught]
    return (dict(sorted(indices.items())) if config.partitioner == "natural" else indices), list(
        dict.fromkeys(remarks)
    )


def _name(config: DataConfig, partitioner: "Partitioner", index: int) -> str:
    if isinstance(partitioner, NaturalPartitioner):
        return str(partitioner.partition_id_to_natural_id[index])
    return f"{config.institution}-{index + 1}"


def _wrong_count(config: DataConfig, names: list[str]) -> str:
    return (
        f"data.num_clients={config.num_clients}, but data.partitioner={config.partitioner} makes"
        f" {len(names)}: {', '.join(names)}; leave data.num_clients out."
    )


def refuse_split_groups(units: Mapping[str, Sequence[str]], config: DataConfig) -> None:
    """Check that made-up institutions do not share the records of one group.

    Raises:
        DataError: with the number of groups that are split.
    """
    # A group at two institutions is charged at both; real institutions may share a patient, but
    # made-up ones should not spend twice for nothing
    counts = Counter(owner for owners in units.values() for owner in owners)
    split = sum(count > 1 for count in counts.values())
    if split and config.partitioner not in ("natural", "grouped_natural"):
        raise DataError(
            f"data.partitioner={config.partitioner} splits the records of {split} of {len(counts)}"
            f" groups (data.group_column={config.group_column}) among several institutions, and"
            " each would spend its own epsilon on them. Partition by group:"
            f" data.partitioner=grouped_natural data.partition_by={config.group_column}, group_size"
            " in data.partitioner_args."
        )


__all__ = ["PartitionedRecords", "partition_records", "refuse_split_groups"]
