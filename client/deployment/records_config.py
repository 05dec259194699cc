"""Where an institution's records are, as client.yaml says it."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from confide.config.data import (
    ARRIVAL_COLUMN,
    OLD_BEFORE,
    UNTIL,
    DataConfig,
    arrival_problems,
    encoding_problems,
)
from confide.config.fields import setting

_UNSET = "???"


@dataclass
class RecordsConfig:
    """The institution's records."""

    path: str = setting(
        _UNSET,
        "A file (.csv, .tsv, .jsonl, .ndjson, .json, .parquet, .arrow, .conll, .npz),"
        " pkg://PACKAGE/FILE, a folder of pictures or sounds (CLASS/FILE), or a database's"
        " SQLAlchemy URL.",
    )
    query: str | None = setting(None, "SELECT ..., where path is a database's URL.")
    encoding: str = setting("utf-8", "Encoding of text files, such as gb18030 or cp1252.")
    encoding_errors: str = setting(
        "strict",
        "strict: refuse a file with bytes that are no character in this encoding; replace: put"
        " U+FFFD in their place.",
        choices=("strict", "replace"),
    )

    def problems(self) -> Iterator[str]:
        """Yield contradictions, one sentence each."""
        yield from encoding_problems(self.encoding)
        yield from arrival_problems(self.arrival_column, self.until, self.old_before)

    in_memory_mb: int = setting(
        1024, "MiB of records held in memory; more goes to an unlinked temporary file.", ge=0
    )
    id_column: str | None = setting(
        None, "Column that identifies a record; null: its content identifies it."
    )
    group_column: str | None = setting(
        None,
        "Column that identifies a record's owner; null if ungrouped. The unit of"
        " privacy.unit=group.",
    )
    public: bool = setting(
        False,
        "Whether anybody may read these records. Only then, and with"
        " policy.allow_reproducible_noise and a plan's seed, noise follows from institution, job"
        " and round, as in a simulation on public records.",
    )
    validation: float = setting(0.1, "Share of units for validation.", ge=0, lt=1)
    test: float = setting(0.2, "Share of units for test.", ge=0, lt=1)
    arrival_column: str | None = setting(None, ARRIVAL_COLUMN)
    until: str | None = setting(None, UNTIL)
    old_before: str | None = setting(None, OLD_BEFORE)

    def as_data(self, folder: Path = Path()) -> DataConfig:
        """Return these settings as those of a simulation's only institution.

        Args:
            folder: folder that a relative path starts at.
        """
        path = self.path if "://" in self.path else str(folder / Path(self.path).expanduser())
        return DataConfig(
            **{**dataclasses.asdict(self), "path": path},
            num_clients=1,
            min_per_label=0,
        )


__all__ = ["RecordsConfig"]
