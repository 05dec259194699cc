"""A sink with trackers behind it, and a run told to it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from confide.config.composing.compose import compose
from confide.server.rounds.state import RoundRecord, RunState
from confide.server.run.metrics_log import MetricsSink
from confide.server.trackers.build import tracked

Track = Callable[..., None]
SUMMARY = {
    "status": "completed",
    "rounds": 3,
    "model_sha256": "ab" * 32,
    "federated": {"accuracy": 0.75, "test_examples": 8},
}


def state(rounds: int, clients: int) -> RunState:
    names = [f"bank-{n}" for n in range(1, clients + 1)]
    history = tuple(
        RoundRecord(
            server_round=r,
            accepted=tuple(names),
            validation={
                name: {"accuracy": r / 10 + n / 100, "num_examples": n + 1}
                for n, name in enumerate(names)
            },
            epsilon={name: r + n / 100 for n, name in enumerate(names)},
            seconds=0.25,
        )
        for r in range(1, rounds + 1)
    )
    return RunState(
        server_round=rounds, params={"w": torch.zeros(1)}, strategy_state={}, history=history
    )


@pytest.fixture
def track(tmp_path: Path) -> Track:
    """Tell trackers of rounds ``after + 1 ... rounds``, in RUN = ``tmp_path``.

    With ``ends``, to the end.
    """

    def tell(
        *overrides: str, rounds: int = 3, after: int = 0, clients: int = 2, ends: bool = True
    ) -> None:
        config = compose(overrides)
        with (
            tracked(config, tmp_path, job="trial") as tracker,
            MetricsSink(tmp_path / "metrics.jsonl", tracker) as sink,
        ):
            sink.started({f"bank-{n}": 10 * n for n in range(1, clients + 1)})
            if after:
                sink.resumed(state(after, clients))
            for r in range(after + 1, rounds + 1):
                sink.round_done(state(r, clients))
            if ends:
                sink.evaluated("test", rounds, {"bank-1": {"accuracy": 0.5, "num_examples": 4}})
                tracker.finish(SUMMARY)

    return tell
