"""A made-up population as a source of records, of which one institution is made at a time.

What institution i holds follows from the generator's settings and i alone, by generators of random
numbers that are keyed (numpy's SeedSequence: its spawn key is i): nobody else's records are made
for it, and neither the number of institutions nor the order in which they are asked for matters.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import uuid4

import numpy
import pyarrow
from datasets import Dataset

from confide.client.records.sources.opened import Opened
from confide.client.records.sources.sources import SourceRecords, join
from confide.config.custom import implementation
from confide.config.data import DataConfig
from confide.config.generators.generator import INSTITUTION_COLUMN, LABEL_COLUMN, GeneratorConfig
from confide.config.generators.table import GENERATORS
from confide.config.tasks.task import TaskConfig

# Under one institution's key: what it is like, and how many records it has. Apart, so that the
# number is told without making the records.
_RECORDS, _SIZE = 0, 1
_DIGITS = 6


class Made(NamedTuple):
    """The records of one institution.

    Attributes:
        features: values of the columns x0, x1, ..., shape [n, d].
        labels: what is to be predicted of each, n of them; a class or a number.
    """

    features: numpy.ndarray
    labels: numpy.ndarray


InstitutionFn = Callable[[numpy.random.Generator, int], Made]
"""An institution's own generator and its number of records -> its records."""

MakerFn = Callable[[Any, numpy.random.Generator], InstitutionFn]
"""A kind's settings, and the generator of what institutions share -> what makes an institution."""


@dataclass(frozen=True, kw_only=True)
class GeneratedSource:
    """A made-up population; a :class:`~confide.simulations.populations.source.RecordSource`.

    Attributes:
        config: what makes it.
        num_institutions: how many institutions there are; has no part in what each holds.
        prefix: of their names, PREFIX-01, PREFIX-02, ...
        make: what makes the records of one.
    """

    config: GeneratorConfig
    num_institutions: int
    prefix: str
    make: InstitutionFn

    def name(self, index: int) -> str:
        """Return the name of an institution, by its number from 0; in the order of numbers."""
        return f"{self.prefix}-{index + 1:0{len(str(self.num_institutions))}}"

    def index(self, name: str) -> int:
        """Return the number of an institution, from 0.

        Raises:
            KeyError: if nobody has that name.
        """
        number = name.removeprefix(f"{self.prefix}-")
        index = int(number) - 1 if number.isascii() and number.isdigit() else -1
        if not 0 <= index < self.num_institutions or self.name(index) != name:
            raise KeyError(name)
        return index

    def num_records(self, index: int) -> int:
        """Return how many records an institution has, without making them."""
        config = self.config
        if config.num_records is not None:
            return config.num_records
        drawn = self._generator(index, _SIZE).lognormal(config.log_mean, config.log_deviation)
        return int(min(config.least + drawn, config.most))

    def records(self, index: int) -> Dataset:
        """Make the records of an institution: text, as records that are read are.

        Columns x0, x1, ... and the label.
        """
        # Without a fingerprint `datasets` would pickle all of it to compute one
        return Dataset(self.table(index), fingerprint=uuid4().hex)

    def table(self, index: int) -> pyarrow.Table:
        """Make the records of an institution as a table of text."""
        made = self.make(self._generator(index, _RECORDS), self.num_records(index))
        columns = {
            name: [f"{value:.{_DIGITS}g}" for value in made.features[:, i].tolist()]
            for i, name in enumerate(self.config.feature_columns)
        }
        labels = made.labels.tolist()
        of_numbers = made.labels.dtype.kind == "f"
        columns[LABEL_COLUMN] = [f"{one:.{_DIGITS}g}" if of_numbers else str(one) for one in labels]
        return pyarrow.table(columns, schema=_schema(list(columns)))

    def _generator(self, index: int, what: int) -> numpy.random.Generator:
        key = (index, what)
        return numpy.random.default_rng(numpy.random.SeedSequence(self.config.seed, spawn_key=key))


def generated_source(config: DataConfig) -> GeneratedSource:
    """Return the population that a config's generator makes.

    Args:
        config: settings of the records, with a generator.
    """
    generator, number = config.generator, config.expected_clients
    assert generator is not None
    assert number is not None
    # Keys of institutions have two parts: this one is nobody's
    shared = numpy.random.default_rng(numpy.random.SeedSequence(generator.seed))
    make: MakerFn = implementation(GENERATORS[generator.kind].maker)
    return GeneratedSource(
        config=generator,
        num_institutions=number,
        prefix=config.institution,
        make=make(generator, shared),
    )


def read_generated(config: DataConfig, task: TaskConfig) -> SourceRecords:
    """Make the records of a whole population, for runs that hold everybody's.

    Raises:
        DataError: if the task names a column that the generator does not make.
    """
    source = generated_source(config)
    names = (*source.config.feature_columns, LABEL_COLUMN, INSTITUTION_COLUMN)
    opened = Opened(columns=names, batches=_batches(source))
    return join(
        {"": opened},
        tuple(dict.fromkeys((*task.record_columns, INSTITUTION_COLUMN))),
        shown=config.source,
        files=(),
        in_memory_mb=config.in_memory_mb,
    )


def _batches(source: GeneratedSource) -> Iterator[pyarrow.Table]:
    for index in range(source.num_institutions):
        table = source.table(index)
        owner = pyarrow.array([source.name(index)] * len(table), pyarrow.string())
        yield table.append_column(INSTITUTION_COLUMN, owner)


def _schema(names: list[str]) -> pyarrow.Schema:
    return pyarrow.schema([(name, pyarrow.string()) for name in names])


__all__ = [
    "GeneratedSource",
    "InstitutionFn",
    "Made",
    "MakerFn",
    "generated_source",
    "read_generated",
]
