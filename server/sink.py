"""Where metrics go: ``metrics.jsonl``, one object a line."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from confide.exchange import Evaluation
from confide.server.state import RunState


class MetricsSink:
    """Writes every metric as a line of ``round, phase, client, name, value, num_examples``.

    Args:
        path: the file; each line is on disk's way before the next round begins.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def started(self, clients: Mapping[str, int]) -> None:
        """Write declared sizes."""
        for name, count in clients.items():
            self._write(0, "enrol", name, "num_examples", count, count)
        self._file.flush()

    def round_done(self, state: RunState) -> None:
        """Write a round's metrics; validation belongs to the round before, whose tensors were scored."""
        record = state.history[-1]
        self._evaluations(record.server_round - 1, "validation", record.validation)
        for name, value in record.epsilon.items():
            self._write(record.server_round, "privacy", name, "epsilon", value, None)
        for name in ("bytes_up", "bytes_down", "seconds"):
            self._write(record.server_round, "train", None, name, getattr(record, name), None)
        self._file.flush()

    def evaluated(self, split: str, server_round: int, evaluations: Mapping[str, Evaluation]) -> None:
        """Write the evaluation of a round's tensors."""
        self._evaluations(server_round, split, evaluations)
        self._file.flush()

    def _evaluations(self, server_round: int, phase: str, evaluations: Mapping[str, Evaluation]) -> None:
        for client, metrics in evaluations.items():
            for name, value in metrics.items():
                if name != "num_examples":
                    self._write(server_round, phase, client, name, value, int(metrics["num_examples"]))

    def _write(self, server_round: int, phase: str, client: str | None, name: str, value: float, support: int | None) -> None:
        line = {
            "round": server_round,
            "phase": phase,
            "client": client,
            "name": name,
            "value": value,
            "num_examples": support,
        }
        self._file.write(json.dumps(line) + "\n")


__all__ = ["MetricsSink"]
