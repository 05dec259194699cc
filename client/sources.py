"""Where records come from."""

from pathlib import Path

import pandas
from datasets import Dataset

from confide.backbones import PACKAGE_SCHEME, resolve_package_path
from confide.errors import DataError


def load_records(reference: str) -> Dataset:
    """Read a CSV file, every value as text; the task's schema says what it means.

    Records stay in memory: no copy is left in a cache outside the institution's own folders.

    Args:
        reference: a path, or ``pkg://PACKAGE/FILE`` inside an installed package.

    Raises:
        DataError: if the file is not there or is not CSV.
    """
    try:
        path = resolve_package_path(reference) if reference.startswith(PACKAGE_SCHEME) else Path(reference)
        frame = pandas.read_csv(path, dtype="string", encoding_errors="replace")
    except FileNotFoundError as error:
        raise DataError(
            f"data.path={error}" if reference.startswith(PACKAGE_SCHEME) else f"data.path={reference}: no such file."
        ) from None
    except (pandas.errors.ParserError, pandas.errors.EmptyDataError, OSError) as error:
        raise DataError(f"data.path={reference}: cannot be read as a CSV file: {error}") from None
    return Dataset.from_pandas(frame, preserve_index=False)


__all__ = ["load_records"]
