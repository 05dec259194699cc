"""A simulation's records: partitioned, compared with an earlier process's, and encoded."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from confide.client.records.encoded import InstitutionData
from confide.client.records.judged import sampled_token_notes
from confide.client.records.sources.custom import check_custom_records
from confide.client.records.units import take
from confide.client.training.private.custom_checks import check_encoding
from confide.config.data import DataConfig
from confide.config.run import Config
from confide.config.tasks.task import TaskConfig
from confide.errors import ConfigError, DataError
from confide.models.workload import Workload
from confide.protocol.plan import TrainingPlan
from confide.server.run.carrier import Run
from confide.server.run.progress_view import ProgressView
from confide.simulations.pools import encode_together, laid_together, pools
from confide.simulations.population import (
    PartitionedRecords,
    partition_records,
    refuse_split_groups,
)
from confide.tasks.schema import whole_columns

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class EncodedRecords:
    """The records of all institutions.

    Attributes:
        data: encoded, by institution.
        units: privacy units, by institution; ledgers tell people apart by them.
        source: where the records came from, for the summary.
    """

    data: Mapping[str, InstitutionData]
    units: Mapping[str, Sequence[str]]
    source: Mapping[str, object]


def listed_records(
    run: Run, plan: TrainingPlan, workload: Workload
) -> tuple[EncodedRecords, dict[str, str]]:
    """Load, partition and encode everybody's records.

    Returns:
        The records, and their hashes by institution.

    Raises:
        DataError: if records do not fit, or are others than when the run began.
    """
    config = run.config
    population, fingerprints = load_population(
        config, plan.task, secret=run.secret, before=run.before.get("records")
    )
    records = encode_records(
        config.data,
        population,
        plan=plan,
        workload=workload,
        secret=run.secret,
        progress=run.progress,
    )
    return records, fingerprints


def encode_records(
    config: DataConfig,
    population: PartitionedRecords,
    *,
    plan: TrainingPlan,
    workload: Workload,
    secret: bytes,
    progress: ProgressView,
) -> EncodedRecords:
    """Encode the records of each institution.

    Args:
        config: of the records.
        population: the records, partitioned.
        plan: what will be asked of institutions.
        workload: encodes.
        secret: decides partition and splits.
        progress: moved with every institution.

    Raises:
        DataError: if records do not fit, or groups are split among institutions.
    """
    sizes = {name: len(rows) for name, rows in population.indices.items()}
    progress.phase("prepare records", total=len(sizes))
    data: dict[str, InstitutionData] = {}
    units: dict[str, Sequence[str]] = {}
    for names in pools(population.indices):
        encoded = encode_together(
            names,
            population,
            config,
            task=plan.encoded_task,
            workload=workload,
            secret=secret,
        )
        for name, one in zip(names, encoded, strict=True):
            data[name], units[name] = one
            progress.advance(f"{name}, {sizes[name]} records")
    # The largest part stands for all: the same sentence for each of a hundred would hide others
    largest = population.parts[max(sizes, key=sizes.__getitem__)]
    notes = sampled_token_notes(largest, plan.task, workload.task)
    for note in notes:
        log.warning("%s", note)
    if plan.private:  # the largest part shows most of what an encoding does
        check_encoding(workload, largest)
    tally = population.tally.without("unlabelled", sum(d.left_out for d in data.values()))
    tally = tally.without("arrival", sum(one.apart for one in data.values()))
    if plan.privacy.unit == "group":
        refuse_split_groups(units, config)
        most = plan.privacy.max_records_per_group
        tally = tally.without("max_records_per_group", sum(_beyond(d, most) for d in data.values()))
    for sentence in tally.sentences():
        log.log(logging.WARNING if tally.is_loud else logging.INFO, "%s", sentence)
    flatters = plan.task.unit_note(plan.privacy.unit)
    if flatters:
        log.warning("%s", flatters)
    told = [*tally.sentences(), *population.notes, *notes, *filter(None, [flatters])]
    by = {"path": config.source, "partitioner": config.partitioner}
    source = {**by, **tally.to_json(), "notes": told}
    return EncodedRecords(data=data, units=units, source=source)


def _beyond(data: InstitutionData, most: int) -> int:
    """Count training records that their group has too many of."""
    assert data.groups is not None
    counts = torch.bincount(data.groups)
    return int((counts - most).clamp(min=0).sum())


def load_population(
    config: Config, task: TaskConfig, *, secret: bytes, before: Mapping[str, str] | None
) -> tuple[PartitionedRecords, dict[str, str]]:
    """Load records and partition them over institutions, before any is encoded.

    Args:
        config: of the run.
        task: task that the records must fit.
        secret: decides the partition.
        before: fingerprints that an earlier process of the run took; None for a new run.

    Returns:
        The records, and the fingerprint of each institution's.

    Raises:
        DataError: if records cannot be loaded, or are others than when the run began.
        ConfigError: if settings contradict the number of institutions.
    """
    check_custom_records(config.data)
    population = partition_records(config.data, task=task, secret=secret)
    problems = list(config.client_problems(len(population.parts)))
    if problems:
        raise ConfigError(problems)
    fingerprints = fingerprints_of(population)
    check_unchanged(fingerprints, before)
    return population, fingerprints


def check_unchanged(now: Mapping[str, str], before: Mapping[str, str] | None) -> None:
    """Check that records are those that the run began with.

    Args:
        now: fingerprints, by institution.
        before: those that an earlier process took; None for a new run.

    Raises:
        DataError: naming whose are others.
    """
    if before is None:
        return
    names = sorted(before.keys() | now.keys())
    changed = [name for name in names if before.get(name) != now.get(name)]
    if changed:
        raise DataError(
            f"The records of {', '.join(changed)} are others than when the run began; bring"
            " them back, or start a new run."
        )


def fingerprints_of(population: PartitionedRecords) -> dict[str, str]:
    """Hash each institution's records, in their order."""
    found = {}
    for names in pools(population.indices):
        rows, places = laid_together(population, names)
        records = take(population.records, rows)
        # Column by column, in the order of names: the order of columns means nothing.
        columns = {
            column: values.to_pylist()
            for column, values in whole_columns(records, sorted(records.column_names)).items()
        }
        for name, own in zip(names, places, strict=True):
            digest = hashlib.sha256()
            for column, values in columns.items():
                digest.update(repr((column, values[own.start : own.stop])).encode())
            found[name] = digest.hexdigest()
    return found


__all__ = [
    "EncodedRecords",
    "check_unchanged",
    "encode_records",
    "fingerprints_of",
    "listed_records",
    "load_population",
]
