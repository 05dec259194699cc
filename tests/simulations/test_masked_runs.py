"""Whole runs under masks: the plain run's model, bit for bit, whatever drops out or is killed."""

import signal
from pathlib import Path

import pytest
from stopped_run import Simulate, killed_at

from confide.errors import RunFailedError
from confide.simulations.engines.preload import CONTEXT, prepare_workers

EMULATED = ("aggregation=secure",)
REAL = (*EMULATED, "aggregation.simulated=real")
PROCESS = ("simulation.engine=process", "simulation.workers=2")
PRIVATE = ("privacy=record", "privacy.epsilon=3")
HEART = ("experiment=heart_disease", "simulation.baselines=[]", "server.num_rounds=3")
SEVEN = (
    "experiment=synthetic_logistic",
    "data.num_clients=7",
    "simulation.baselines=[]",
    "server.num_rounds=3",
    "server.round_timeout_s=20",
)
ADAPTERS = (
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
TREES = (
    "experiment=heart_trees",
    "backbone.num_trees=2",
    "backbone.depth=2",
    "simulation.baselines=[]",
)
MODELS = {"adapters": ADAPTERS, "trees": TREES}
KINDS = {
    "fedavg": (),
    "private": PRIVATE,
    "fedprox": ("strategy=fedprox",),
    "scaffold": ("strategy=scaffold", *PRIVATE),
    "fedadam": ("strategy=fedadam", "strategy.server_optimizer.learning_rate=0.05"),
    "gradient_sum": ("client=private_table", *PRIVATE, "server.num_rounds=3"),
    "uniform": ("strategy.aggregator.weighting=uniform",),
    "one gone": (*PRIVATE, "simulation.faults=[{kind: raises, client: Hungary, rounds: [2]}]"),
    "32 bits": (*PRIVATE, "aggregation.sum_bits=32"),
}


def model(run: Simulate, *words: str, name: str) -> str:
    digest: str = run(*words, name=name)["model_sha256"]
    return digest


@pytest.mark.parametrize("kind", KINDS)
def test_masks_change_no_bit_of_the_model(run: Simulate, kind: str) -> None:
    words = (*HEART, *KINDS[kind])
    plain = model(run, *words, name="plain")
    assert model(run, *words, *EMULATED, name="emulated") == plain
    assert model(run, *words, *REAL, name="masked") == plain


def test_a_sum_of_too_few_ends_a_run_that_goes_on_without_who_is_gone(run: Simulate) -> None:
    gone = "simulation.faults=[{kind: raises, client: Hungary, rounds: [2]}]"
    words = (*HEART, *PRIVATE, *REAL, gone, "simulation.seed=null")
    for resume in (False, True):
        with pytest.raises(RunFailedError, match=r"round 2: 3 .* 4 are needed .*Missing: Hungary"):
            run(*words, "server.min_clients=4", name="masked", resume=resume)
    summary = run(*words, "server.min_clients=3", name="masked", resume=True, without=["Hungary"])
    assert summary["rounds"] == 3
    assert summary["withdrawn"]["Hungary"]["after_round"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fedavg", "private", "scaffold", "32 bits"])
def test_masks_change_no_bit_where_workers_train(run: Simulate, kind: str) -> None:
    words = (*HEART, *KINDS[kind])
    plain = model(run, *words, name="plain")
    assert model(run, *words, *REAL, *PROCESS, name="masked") == plain


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["adapters", "trees"])
def test_masks_change_no_bit_of_other_models(run: Simulate, kind: str) -> None:
    plain = model(run, *MODELS[kind], name="plain")
    assert model(run, *MODELS[kind], *REAL, name="masked") == plain


@pytest.mark.slow
@pytest.mark.parametrize(("words", "start"), [((), "364214660740"), (PRIVATE, "fd96e218af6e")])
def test_masks_give_the_model_that_the_documentation_shows(
    run: Simulate, words: tuple[str, ...], start: str
) -> None:
    heart = ("experiment=heart_disease", "simulation.baselines=[]", *words)
    for name, more in {"plain": (), "emulated": EMULATED, "masked": REAL}.items():
        assert model(run, *heart, *more, name=name).startswith(start), name


@pytest.mark.parametrize("engine", [(), pytest.param(PROCESS, marks=pytest.mark.slow)])
def test_a_sum_is_of_those_who_brought_a_vector_whoever_leaves_then(
    run: Simulate, engine: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    gone = "{kind: raises, client: institution-1, rounds: [2]}"
    leaves = "{kind: leaves, client: institution-2, rounds: [2]}"
    plain = run(*SEVEN, f"simulation.faults=[{gone}]", name="plain")
    found = run(*SEVEN, *REAL, *engine, f"simulation.faults=[{gone}, {leaves}]", name="masked")
    assert found["model_sha256"] == plain["model_sha256"]
    whole = model(run, *SEVEN, name="whole")
    assert found["model_sha256"] != whole
    assert "is replaced" not in caplog.text  # no worker is killed over a share too many


def kill(step: str, folder: Path, *words: str) -> None:
    prepare_workers()
    killed = (*words, f"hydra.run.dir={folder}")
    process = CONTEXT.Process(target=killed_at, args=(step, 2, killed))
    process.start()
    process.join(200)
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fedavg", "private", "ledger"])
@pytest.mark.parametrize(
    ("engine", "step"), [((), "open_sum"), ((), "too_few_in"), (PROCESS, "open_sum")]
)
def test_a_run_killed_between_masks_and_shares_goes_on(
    run: Simulate, tmp_path: Path, kind: str, engine: tuple[str, ...], step: str
) -> None:
    kept = _kept_in(tmp_path / "emulated", kind)
    emulated = run(*HEART, *EMULATED, *kept, name="emulated")
    words = (*HEART, *REAL, *engine, *_kept_in(tmp_path / "killed", kind))
    kill(step, tmp_path / "killed", *words)
    summary = run(*words, name="killed", resume=True)
    assert summary["model_sha256"] == emulated["model_sha256"]
    assert summary["clients"] == emulated["clients"]
    assert summary["resumed_after_rounds"] == [1]


@pytest.mark.slow
def test_a_sum_that_one_withdrew_from_since_is_opened_by_the_others(
    run: Simulate, tmp_path: Path
) -> None:
    """Its vector is in the sum, and in no later one."""
    gone = "Hungary"
    fails = f"simulation.faults=[{{kind: raises, client: {gone}, rounds: [3]}}]"
    plain = model(run, *HEART, fails, name="plain")
    words = (*HEART, *REAL)
    kill("open_sum", tmp_path / "killed", *words)
    summary = run(*words, name="killed", resume=True, without=[gone])
    assert summary["model_sha256"] == plain


def _kept_in(folder: Path, kind: str) -> tuple[str, ...]:
    if kind != "ledger":
        return KINDS[kind]
    return (*PRIVATE, f"client.ledger={folder}/ledgers", "policy.budget.epsilon=20", "job=one")


@pytest.mark.slow
@pytest.mark.parametrize("step", ["open_sum", "too_few_in"])
@pytest.mark.parametrize("kind", ["private", "ledger"])
def test_noise_that_is_drawn_anew_is_under_masks_of_its_own(
    run: Simulate, tmp_path: Path, kind: str, step: str
) -> None:
    words = (*HEART, *REAL, *_kept_in(tmp_path / "killed", kind), "simulation.seed=null")
    kill(step, tmp_path / "killed", *words)
    summary = run(*words, name="killed", resume=True)
    assert (summary["status"], summary["rounds"]) == ("completed", 3)
    assert summary["failures"] == {}
