"""``metrics.jsonl``, read back."""

import json
from pathlib import Path

import pandas

from confide.errors import UnreadableError

COLUMNS = ("round", "phase", "client", "name", "value", "num_examples")


def read_metrics(folder: Path) -> pandas.DataFrame:
    """Read ``metrics.jsonl``, without a last line that a killed process left half-written.

    Raises:
        UnreadableError: if another line is damaged.
    """
    path = folder / "metrics.jsonl"
    try:
        lines = path.read_text().split("\n")
    except FileNotFoundError:
        lines = []
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error}.") from None
    try:
        # What follows the last line break is empty, or a line that was never finished
        rows = [json.loads(line) for line in lines[:-1]]
    except json.JSONDecodeError as error:
        raise UnreadableError(f"{path} is damaged: {error}.") from None
    return pandas.DataFrame(rows, columns=list(COLUMNS))


__all__ = ["COLUMNS", "read_metrics"]
