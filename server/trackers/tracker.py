"""What a tracker is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypedDict


class Metric(TypedDict):
    """One line of ``metrics.jsonl``.

    ``round`` is the round whose tensors were scored, 0 for the initial ones; ``phase`` one of
    enrol, train, privacy, validation, test; ``client`` an institution's name, None for the whole;
    ``num_examples`` the support, where there is one.
    """

    round: int
    phase: str
    client: str | None
    name: str
    value: float
    num_examples: int | None


class Tracker(Protocol):
    """Takes the metrics of one run, by this process.

    A run that is resumed is begun again by another process, which logs everything from the first
    round on, in the same calls: a tracker either starts from nothing, or leaves out what it has.
    """

    def begin(self, name: str, config: Mapping[str, object], run_dir: Path) -> None:
        """Begin a run.

        Args:
            name: for people; two runs may share it.
            config: dotted key -> value, passwords masked.
            run_dir: RUN; what a tracker keeps on this machine is under it.
        """

    def log(self, metrics: Sequence[Metric]) -> None:
        """Take what a round, or the beginning or the end, has brought.

        It is called often, so be quick.
        """

    def finish(self, summary: Mapping[str, Any] | None) -> None:
        """End the run: with ``summary.json``, whose ``status`` may be failed.

        None where it was stopped and may go on.
        """


__all__ = ["Metric", "Tracker"]
