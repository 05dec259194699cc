"""``metrics.jsonl``, one metric a line, and the trackers that get the same lines."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from confide.errors import StorageError
from confide.protocol.masked_sums import EVERYBODY
from confide.protocol.messages import Evaluation
from confide.server.rounds.state import RoundRecord, RunState
from confide.server.trackers.tracker import Metric, Tracker


class MetricsSink:
    """Writes every metric as a line of ``round, phase, client, name, value, num_examples``.

    Args:
        path: the file; each line is on disk's way before the next round begins.
        tracker: gets the same lines, once the file has them; None for the file alone.

    Raises:
        StorageError: here or later, if the file cannot be written.
    """

    def __init__(self, path: Path, tracker: Tracker | None = None) -> None:
        self._path, self._tracker = path, tracker
        self._new: list[Metric] = []
        try:
            # Anew: a process that goes on writes earlier rounds again from their records.
            self._file = path.open("w", encoding="utf-8")
        except OSError as error:
            raise self._failed(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._file.close()
        except OSError as failure:
            # The error that ended the run says more than a file that cannot be closed after it.
            if error is None:
                raise self._failed(failure) from None

    def started(self, clients: Mapping[str, int]) -> None:
        """Write declared sizes."""
        for name, count in clients.items():
            self._write(0, "enrol", name, "num_examples", count, count)
        self._flush()

    def resumed(self, state: RunState) -> None:
        """Write again what earlier rounds left.

        Whatever a killed process wrote, each metric stands there once.
        """
        for record in state.history:
            self._record(record)
            self._flush()

    def round_done(self, state: RunState) -> None:
        """Write a round's metrics."""
        self._record(state.history[-1])
        self._flush()

    def _record(self, record: RoundRecord) -> None:
        """Write a round; its validation belongs to the round before, whose tensors were scored."""
        self._evaluations(record.server_round - 1, "validation", record.validation)
        for name, value in record.epsilon.items():
            self._write(record.server_round, "privacy", name, "epsilon", value, None)
        for name, told in record.with_peers.items():
            for figure, value in told.items():
                self._write(record.server_round, "privacy", name, figure, value, None)
        for name, steps in record.steps.items():
            self._write(record.server_round, "train", name, "steps", steps, None)
        figures = ["bytes_up", "bytes_down", "seconds"]
        figures += ["virtual_s"] if record.virtual_s is not None else []
        for name in figures:
            self._write(record.server_round, "train", None, name, getattr(record, name), None)

    def evaluated(
        self, split: str, server_round: int, evaluations: Mapping[str, Evaluation]
    ) -> None:
        """Write the evaluation of a round's tensors."""
        self._evaluations(server_round, split, evaluations)
        self._flush()

    def by_group(self, server_round: int, subgroups: Mapping[str, Any]) -> None:
        """Write what is told of groups of test records: ``accuracy[sex=Female]``.

        Args:
            server_round: of the tensors.
            subgroups: a summary's ``evaluation.subgroups``.
        """
        for column, told in subgroups.get("columns", {}).items():
            for one in told["groups"]:
                support = round(one["records"]["value"])
                for name, figure in one["measures"].items():
                    if figure["value"] is not None:
                        key = f"{name}[{column}={one['group']}]"
                        self._write(server_round, "test", None, key, figure["value"], support)
        self._flush()

    def _flush(self) -> None:
        try:
            self._file.flush()
        except OSError as error:
            raise self._failed(error) from None
        # Trackers hear of what is in the file, so that neither says more than the other.
        new, self._new = self._new, []
        if self._tracker is not None and new:
            self._tracker.log(new)

    def _failed(self, error: OSError) -> StorageError:
        return StorageError(
            f"{self._path} cannot be written: {error}. Free space; checkpoints that were written"
            " stand."
        )

    def _evaluations(
        self, server_round: int, phase: str, evaluations: Mapping[str, Evaluation]
    ) -> None:
        for named, metrics in evaluations.items():
            client = None if named == EVERYBODY else named
            for name, value in metrics.items():
                if name != "num_examples":
                    self._write(
                        server_round, phase, client, name, value, int(metrics["num_examples"])
                    )

    def _write(
        self,
        server_round: int,
        phase: str,
        client: str | None,
        name: str,
        value: float,
        support: int | None,
    ) -> None:
        line: Metric = {
            "round": server_round,
            "phase": phase,
            "client": client,
            "name": name,
            "value": value,
            "num_examples": support,
        }
        try:
            self._file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise self._failed(error) from None
        self._new.append(line)


__all__ = ["MetricsSink"]
