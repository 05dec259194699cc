"""Clients on Ray: the same weights as inline, whatever dies."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import ray
from small_federation import Small, Spy
from stopped_run import Simulate, confide_simulate

from confide.config.composing.compose import compose
from confide.config.simulation import RayConfig
from confide.errors import ConfigError, RunFailedError
from confide.flower.processes import free_port
from confide.server.rounds.outcome import Outcome
from confide.simulations.cluster.engine import ray_engine
from confide.simulations.engines.pool_engine import PoolEngine
from confide.storage.tensor_files import sha256

OnRay = Callable[..., PoolEngine]
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # Ray's own files


def assert_same(found: Outcome, expected: Outcome) -> None:
    assert sha256(found.state.params) == sha256(expected.state.params)
    for one, other in zip(found.state.history, expected.state.history, strict=True):
        assert (one.accepted, one.refused, one.epsilon) == (
            other.accepted,
            other.refused,
            other.epsilon,
        )


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def soon(act: Callable[[], None], *, after: int) -> Spy:
    """Do something in the round after this one, while it is under way."""
    thread = threading.Thread(target=lambda: (time.sleep(0.1), act()))
    return Spy(after=lambda server_round: thread.start() if server_round == after else None)


@pytest.mark.usefixtures("own_ray")
def test_two_actors_give_the_inline_model_when_one_is_killed_in_a_round(
    on_ray: OnRay, caplog: pytest.LogCaptureFixture
) -> None:
    small = Small("privacy=record", "client.local_steps=100")
    engine = on_ray(small, 2)
    killer = soon(lambda: kill(engine.pool.pids[0]), after=2)
    assert_same(small.run(engine, killer), small.run(small.inline()))
    assert "it is replaced and its clients run again" in caplog.text


@pytest.mark.slow
@pytest.mark.usefixtures("own_ray")
@pytest.mark.parametrize("strategy", ["fedavg", "fedprox", "flower"])
def test_plain_strategies_give_the_inline_model(on_ray: OnRay, strategy: str) -> None:
    small = Small(f"strategy={strategy}")
    assert_same(small.run(on_ray(small, 2)), small.run(small.inline()))


@pytest.mark.slow
@pytest.mark.usefixtures("own_ray")
def test_actors_killed_at_any_instant_change_nothing(on_ray: OnRay) -> None:
    patient = ("server.num_rounds=6", "server.round_timeout_s=300")  # an actor starts in seconds
    small = Small("privacy=record", "client.local_steps=100", *patient)
    engine, killed, stop = on_ray(small, 2), [], threading.Event()

    def kill_now_and_then() -> None:
        while len(killed) < 4 and not stop.wait(0.7):
            pid = engine.pool.pids[len(killed) % 2]
            if pid:  # 0 while it starts
                kill(pid)
                killed.append(pid)

    killer = threading.Thread(target=kill_now_and_then)
    try:
        found = small.run(engine, Spy(after=lambda n: killer.start() if n == 1 else None))
    finally:
        stop.set()
    assert killed
    assert_same(found, small.run(small.inline()))


@pytest.mark.usefixtures("own_ray")
def test_closing_ends_the_actors_and_leaves_a_ray_that_others_use(on_ray: OnRay) -> None:
    small = Small("server.num_rounds=1")
    engine = on_ray(small, 1)
    small.run(engine)
    (pid,) = engine.pool.pids
    engine.close()
    end = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()
    assert ray.is_initialized()


@pytest.mark.slow
@pytest.mark.usefixtures("own_ray")
def test_actors_that_cannot_start_end_the_run_with_the_reason() -> None:
    small = Small()
    engine = ray_engine(
        small.data,
        make_trainer=int,  # type: ignore[arg-type]
        initial=small.initial,
        setup=small.setup,
        config=RayConfig(),
        workers=1,
    )
    with pytest.raises(RunFailedError, match=r"Workers end while starting .*'int' object"):
        small.run(engine)
    engine.close()


@pytest.mark.usefixtures("own_ray")
@pytest.mark.parametrize(
    ("workers", "config", "message"),
    [
        (3, RayConfig(), "simulation.workers=3: the cluster has room for 2 of simulation.ray.cpus"),
        (None, RayConfig(cpus=8), "no machine of the cluster has as many .in all it has 2 CPUs"),
        (None, RayConfig(gpus=1), "simulation.ray.gpus=1: no machine of the cluster has as many"),
    ],
)
def test_what_a_cluster_has_no_room_for_is_refused(
    on_ray: OnRay, workers: int | None, config: RayConfig, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        on_ray(Small(), workers, config)


@pytest.mark.usefixtures("own_ray")
def test_another_cluster_than_the_one_that_was_joined_is_refused(on_ray: OnRay) -> None:
    with pytest.raises(ConfigError, match=r"address=10\.0\.0\.4:6379: this process has joined"):
        on_ray(Small(), 1, RayConfig(address="10.0.0.4:6379"))


@pytest.mark.parametrize("address", ["auto", "ray://head:10001", "head", "head:port"])
def test_an_address_without_a_port_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match=r"simulation\.ray\.address=.*: expected host:port"):
        compose(["simulation.engine=ray", f"simulation.ray.address='{address}'"])


def test_without_ray_the_extra_that_brings_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    with pytest.raises(
        ConfigError, match=r"simulation\.engine=ray: .*pip install 'confide\[ray\]'"
    ):
        compose(["simulation.engine=ray"])
    compose(["simulation.engine=process"])


def test_an_address_where_nobody_answers_is_told_at_once(tmp_path: Path) -> None:
    words = ["experiment=heart_disease", "simulation.engine=ray", "data.max_records=40"]
    address = f"simulation.ray.address=127.0.0.1:{free_port()}"
    done = confide_simulate(
        *words,
        "data.partitioner=iid",
        "data.num_clients=2",
        address,
        f"hydra.run.dir={tmp_path / 'run'}",
    )
    assert done.returncode == 2
    assert f"{address}: no Ray answers there" in done.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("own_ray")
@pytest.mark.parametrize(
    "more",
    [
        ("strategy=scaffold",),
        ("privacy=record", "client.ledger={0}/ledgers", "policy.budget.epsilon=20", "job=one"),
        ("aggregation=secure", "aggregation.simulated=real"),
    ],
)
def test_what_institutions_keep_in_files_is_as_inline(
    run: Simulate, tmp_path: Path, more: Sequence[str]
) -> None:
    heart = ("experiment=heart_disease", "simulation.baselines=[]", "server.num_rounds=3")
    engines = {"inline": (), "ray": ("simulation.engine=ray", "simulation.workers=2")}
    told = {
        name: run(*heart, *engine, *(word.format(tmp_path / name) for word in more), name=name)
        for name, engine in engines.items()
    }
    assert told["ray"]["model_sha256"] == told["inline"]["model_sha256"]
    assert told["ray"]["clients"] == told["inline"]["clients"]
    assert not list(tmp_path.rglob(".confide-*"))


@pytest.mark.slow
@pytest.mark.usefixtures("own_ray")
def test_a_run_goes_on_from_another_as_inline(run: Simulate, tmp_path: Path) -> None:
    heart = ("experiment=heart_disease", "simulation.baselines=[]", "server.num_rounds=2")
    private = ("privacy=record", "client=table")
    first = run(*heart, *private, "data.until=0.75", name="first")
    more = ("backbone=run", f"backbone.path={tmp_path / 'first'}", "data.old_before=0.75")
    inline = run(*heart, *private, *more, "strategy=l2_sp", name="inline")
    engine = ("simulation.engine=ray", "simulation.workers=2")
    spread = run(*heart, *private, *more, "strategy=l2_sp", *engine, name="ray")
    assert spread["model_sha256"] == inline["model_sha256"] != first["model_sha256"]
    assert spread["release"] == inline["release"]
    assert spread["lineage"] == inline["lineage"]
