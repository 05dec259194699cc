"""The process engine: the same weights as inline, whatever dies."""

import gc
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_federation import HEART, Small, Spy

from confide.client.records.encoded import InstitutionData
from confide.config import simulation
from confide.errors import RunFailedError
from confide.simulations.engines.engine import ENGINES
from confide.simulations.engines.pool_engine import PoolEngine
from confide.simulations.engines.process import process_engine
from confide.simulations.engines.shared_memory import SharedBlock, SharedRecords
from confide.storage.tensor_files import sha256
from confide.tasks.task import LABELS, Examples

Simulate = Callable[..., dict[str, Any]]
TWEETS = (
    "experiment=tweets",
    "tuning=lora",
    "backbone.num_hidden_layers=2",
    "data.max_records=160",
    "data.num_clients=3",
    "data.partitioner=iid",
    "server.num_rounds=2",
    "client.local_steps=2",
    "client.optimizer.learning_rate=0.1",
    "task.max_tokens=16",
    "simulation.baselines=[]",
    "trainer.num_threads=1",
)


def process(workers: int) -> tuple[str, str]:
    return "simulation.engine=process", f"simulation.workers={workers}"


@pytest.fixture
def closing() -> Iterator[Callable[[PoolEngine], PoolEngine]]:
    engines: list[PoolEngine] = []

    def register(engine: PoolEngine) -> PoolEngine:
        engines.append(engine)
        return engine

    yield register
    for engine in engines:
        engine.close()


Closing = Callable[[PoolEngine], PoolEngine]


def test_every_engine_that_a_config_may_name_can_be_built() -> None:
    assert ENGINES.keys() == set(simulation.ENGINES)


@pytest.mark.parametrize(
    ("privacy", "counts"),
    [("none", (2,)), ("record", (3,)), pytest.param("record", (1, 2, 3), marks=pytest.mark.slow)],
)
def test_every_number_of_workers_gives_the_inline_model_on_heart(
    run: Simulate, privacy: str, counts: tuple[int, ...]
) -> None:
    overrides = (*HEART, f"privacy={privacy}", "server.num_rounds=3")
    expected = run(*overrides, name="inline")
    for workers in counts:
        summary = run(*overrides, *process(workers), name=f"process-{workers}")
        assert summary["model_sha256"] == expected["model_sha256"]
        assert summary["clients"] == expected["clients"]
        assert summary["federated"] == expected["federated"]
        assert summary["engine"]["name"] == "process"


@pytest.mark.slow
@pytest.mark.parametrize("counts", [(2,), (1, 3)])
def test_every_number_of_workers_gives_the_inline_model_on_tweets(
    run: Simulate, counts: tuple[int, ...]
) -> None:
    engines = {"inline": (), **{f"process-{workers}": process(workers) for workers in counts}}
    digests = {run(*TWEETS, *engine, name=name)["model_sha256"] for name, engine in engines.items()}
    assert len(digests) == 1


@pytest.mark.parametrize(
    "strategy", ["feddyn", "scaffold", "flower", pytest.param("fedadam", marks=pytest.mark.slow)]
)
def test_strategies_give_the_inline_model(run: Simulate, strategy: str) -> None:
    overrides = (*HEART, f"strategy={strategy}", "server.num_rounds=3")
    digests = {
        run(*overrides, *engine, name=str(len(engine)))["model_sha256"]
        for engine in ((), process(2))
    }
    assert len(digests) == 1


def test_noisy_scores_are_the_inline_engines_and_are_counted_over_workers(run: Simulate) -> None:
    noisy = (
        "policy.metrics_privacy=noisy",
        "privacy=record",
        "privacy.epsilon=30",
        "server.num_rounds=2",
        "server.keep=best",
        *HEART,
    )
    inline, spread = run(*noisy), run(*noisy, *process(2))
    for part in ("federated", "federated_validation", "model_sha256", "best"):
        assert spread[part] == inline[part]
    assert inline["federated"]["accuracy_noise"] > 0
    assert "validation and test metrics" not in inline["privacy"]["not_protected"]
    assert all(abs(line["epsilon"] - 30) < 0.1 for line in spread["clients"].values())


