"""What a run tells whoever shows its progress; the views themselves are in ``server/progress``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, Self

from confide.server.rounds.outcome import Observer


class ProgressView(Observer, Protocol):
    """A view of progress: an observer that is also told of phases, and of the end."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def planned(self, *, epsilon_budget: float | None) -> None:
        """Take, before the rounds, the epsilon that an institution may spend; None: no privacy."""

    def phase(self, title: str, *, total: int) -> None:
        """Begin a phase of ``total`` rounds or steps."""

    def advance(self, note: str = "") -> None:
        """Finish one step of a phase that is not made of rounds."""

    def finished(self, summary: Mapping[str, Any], run_dir: Path) -> None:
        """Take the summary of a run that has ended; the last call."""

    def failed(self, reason: str) -> None:
        """Take the reason why a run ended without a model; the last call.

        The command itself prints the reason on stderr.
        """


__all__ = ["ProgressView"]
