"""Runs over populations that nobody lists: the weights of a listed run, in bounded memory."""

import json
import signal
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from stopped_run import Simulate, kill_when, metrics_of, newest, started, stopped

from confide.config.composing.compose import compose
from confide.errors import ConfigError, DataError
from confide.server.rounds.checkpoint import Checkpoint, CheckpointStore
from confide.simulations.generators.source import generated_source

SMALL = (
    "experiment=synthetic_logistic",
    "strategy=fedavg",
    "strategy/selection=uniform",
    "strategy.selection.clients_per_round=8",
    "data.num_clients=30",
    "data.generator.num_records=150",
    "server.num_rounds=3",
)
ON_DEMAND = "simulation.on_demand=true"
LISTED = ("simulation.on_demand=false", "simulation.baselines=[]")
PRIVATE = ("privacy=record", "privacy.epsilon=8")


def checkpoint_of(folder: Path) -> Checkpoint:
    found = CheckpointStore(folder / "checkpoints", kept=3).latest()
    assert found is not None
    return found


def cohorts(folder: Path) -> list[tuple[str, ...]]:
    return [record.accepted for record in checkpoint_of(folder).state.history]


@pytest.mark.parametrize("engine", ["inline", "vectorised"])
@pytest.mark.parametrize("privacy", [("privacy=none",), PRIVATE])
def test_weights_are_those_of_the_listed_run(
    run: Simulate, tmp_path: Path, engine: str, privacy: tuple[str, ...]
) -> None:
    words = (*SMALL, *privacy, f"simulation.engine={engine}")
    listed, asked = run(*words, *LISTED, name="listed"), run(*words, ON_DEMAND, name="asked")
    assert asked["model_sha256"] == listed["model_sha256"]
    assert cohorts(tmp_path / "asked") == cohorts(tmp_path / "listed")
    for name, line in asked["clients"].items():
        assert {**line, "labels": None} == {**listed["clients"][name], "labels": None}


@pytest.mark.parametrize("timing", ["fedbuff", "fedasync"])
def test_asynchronous_answers_are_those_of_the_listed_run(
    run: Simulate, tmp_path: Path, timing: str
) -> None:
    words = (
        "experiment=synthetic_logistic",
        f"strategy={timing}",
        "strategy.timing.concurrency=6",
        "simulation/delays=lognormal",
        "data.num_clients=30",
        "data.generator.num_records=150",
        "server.num_rounds=4",
        *PRIVATE,
    )
    listed, asked = run(*words, *LISTED, name="listed"), run(*words, ON_DEMAND, name="asked")
    assert asked["model_sha256"] == listed["model_sha256"]
    assert asked["virtual"] == listed["virtual"]
    assert cohorts(tmp_path / "asked") == cohorts(tmp_path / "listed")
    stopped(run, *words, ON_DEMAND, after=2, name="run")
    resumed = run(*words, ON_DEMAND, name="run", resume=True)
    assert resumed["model_sha256"] == listed["model_sha256"]


def test_asynchronous_weights_have_to_be_known(run: Simulate) -> None:
    words = ("experiment=synthetic_logistic", "strategy=fedbuff", "data.num_clients=30")
    with pytest.raises(ConfigError, match=r"weighting=num_examples: with .*=fedbuff the largest"):
        run(*words, "strategy.aggregator.weighting=num_examples", ON_DEMAND)


def test_parquet_by_institution_is_read_one_at_a_time_to_the_same_weights(
    run: Simulate, tmp_path: Path
) -> None:
    folder = tmp_path / "records"
    source = generated_source(compose(SMALL).data)
    for index in range(source.num_institutions):
        part = folder / f"site={source.name(index)}"
        part.mkdir(parents=True)
        pyarrow.parquet.write_table(source.table(index), part / "part-0.parquet")
    words = (
        "task=synthetic_logistic",
        "backbone=logistic",
        "tuning=full",
        "privacy=none",
        f"data.path={folder}",
        "data.partitioner=natural",
        "data.partition_by=site",
        *(word for word in SMALL if word.startswith(("strategy", "server"))),
    )
    listed, asked = run(*words, *LISTED, name="listed"), run(*words, ON_DEMAND, name="asked")
    assert asked["model_sha256"] == listed["model_sha256"]
    assert cohorts(tmp_path / "asked") == cohorts(tmp_path / "listed")


def test_a_million_institutions_leave_what_a_few_thousand_leave(
    run: Simulate, tmp_path: Path
) -> None:
    summaries = {}
    for number in (5_000, 1_000_000):
        words = (*SMALL, f"data.num_clients={number}", "server.evaluation_clients=12")
        summaries[number] = run(*words, *PRIVATE, name=str(number))
    checkpoints = {n: checkpoint_of(tmp_path / str(n)) for n in summaries}
    sizes = [newest(tmp_path / str(number)).stat().st_size for number in summaries]
    assert sizes[1] < 1.1 * sizes[0]
    found, checkpoint = summaries[1_000_000], checkpoints[1_000_000]
    trained = {name for record in checkpoint.state.history for name in record.accepted}
    assert set(checkpoint.clients) == trained == checkpoint.extra["spent"].keys()
    assert found["sample"]["institutions"] == 1_000_000
    assert found["sample"]["scored"] == 12
    assert len(found["clients"]) == found["sample"]["asked"] == len(trained) + 12
    assert all(line["epsilon"] > 0 for name, line in found["clients"].items() if name in trained)
    low, high = found["sample"]["metrics"]["accuracy"]["interval"]
    assert low < found["sample"]["metrics"]["accuracy"]["mean"] < high
    assert found["sample"]["trained"] == len(trained)
    low, high = found["evaluation"]["metrics"]["accuracy"]["interval"]
    assert low < found["federated"]["accuracy"] < high
    assert "12 of 1,000,000, drawn at random" in found["federated"]["measured"]
    assert found["baselines"] == {}


