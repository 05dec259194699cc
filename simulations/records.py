"""A simulation's records: partitioned, compared with an earlier process's, and encoded."""

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from datasets import Dataset

from confide.client.records.custom import check_custom_records
from confide.client.records.encoded import InstitutionData, encode_institution
from confide.client.records.judged import sampled_token_notes
from confide.client.training.custom_checks import check_encoding
from confide.config.data import DataConfig
from confide.errors import DataError
from confide.models.workload import Workload
from confide.privacy.keys import split_key
from confide.protocol.plan import TrainingPlan
from confide.server.run.progress_view import ProgressView
from confide.simulations.population import partition_records, refuse_split_groups
from confide.tasks.schema import whole_columns

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class EncodedRecords:
    """The records of all institutions.

    Attributes:
        data: encoded, by institution.
        units: privacy units, by institution; ledgers tell people apart by them.
        fingerprints: hash of the records, by institution.
        source: where the records came from, for the summary.
    """

    data: Mapping[str, InstitutionData]
    units: Mapping[str, Sequence[str]]
    fingerprints: Mapping[str, str]
    source: Mapping[str, object]


def encode_records(
    config: DataConfig,
    *,
    plan: TrainingPlan,
    workload: Workload,
    secret: bytes,
    before: Mapping[str, str] | None,
    progress: ProgressView,
) -> EncodedRecords:
    """Load records, partition them over institutions, and encode them.

    Args:
        config: of the records.
        plan: what will be asked of institutions.
        workload: encodes.
        secret: decides partition and splits.
        before: fingerprints that an earlier process of the run took; None for a new run.
        progress: moved with every institution.

    Raises:
        DataError: if records cannot be loaded, or are others than when the run began.
    """
    check_custom_records(config)
    population = partition_records(config, task=plan.task, secret=secret)
    fingerprints = {name: fingerprint(records) for name, records in population.parts.items()}
    _check_unchanged(fingerprints, before)  # before encoding, which may take minutes
    progress.phase("prepare records", total=len(population.parts))
    data, units = {}, {}
    # A key for each name: who else takes part does not change an institution's splits
    for name, records in population.parts.items():
        data[name], units[name] = encode_institution(
            name, records, config, workload=workload, key=split_key(secret, name)
        )
        progress.advance(f"{name}, {len(records)} records")
    # The largest part stands for all: the same sentence for each of a hundred would hide others
    largest = max(population.parts.values(), key=len)
    notes = sampled_token_notes(largest, plan.task, workload.task)
    known = population.summary.get("notes", ())
    assert isinstance(known, Iterable)
    for note in notes:
        log.warning("%s", note)
    if plan.private:  # the largest part shows most of what an encoding does
        check_encoding(workload, largest)
    if plan.privacy.unit == "group":
        refuse_split_groups(units, config)
    return EncodedRecords(
        data=data,
        units=units,
        fingerprints=fingerprints,
        source={**population.summary, "notes": [*known, *notes]},
    )


def _check_unchanged(now: Mapping[str, str], before: Mapping[str, str] | None) -> None:
    if before is None:
        return
    names = sorted(before.keys() | now.keys())
    changed = [name for name in names if before.get(name) != now.get(name)]
    if changed:
        raise DataError(
            f"The records of {', '.join(changed)} are others than when the run began; bring"
            " them back, or start a new run."
        )


def fingerprint(records: Dataset) -> str:
    """Hash records, in their order."""
    digest = hashlib.sha256()
    # Column by column, in the order of names: the order of columns means nothing.
    for name, column in whole_columns(records, sorted(records.column_names)).items():
        digest.update(repr((name, column.to_pylist())).encode())
    return digest.hexdigest()


__all__ = ["EncodedRecords", "encode_records", "fingerprint"]
