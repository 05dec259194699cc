"""A table for spreadsheets: ``RUN/metrics.csv``, one row per line of ``metrics.jsonl``."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from confide.config.tracking import TrackingConfig
from confide.server.trackers.tracker import Metric

FILE = "metrics.csv"


class CsvTracker:
    """Writes the table from the first round on; a resumed run writes it again."""

    def begin(self, name: str, config: Mapping[str, object], run_dir: Path) -> None:
        """Open the file and write the names of the columns."""
        self._file = (run_dir / FILE).open("w", encoding="utf-8", newline="")
        self._writer = csv.DictWriter(self._file, fieldnames=list(Metric.__annotations__))
        self._writer.writeheader()
        self._file.flush()

    def log(self, metrics: Sequence[Metric]) -> None:
        """Write rows."""
        self._writer.writerows(metrics)
        # So that a run that is killed leaves the rounds that it finished.
        self._file.flush()

    def finish(self, summary: Mapping[str, Any] | None) -> None:
        """Close the file."""
        self._file.close()


def make_tracker(settings: TrackingConfig) -> CsvTracker:
    """Make it of its settings."""
    return CsvTracker()


__all__ = ["FILE", "CsvTracker", "make_tracker"]