def test_a_run_that_stopped_goes_on_to_the_same_weights(run: Simulate, tmp_path: Path) -> None:
    words = (*SMALL, "data.num_clients=100000", "server.evaluation_clients=5", *PRIVATE)
    whole = run(*words, name="whole")
    stopped(run, *words, after=2, name="run")
    found = run(*words, name="run", resume=True)
    assert found["model_sha256"] == whole["model_sha256"]
    assert found["clients"] == whole["clients"]
    assert metrics_of(tmp_path / "run") == metrics_of(tmp_path / "whole")


def test_a_killed_process_is_gone_on_from_to_the_same_weights(tmp_path: Path) -> None:
    words = (*SMALL, "data.num_clients=100000", "server.evaluation_clients=5")
    folder, whole = tmp_path / "run", tmp_path / "whole"
    with started(*words, f"hydra.run.dir={whole}") as process:
        process.join(120)
        assert process.exitcode == 0
    with started(*words, f"hydra.run.dir={folder}") as process:
        kill_when(process, lambda: any(folder.glob("checkpoints/round-00002*")))
        assert process.exitcode == -signal.SIGKILL
    with started(f"resume={folder}") as process:
        process.join(120)
        assert process.exitcode == 0
    summaries: list[dict[str, Any]] = [
        json.loads((one / "summary.json").read_text()) for one in (folder, whole)
    ]
    assert summaries[0]["resumed_after_rounds"]
    assert summaries[0]["model_sha256"] == summaries[1]["model_sha256"]


def test_rounds_whose_noise_is_drawn_anew_are_charged_to_all(run: Simulate, tmp_path: Path) -> None:
    words = (*SMALL, "server.evaluation_clients=5", *PRIVATE, ON_DEMAND, "simulation.seed=null")
    stopped(run, *words, after=2, name="run")
    newest(tmp_path / "run").unlink()  # what was released after the one before is run again
    run(*words, name="run", resume=True)
    left = checkpoint_of(tmp_path / "run").extra
    assert left["spent_others"][0] == 1  # whoever may have been asked in the lost round
    assert all(count >= 2 for count, *_ in left["spent"].values())


def test_who_withdrew_is_drawn_no_more(run: Simulate, tmp_path: Path) -> None:
    words = (*SMALL, ON_DEMAND, "strategy.selection.clients_per_round=25")
    stopped(run, *words, after=1, name="run")
    gone = cohorts(tmp_path / "run")[0][3]
    run(*words, name="run", resume=True, without=[gone])
    assert all(gone not in cohort for cohort in cohorts(tmp_path / "run")[1:])


def test_other_records_than_a_run_began_with_end_it(run: Simulate, tmp_path: Path) -> None:
    words = (*SMALL, ON_DEMAND)
    stopped(run, *words, after=1, name="run")
    store = CheckpointStore(tmp_path / "run" / "checkpoints", kept=3)
    checkpoint = checkpoint_of(tmp_path / "run")
    extra = {**checkpoint.extra, "records": dict.fromkeys(checkpoint.extra["records"], "0")}
    store.save(Checkpoint(state=checkpoint.state, clients=checkpoint.clients, extra=extra))
    with pytest.raises(DataError, match="others than when the run began"):
        run(*words, name="run", resume=True)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (("simulation.engine=process",), "simulation.engine=vectorised or inline"),
        (("simulation.baselines=[pooled]",), "leave it out"),
        (("client.ledger=ledgers", *PRIVATE, "policy.budget.epsilon=16"), "client.ledger=null"),
        (("strategy.selection.clients_per_round=31",), "lower it or add institutions"),
    ],
)
def test_what_needs_everybodys_records_is_refused_with_the_fix(
    run: Simulate, overrides: tuple[str, ...], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        run(*SMALL, ON_DEMAND, *overrides)


def test_records_of_one_file_are_not_made_on_demand(run: Simulate) -> None:
    with pytest.raises(ConfigError, match=r"simulation\.on_demand=true: .* leave it out"):
        run("experiment=heart_disease", ON_DEMAND)


def test_a_fault_is_meant_for_one_of_a_million(run: Simulate, tmp_path: Path) -> None:
    words = (*SMALL, "data.num_clients=1000000", "server.evaluation_clients=5")
    run(*words, name="sound")
    failing = cohorts(tmp_path / "sound")[0][2]
    fault = f"simulation.faults=[{{kind: raises, client: {failing}, rounds: [1]}}]"
    found = run(*words, fault, name="run")
    assert found["failures"] == {"1": {failing: "error_reply"}}
    nobody = "simulation.faults=[{kind: raises, client: nobody, rounds: [1]}]"
    with pytest.raises(ConfigError, match=r"names nobody; the clients are .*, \.\.\.\."):
        run(*words, nobody, name="other")
