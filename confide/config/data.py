"""The schema of a simulation's records.

Where they come from, whose they are, how they are dealt out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confide.config.custom import named_problems
from confide.config.fields import setting
from confide.security.redaction import redact

PARTITIONERS = (
    "continuous",
    "dirichlet",
    "distribution",
    "exponential",
    "grouped_natural",
    "iid",
    "inner_dirichlet",
    "linear",
    "natural",
    "pathological",
    "shard",
    "size",
    "square",
)
PARTITIONED_BY_COLUMN = {
    "natural": "the column that names the institution",
    "grouped_natural": "the column that names the institution",
    "continuous": "the column of numbers to sort by",
}


@dataclass
class DataConfig:
    """Where the records of a simulation come from and how they are dealt out."""

    path: str = setting(
        "???",
        "A file (.csv, .tsv, .jsonl, .ndjson, .parquet, .arrow), pkg://PACKAGE/FILE inside an"
        " installed package, a folder with one file an institution, or a database's SQLAlchemy URL"
        " (its password from ~/.pgpass or ${oc.env:NAME}); empty where _target_ brings the"
        " records.",
    )
    _target_: str | None = setting(
        None,
        "data=custom: dotted path of a function of your own that returns a pandas DataFrame, a"
        " datasets.Dataset, or a mapping institution -> one of these, which then is what a folder"
        " with one file an institution is.",
    )
    kwargs: dict[str, Any] = setting(dict, "Arguments of _target_.")
    query: str | None = setting(None, "SELECT ..., where path is a database's URL.")
    in_memory_mb: int = setting(
        1024, "MiB of records held in memory; more goes to an unlinked temporary file.", ge=0
    )
    public: bool | None = setting(
        None,
        "Whether anybody may read these records; if not, private training on them needs"
        " client.ledger. null: those of a package are public; files, databases and what a function"
        " returns are not.",
    )
    id_column: str | None = setting(
        None, "Column that names the record; null: the record's own content does."
    )
    group_column: str | None = setting(
        None,
        "Column that names whom a record belongs to (a patient, an account): never split up; the"
        " unit of privacy.unit=group.",
    )
    min_per_label: int = setting(
        1, "Fewer records of a label, over all institutions, end the run before it starts.", ge=0
    )
    max_records: int | None = setting(
        None, "Keep this many records, drawn with partition_seed; null: all.", ge=1
    )
    partitioner: str = setting(
        "iid",
        "How records are dealt out: the horizontal partitioners of flwr_datasets. Its vertical ones"
        " split columns, not records; its id_to_size takes a function, of which linear, square and"
        " exponential are the named ones.",
        choices=PARTITIONERS,
    )
    partitioner_args: dict[str, Any] = setting(
        dict, "Further arguments of the partitioner's constructor."
    )
    num_clients: int = setting(4, "Number of institutions.", ge=1, le=1_000_000)
    alpha: float = setting(
        0.5,
        "dirichlet, inner_dirichlet: concentration; small: each institution sees few labels.",
        gt=0,
    )
    partition_by: str | None = setting(
        None,
        "natural, grouped_natural: the column that names the institution (natural, null: the file"
        " of a folder); continuous: the column that is sorted by.",
    )
    institution: str = setting(
        "institution", "Institutions are called NAME-1, NAME-2, ... (natural: by their own names)."
    )
    partition_seed: int | None = setting(None, "Seed of dealing out; null: simulation.seed.", ge=0)
    validation: float = setting(0.1, "Share of units for validation.", ge=0, lt=1)
    test: float = setting(0.2, "Share of units for test.", ge=0, lt=1)

    @property
    def is_public(self) -> bool:
        """Whether anybody may read these records."""
        return self.path.startswith("pkg://") if self.public is None else self.public

    @property
    def source(self) -> str:
        """Where the records come from, fit to be shown."""
        return redact(self.path) if self._target_ is None else self._target_

    @staticmethod
    def is_database(path: str) -> bool:
        """Tell a database's URL from a path."""
        return "://" in path and not path.startswith("pkg://")

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        if self.validation + self.test >= 1:
            yield (
                f"validation={self.validation} and test={self.test} leave nothing to train on;"
                " lower one."
            )
        yield from named_problems(self._target_, self.kwargs)
        if (self._target_ is None) == (not self.path):
            yield (
                f"path={redact(self.path)!r}, _target_={self._target_}: expected one of them;"
                " _target_ needs data=custom."
            )
        by_file = self.partitioner == "natural" and (
            self._target_ is not None or Path(self.path).expanduser().is_dir()
        )
        if self.partitioner in PARTITIONED_BY_COLUMN and self.partition_by is None and not by_file:
            yield (
                f"partition_by=null: partitioner={self.partitioner} needs"
                f" {PARTITIONED_BY_COLUMN[self.partitioner]}."
            )
        if self.is_database(self.path) and self.query is None:
            yield (
                "query=null: a database needs the query whose rows are the records; set"
                " data.query='SELECT ...'."
            )
        if not self.is_database(self.path) and self.query is not None:
            yield (
                "query is set, but path is no database's URL; set data.query=null, or"
                " path=DIALECT+DRIVER://..."
            )


__all__ = ["PARTITIONED_BY_COLUMN", "PARTITIONERS", "DataConfig"]
