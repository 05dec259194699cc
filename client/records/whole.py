"""Records to predict on, whole: including columns that the model does not need."""

from collections.abc import Sequence

from datasets import Dataset

from confide.client.records.sources import column_names, load_records
from confide.errors import ConfigError, DataError
from confide.security.redaction import redact

IN_MEMORY_MB = 1024
"""MiB of records held in memory; more goes to an unlinked temporary file."""


def read_whole(
    path: str, *, query: str | None, needed: Sequence[str], keep: Sequence[str] | None
) -> tuple[Dataset, list[str]]:
    """Read records.

    Args:
        path: path of a file, ``pkg://PACKAGE/FILE`` or a database's URL.
        query: SQL query, if ``path`` is a URL.
        needed: names of columns to read if they exist.
        keep: names of further columns; None for all.

    Returns:
        The records, and the names of the columns kept.

    Raises:
        ConfigError: if a column to keep does not exist.
        DataError: if the source cannot be read, or has none of the columns.
    """
    try:
        names = column_names(path, query=query)
        kept = list(names if keep is None else keep)
        lacking = [name for name in kept if name not in names]
        if lacking:
            raise ConfigError(
                f"--keep: {redact(path)} has no column {', '.join(lacking)}; it has"
                f" {', '.join(names)}."
            )
        columns = [name for name in names if name in {*needed, *kept}]
        if not columns:
            raise DataError(
                f"{redact(path)} has none of {', '.join(needed)}; it has {', '.join(names)}. Rename"
                " its columns."
            )
        return load_records(path, columns, in_memory_mb=IN_MEMORY_MB, query=query).records, kept
    except DataError as error:
        # Its words are for the setting of a run; here the path came from the command line
        raise DataError(
            [problem.removeprefix("data.path=") for problem in error.problems]
        ) from None


__all__ = ["IN_MEMORY_MB", "read_whole"]