def test_baselines_are_the_same(run: Simulate) -> None:
    overrides = (
        "experiment=heart_disease",
        "privacy=record",
        "server.num_rounds=2",
        "trainer.feature_cache=null",
    )
    inline, processes = (
        run(*overrides, *engine, name=str(len(engine)))["baselines"] for engine in ((), process(2))
    )
    assert inline == processes


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["fedavg", "flower"])
def test_a_worker_killed_at_any_instant_changes_nothing(closing: Closing, strategy: str) -> None:
    small = Small(f"strategy={strategy}", "privacy=record", "server.num_rounds=6")
    expected = small.run(small.inline())
    engine = closing(small.processes(2))
    killed, stop = [], threading.Event()

    def kill_now_and_then() -> None:
        while len(killed) < 4 and not stop.wait(0.3):
            pid = engine.pool.pids[len(killed) % 2]
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    killer = threading.Thread(target=kill_now_and_then)
    try:
        outcome = small.run(
            engine, Spy(after=lambda server_round: killer.start() if server_round == 1 else None)
        )
    finally:
        stop.set()
    assert killed
    assert sha256(outcome.state.params) == sha256(expected.state.params)
    assert [record.accepted for record in outcome.state.history] == [
        record.accepted for record in expected.state.history
    ]
    assert [record.epsilon for record in outcome.state.history] == [
        record.epsilon for record in expected.state.history
    ]


def test_a_worker_killed_between_rounds_is_replaced(
    closing: Closing, caplog: pytest.LogCaptureFixture
) -> None:
    small = Small()
    engine = closing(small.processes(2))
    before = engine.pool.pids
    outcome = small.run(
        engine,
        Spy(
            after=lambda server_round: (
                os.kill(before[0], signal.SIGKILL) if server_round == 2 else None
            )
        ),
    )
    assert sha256(outcome.state.params) == sha256(small.run(small.inline()).state.params)
    assert engine.pool.pids[0] != before[0]
    assert engine.pool.pids[1] == before[1]
    assert "it is replaced and its clients run again" in caplog.text


@pytest.mark.slow
def test_a_client_that_really_hangs_is_left_out_alone(closing: Closing) -> None:
    small = Small("privacy=record", "server.num_rounds=3", "server.round_timeout_s=12")
    engine = closing(small.processes(2))
    stalled: list[int] = []

    def stall(server_round: int) -> None:  # a worker that stands still, with clients behind it
        if server_round == 1:
            stalled.append(engine.pool.pids[0])
            os.kill(stalled[0], signal.SIGSTOP)

    outcome = small.run(engine, Spy(after=stall))
    assert stalled
    assert engine.pool.pids[0] != stalled[0]
    assert sha256(outcome.state.params) == sha256(small.run(small.inline()).state.params)
    assert [record.refused for record in outcome.state.history] == [{}, {}, {}]


def test_much_that_goes_both_ways_blocks_nobody(closing: Closing) -> None:
    small = Small(
        "strategy=flower",
        "server.num_rounds=2",
        "backbone=mlp",
        "backbone.hidden=[4000]",
        "client.local_steps=1",
    )
    outcome = small.run(closing(small.processes(1)))  # updates of 0.5 MB each, which are not summed
    assert sha256(outcome.state.params) == sha256(small.run(small.inline()).state.params)


def test_workers_that_cannot_start_end_the_run_with_the_reason(closing: Closing) -> None:
    small = Small()
    engine = closing(
        process_engine(
            SharedRecords(small.data),
            make_trainer=os._exit,  # type: ignore[arg-type]
            initial=small.initial,
            setup=small.setup,
            workers=1,
        )
    )
    with pytest.raises(RunFailedError, match=r"Workers end while starting \(exit code 0\)"):
        small.run(engine)


def test_closing_ends_every_worker() -> None:
    small = Small("server.num_rounds=1")
    engine = small.processes(2)
    small.run(engine)
    pids = engine.pool.pids
    engine.close()
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_workers_read_the_records_that_the_coordinator_wrote() -> None:
    columns = {"input_ids": torch.arange(6).view(3, 2), LABELS: torch.tensor([0, 1, 0])}
    examples = Examples(columns, torch.tensor([2, 1, 2]), {"input_ids": 0})
    empty = Examples({"features": torch.empty((0, 3)), LABELS: torch.empty(0, dtype=torch.int64)})
    shared = SharedRecords({"bank": InstitutionData(train=examples, validation=empty, test=empty)})
    found = shared["bank"]
    assert found.train.columns["input_ids"].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert found.train.lengths is not None
    assert found.train.lengths.tolist() == [2, 1, 2]
    assert found.train.ragged == {"input_ids": 0}
    assert (len(found.validation), found.validation.columns["features"].shape) == (0, (0, 3))


def test_shared_memory_is_given_back() -> None:
    gc.collect()  # what earlier tests left
    before = len(os.listdir("/proc/self/fd"))
    block = SharedBlock(1024)
    part = block.tensor(torch.int64, (4,), 64)
    del block
    gc.collect()
    part += 3  # a tensor keeps the memory
    assert part.tolist() == [3, 3, 3, 3]
    del part
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before
