"""The protocol of trackers, and the type of a metric."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypedDict


class Metric(TypedDict):
    """One line of ``metrics.jsonl``.

    Attributes:
        round: round whose tensors were scored; 0 for the initial ones.
        phase: one of enrol, train, privacy, validation, test.
        client: name of the institution; None for the whole federation.
        name: name of the metric.
        value: its value.
        num_examples: number of records scored; None if the metric has no support.
    """

    round: int
    phase: str
    client: str | None
    name: str
    value: float
    num_examples: int | None


class Tracker(Protocol):
    """Receives the metrics of one run from one process.

    A resumed run is begun again by another process, which makes the same calls from the first round
    on: a tracker either starts from scratch or skips what it already has.
    """

    def begin(self, name: str, config: Mapping[str, object], run_dir: Path) -> None:
        """Begin a run.

        Args:
            name: name for people; two runs may have the same.
            config: settings by dotted key, with passwords masked.
            run_dir: folder of the run, under which a tracker keeps its files.
        """

    def log(self, metrics: Sequence[Metric]) -> None:
        """Receive the metrics of a round, of the beginning, or of the end.

        The run waits for it.

        Args:
            metrics: new metrics, in the order of rounds.
        """

    def finish(self, summary: Mapping[str, Any] | None) -> None:
        """End the run.

        Args:
            summary: content of ``summary.json``, whose ``status`` may be failed; None if the run
                was stopped and may be resumed.
        """


__all__ = ["Metric", "Tracker"]
