"""Institutions whose records are encoded together: many small ones as a few large ones."""

from collections.abc import Iterator, Mapping, Sequence

from confide.client.records.encoded import InstitutionData, encode_institution
from confide.client.records.pool import RecordPool, is_poolable
from confide.client.records.units import take
from confide.config.data import DataConfig
from confide.config.tasks.task import TaskConfig
from confide.errors import DataError
from confide.models.workload import Workload
from confide.privacy.keys import split_key
from confide.simulations.population import PartitionedRecords

MOST_POOLED = 4096
"""Records: more gain nothing, and a pool is in memory twice while it is cut."""

Encoded = tuple[InstitutionData, Sequence[str]]
"""An institution's records, and the ids of its units."""


def pools(indices: Mapping[str, Sequence[int]]) -> Iterator[list[str]]:
    """Yield the names of institutions that have at most ``MOST_POOLED`` records together.

    Args:
        indices: institution -> its records; one that has more is by itself.
    """
    names: list[str] = []
    records = 0
    for name, own in indices.items():
        if names and records + len(own) > MOST_POOLED:
            yield names
            names, records = [], 0
        names.append(name)
        records += len(own)
    if names:
        yield names


def laid_together(
    population: PartitionedRecords, names: Sequence[str]
) -> tuple[list[int], list[range]]:
    """Return the records of institutions one after the other, and where in them each one's are."""
    rows: list[int] = []
    places = []
    for name in names:
        places.append(range(len(rows), len(rows) + len(population.indices[name])))
        rows += population.indices[name]
    return rows, places


def encode_together(
    names: Sequence[str],
    population: PartitionedRecords,
    config: DataConfig,
    *,
    task: TaskConfig,
    workload: Workload,
    secret: bytes,
) -> Iterator[Encoded]:
    """Yield each institution's encoded records, the same as :func:`encode_institution` gives.

    Args:
        names: of institutions, as :func:`pools` puts them together.
        population: their records.
        config: of the records.
        task: schema of the records, as they are encoded.
        workload: encodes.
        secret: decides splits, by a key for each name: who else takes part does not change an
            institution's.

    Raises:
        DataError: naming an institution, and what does not fit.
    """
    if len(names) > 1 and is_poolable(task, workload):
        rows, places = laid_together(population, names)
        try:
            pool = RecordPool(take(population.records, rows), config, task=task, workload=workload)
            yield from [
                pool.cut(name, own, key=split_key(secret, name))
                for name, own in zip(names, places, strict=True)
            ]
            return
        except DataError:
            pass  # told below, of whose records it is and where in them
    for name in names:
        yield encode_institution(
            name,
            population.parts[name],
            config,
            workload=workload,
            key=split_key(secret, name),
            told_apart=task.told_apart,
        )


__all__ = ["MOST_POOLED", "Encoded", "encode_together", "laid_together", "pools"]
