"""A table for a spreadsheet: ``RUN/metrics.csv``, a line a metric, with the columns of ``metrics.jsonl``."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from confide.server.trackers.tracker import Metric

FILE = "metrics.csv"


class CsvTracker:
    """Writes the table anew from the first round on; the file grows a round at a time."""

    def begin(self, name: str, config: Mapping[str, object], run_dir: Path) -> None:
        """Open the file and write the names of the columns."""
        self._file = (run_dir / FILE).open("w", encoding="utf-8", newline="")
        self._writer = csv.DictWriter(self._file, fieldnames=list(Metric.__annotations__))
        self._writer.writeheader()
        self._file.flush()

    def log(self, metrics: Sequence[Metric]) -> None:
        """Write lines."""
        self._writer.writerows(metrics)
        self._file.flush()

    def finish(self, summary: Mapping[str, Any] | None) -> None:
        """Close the file."""
        self._file.close()


__all__ = ["FILE", "CsvTracker"]
