"""Settings of a simulation's records: their source, their owners, and how they are partitioned."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confide.config.custom import named_problems
from confide.config.fields import setting
from confide.config.generators.generator import INSTITUTION_COLUMN, GeneratorConfig
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


ARRIVAL_COLUMN = (
    "Name of the column by which records are old or new, such as a date (2026-06-30); compared as a"
    " number where bounds are numbers, and else as text. null: a number in [0, 1) that a keyed hash"
    " gives each unit, to try it out."
)
UNTIL = "Records from here on are not there yet; null: all are."
OLD_BEFORE = (
    "Records before are old: an earlier run was trained on them. None is trained on again, and"
    " those in the test split are scored by themselves; null: all are new."
)
COUNTED_BY_RECORDS = ("grouped_natural", "inner_dirichlet", "natural", "size")
"""Partitioners that make as many institutions as the records, or their own arguments, say."""
_OTHERWISE = 4


@dataclass
class DataConfig:
    """Source of a simulation's records, and how they are partitioned."""

    # ??? is OmegaConf's word for a setting that has no default and must be set.
    path: str = setting(
        "???",
        "Source of the records: a file (.csv, .tsv, .jsonl, .ndjson, .json, .parquet, .arrow,"
        " .npz; .conll, .bio, .iob, .iob2, .bioes, .bmes or .txt with a word and its tag a"
        " line), pkg://PACKAGE/FILE inside an installed package, a folder with one file for each"
        " institution, Parquet in folders called COLUMN=VALUE, LEAF's JSON, a folder of pictures"
        " or sounds ([INSTITUTION/]CLASS/FILE), or a database's SQLAlchemy URL (its password"
        " from ~/.pgpass or ${oc.env:NAME}); empty if _target_ returns the records or a"
        " generator makes them.",
    )
    _target_: str | None = setting(
        None,
        "Dotted path of a custom function (data=custom) that returns a pandas DataFrame, a"
        " datasets.Dataset, or a mapping institution -> one of these, which is treated as a folder"
        " with one file for each institution.",
    )
    kwargs: dict[str, Any] = setting(dict, "Arguments of _target_.")
    generator: GeneratorConfig | None = setting(
        None,
        "What makes the records of a population of num_clients institutions, from a seed; chosen by"
        " its group, data/generator=NAME. none: they are read.",
    )
    query: str | None = setting(None, "SQL query (SELECT ...), if path is a database's URL.")
    encoding: str = setting(
        "utf-8",
        "Encoding of text files (.csv, .tsv, .jsonl, .ndjson, .json, and words with their tags),"
        " such as gb18030, cp1252 or utf-16.",
    )
    encoding_errors: str = setting(
        "strict",
        "What to do with bytes that are no character in this encoding. strict: refuse the file,"
        " with the line; replace: put U+FFFD in their place, and say in how many lines.",
        choices=("strict", "replace"),
    )
    in_memory_mb: int = setting(
        1024,
        "Memory for records, in MiB; records beyond it go to a temporary file without a name.",
        ge=0,
    )
    public: bool | None = setting(
        None,
        "Whether anybody may read these records; if not, private training on them needs"
        " client.ledger. null: records of a package and made-up ones are public; files, databases"
        " and records returned by a function are not.",
    )
    id_column: str | None = setting(
        None, "Name of the column of record ids; null: a record is identified by its content."
    )
    group_column: str | None = setting(
        None,
        "Name of the column that identifies a record's owner (a patient, an account), whose records"
        " stay together; the unit of privacy.unit=group.",
    )
    min_per_label: int = setting(
        1,
        "Smallest number of records of each label, over all institutions; with fewer the run does"
        " not start.",
        ge=0,
    )
    max_records: int | None = setting(
        None, "Number of records to keep, drawn with partition_seed; null: all.", ge=1
    )
    # What a config says nothing of is decided in confide.config.composing.suited
    partitioner: str = setting(
        "iid",
        "Method by which records are partitioned among institutions: the horizontal partitioners of"
        " flwr_datasets; unset, natural if partition_by is set or path is a folder, else iid. (Its"
        " vertical ones split columns, not records; its id_to_size takes a"
        " function, of which linear, square and exponential are the named ones.)",
        choices=PARTITIONERS,
    )
    partitioner_args: dict[str, Any] = setting(
        dict, "Further arguments for the partitioner's constructor."
    )
    num_clients: int | None = setting(
        None,
        "Number of institutions; null: as many as there are (natural, a folder of files, sizes in"
        " partitioner_args), otherwise 4.",
        ge=1,
        le=1_000_000,
    )
    alpha: float = setting(
        0.5,
        "Concentration (dirichlet, inner_dirichlet); with a small one each institution has few"
        " labels.",
        gt=0,
    )
    partition_by: str | None = setting(
        None,
        "Name of the column to partition by. natural, grouped_natural: the institution (natural,"
        " null: the file in a folder); continuous: a number to sort by.",
    )
    partition_values: dict[str, str] = setting(
        dict,
        "Value of partition_by -> institution, where one has several (natural), such as the states"
        " of a region; empty: each value is an institution's name.",
    )
    institution: str = setting(
        "institution",
        "Prefix of institutions' names, NAME-1, NAME-2, ... (natural: their own names are used;"
        " of a generator NAME-01, NAME-02, ...).",
    )
    partition_seed: int | None = setting(
        None, "Seed of the partitioning; null: simulation.seed.", ge=0
    )
    validation: float = setting(0.1, "Share of units for validation.", ge=0, lt=1)
    test: float = setting(0.2, "Share of units for test.", ge=0, lt=1)
    arrival_column: str | None = setting(None, ARRIVAL_COLUMN)
    until: str | None = setting(None, UNTIL)
    old_before: str | None = setting(None, OLD_BEFORE)

    @property
    def is_public(self) -> bool:
        """Whether anybody may read these records."""
        if self.public is not None:
            return self.public
        # A package was published by somebody; of anything else only its owner can know.
        return self.path.startswith("pkg://") or self.generator is not None

    @property
    def expected_clients(self) -> int | None:
        """Number of institutions; None where only the records tell."""
        counted = self.generator is None and self.partitioner in COUNTED_BY_RECORDS
        if self.num_clients is None and not counted:
            return _OTHERWISE
        return self.num_clients

    @property
    def source(self) -> str:
        """Source of the records, without a password."""
        if self.generator is not None:
            return f"generator {self.generator.kind}"
        return redact(self.path) if self._target_ is None else self._target_

    @staticmethod
    def is_database(path: str) -> bool:
        """Say whether a source is a database's URL and not a path."""
        return "://" in path and not path.startswith("pkg://")

    def problems(self) -> Iterator[str]:
        """Yield a sentence for each contradiction."""
        if self.validation + self.test >= 1:
            yield (
                f"validation={self.validation} and test={self.test} leave nothing to train on;"
                " lower one."
            )
        yield from arrival_problems(self.arrival_column, self.until, self.old_before)
        yield from named_problems(self._target_, self.kwargs)
        yield from encoding_problems(self.encoding)
        if self.generator is not None:
            yield from self._generator_problems()
        elif (self._target_ is None) == (not self.path):
            yield (
                f"path={redact(self.path)!r}, _target_={self._target_}: expected one of them;"
                " _target_ needs data=custom."
            )
        # A folder, or a mapping that a function returns, names its institutions itself
        by_file = (self.partitioner, self.partition_by) == ("natural", None) and (
            self._target_ is not None or Path(self.path).expanduser().is_dir()
        )
        yield from self._count_problems()
        needed = PARTITIONED_BY_COLUMN.get(self.partitioner)
        if needed is not None and self.partition_by is None and not by_file:
            yield f"partition_by=null: partitioner={self.partitioner} needs {needed}."
        if self.partition_values and by_file:
            yield (
                "partition_values names the institutions of a column's values; set"
                " partition_by=COLUMN, or leave it out."
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

    def label_problems(self, labels: int) -> Iterator[str]:
        """Yield that a generator makes another number of classes than a task has.

        Args:
            labels: number of the task's.
        """
        made = getattr(self.generator, "num_classes", labels)
        if labels and made != labels:
            yield (
                f"data.generator.num_classes={made}, and the task has {labels} labels; write a task"
                " of your own with labels 0, 1, ..., or leave num_classes out."
            )

    def _generator_problems(self) -> Iterator[str]:
        """Yield what says otherwise than that records are made, institution by institution."""
        assert self.generator is not None
        kind = f"generator.kind={self.generator.kind}"
        if self.path or self._target_ is not None:
            yield (
                f"path={redact(self.path)!r}, _target_={self._target_}: {kind} makes the records;"
                " leave these out, or set data/generator=none."
            )
        if (self.partitioner, self.partition_by) != ("natural", INSTITUTION_COLUMN):
            yield (
                f"partitioner={self.partitioner}, partition_by={self.partition_by}: {kind} makes"
                " each institution's records; leave these out."
            )
        for name in ("partition_values", "group_column", "id_column", "max_records"):
            if getattr(self, name):
                yield (
                    f"{name}={getattr(self, name)}: {kind} makes records without it; leave it out."
                )

    def _count_problems(self) -> Iterator[str]:
        """Yield that a folder holds another number of institutions, which needs no reading."""
        folder = Path(self.path).expanduser()
        if (
            self.num_clients is not None
            and (self.partitioner, self.partition_by) == ("natural", None)
            and self.path
            and folder.is_dir()
        ):
            files = [file for file in folder.iterdir() if not file.name.startswith(".")]
            if len(files) != self.num_clients:
                yield (
                    f"num_clients={self.num_clients}, but folder {self.path} holds {len(files)}"
                    " files, one for each institution; leave data.num_clients out."
                )


def arrival_problems(column: str | None, until: str | None, old: str | None) -> Iterator[str]:
    """Yield what bounds of records' arrival contradict."""
    bounds = {"until": until, "old_before": old}
    told = {name: bound for name, bound in bounds.items() if bound is not None}
    if column is not None and not told:
        yield f"arrival_column={column}: nothing is compared with it; set until or old_before."
    numbers = {}
    for name, bound in told.items():
        try:
            numbers[name] = float(bound)
        except ValueError:
            if column is None:
                yield (
                    f"{name}={bound}: without arrival_column expected a share of the units, such as"
                    " 0.75; or name the column that it is compared with."
                )
    for name, number in numbers.items() if column is None else ():
        if not 0 < number < 1:
            yield f"{name}={number:g}: expected a share of the units, > 0 and < 1."
    if len(told) < len(bounds):
        return
    left, right = (numbers[name] for name in bounds) if len(numbers) == 2 else told.values()
    if not right < left:  # type: ignore[operator]
        yield f"old_before={old}: expected less than until={until}, or nothing would be new."


def encoding_problems(encoding: str) -> Iterator[str]:
    """Yield a sentence if Python knows no encoding of text by this name."""
    try:
        # A codec that is no encoding of text, such as rot13 or hex, raises here
        b"a".decode(encoding)
    except UnicodeError:
        return  # utf-16, of which one byte is no character
    except (LookupError, ValueError):
        yield (
            f"encoding={encoding}: not the name of an encoding; expected one such as utf-8,"
            " gb18030, cp1252 or utf-16."
        )


__all__ = [
    "COUNTED_BY_RECORDS",
    "PARTITIONED_BY_COLUMN",
    "PARTITIONERS",
    "DataConfig",
    "encoding_problems",
]
