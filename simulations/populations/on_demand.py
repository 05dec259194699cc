"""Records of institutions that are encoded when somebody is asked, and kept by nobody here."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from datasets import Dataset, concatenate_datasets

from confide.client.records.checked import gather
from confide.client.records.encoded import InstitutionData
from confide.client.records.tally import Tally
from confide.config.data import DataConfig
from confide.errors import DataError
from confide.models.workload import Workload
from confide.protocol.plan import TrainingPlan
from confide.simulations.pools import MOST_POOLED, encode_together
from confide.simulations.population import PartitionedRecords
from confide.simulations.populations.source import RecordSource
from confide.strategies.roster import Roster

EncodeFn = Callable[[Sequence[str]], Sequence[InstitutionData]]
"""Names of institutions -> their encoded records."""


class RecordsOnDemand(Mapping[str, InstitutionData]):
    """Institution -> its encoded records, made when they are asked for.

    Args:
        roster: names of all.
        source: knows their sizes.
        encode_fn: encodes the records of several.
    """

    def __init__(self, roster: Roster, source: RecordSource, encode_fn: EncodeFn) -> None:
        self.roster, self.source = roster, source
        self._encode_fn = encode_fn
        self._expected: dict[str, None] = {}
        self._ready: dict[str, InstitutionData] = {}

    def expect(self, names: Iterable[str]) -> None:
        """Hear who will be asked for next: their records are encoded together.

        Args:
            names: in the order in which they will be; what was expected before is not any more.
        """
        self._expected, self._ready = dict.fromkeys(names), {}

    def __getitem__(self, name: str) -> InstitutionData:
        """Return an institution's records, encoded with those that are expected next.

        Raises:
            DataError: if its records do not fit.
            KeyError: if nobody has that name.
        """
        found = self._ready.pop(name, None)
        if found is not None:
            return found
        names = self._next(name)
        try:
            encoded = self._encode_fn(names)
        except DataError:  # perhaps somebody else's
            return self._encode_fn([name])[0]
        self._ready.update(zip(names, encoded, strict=True))
        return self._ready.pop(name)

    def __contains__(self, name: object) -> bool:
        """Say whether there is an institution of that name."""
        return name in self.roster

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        return iter(self.roster)

    def __len__(self) -> int:
        """Return how many institutions there are."""
        return len(self.roster)

    def num_records(self, name: str) -> int:
        """Return how many records an institution has, without making them."""
        return self.source.num_records(self.source.index(name))

    def _next(self, name: str) -> list[str]:
        """Return a name, and those that are expected, as many as are encoded at once."""
        self._expected.pop(name, None)
        names, total = [name], self.num_records(name)
        for other in self._expected:
            try:
                total += self.num_records(other)
            except DataError:  # its own turn tells
                break
            if total > MOST_POOLED:
                break
            names.append(other)
        for other in names[1:]:
            del self._expected[other]
        return names


def encoder(
    source: RecordSource,
    config: DataConfig,
    *,
    plan: TrainingPlan,
    workload: Workload,
    secret: bytes,
) -> EncodeFn:
    """Return what encodes a source's records: checked, split and encoded as listed ones are.

    Args:
        source: makes them.
        config: id columns, and shares of the splits.
        plan: what will be asked of institutions.
        workload: encodes.
        secret: decides splits, by a key for each name.
    """

    def encode(names: Sequence[str]) -> list[InstitutionData]:
        parts = [checked_records(source, name, config, plan=plan) for name in names]
        together = encode_together(
            names,
            laid_out(names, parts),
            config,
            task=plan.encoded_task,
            workload=workload,
            secret=secret,
        )
        return [data for data, _ in together]

    return encode


def checked_records(
    source: RecordSource, name: str, config: DataConfig, *, plan: TrainingPlan
) -> Dataset:
    """Return an institution's raw records, one a unit."""
    records = source.records(source.index(name))
    # Rows of a table without ids are all kept, and ordered where they are split
    if config.id_column is None and plan.task.table_columns:
        return records
    return gather(records, config, plan.task).records


def laid_out(names: Sequence[str], parts: Sequence[Dataset]) -> PartitionedRecords:
    """Put records of institutions one after the other.

    Args:
        names: of the institutions, at least one.
        parts: their records, in the same order.
    """
    indices, start = {}, 0
    for name, part in zip(names, parts, strict=True):
        indices[name] = range(start, start + len(part))
        start += len(part)
    return PartitionedRecords(
        records=concatenate_datasets(list(parts)) if len(parts) > 1 else parts[0],
        indices=indices,
        tally=Tally(read=start),
    )


__all__ = ["EncodeFn", "RecordsOnDemand", "checked_records", "encoder", "laid_out"]
