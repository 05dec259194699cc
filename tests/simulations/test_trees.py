"""Runs of trees: the same model for any partition, engine, and number of processes."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from stopped_run import Simulate, stopped

from confide.config.composing.compose import compose
from confide.config.strategies.strategy import BoostingConfig, objective_of
from confide.errors import ConfigError, RunFailedError
from confide.server.report.write import write_report

SHORT = ("experiment=heart_trees", "backbone.num_trees=3", "backbone.depth=2")
SMALL = (*SHORT, "simulation.baselines=[]")
ALL_TRAIN = ("data.partitioner=iid", "data.partition_by=null", "data.test=0", "data.validation=0")
PROCESS = ("simulation.engine=process", "simulation.workers=2")


def models(summaries: list[dict[str, Any]]) -> set[str]:
    return {str(summary["model_sha256"]) for summary in summaries}


def test_institutions_split_in_any_way_give_one_model(run: Simulate) -> None:
    found = [
        run(*SMALL, *ALL_TRAIN, f"data.num_clients={count}", name=f"run-{count}")
        for count in (1, 2, 6)
    ]
    assert len(models(found)) == 1
    assert [len(one["clients"]) for one in found] == [1, 2, 6]


@pytest.mark.slow
def test_every_engine_gives_one_model(run: Simulate) -> None:
    inline, process = run(*SMALL), run(*SMALL, *PROCESS, name="process")
    assert models([inline, process]) == {inline["model_sha256"]}
    assert inline["federated"] == process["federated"]


@pytest.mark.parametrize("after", [3])
def test_a_resumed_run_ends_with_the_same_model(run: Simulate, after: int) -> None:
    whole = run(*SMALL, name="whole")
    stopped(run, *SMALL, after=after)
    assert run(*SMALL, resume=True)["model_sha256"] == whole["model_sha256"]


def test_pooled_training_is_compared_with_and_is_boosting_too(run: Simulate) -> None:
    """No record is held out at random, so that both are trained on the same ones."""
    summary = run(*SHORT, "simulation.baselines=[pooled]")
    pooled = summary["baselines"]["pooled"]
    for metric in ("auc", "log_loss", "accuracy"):
        assert pooled[metric] == summary["federated"][metric]


def test_report_and_card_say_what_the_model_is_and_that_it_is_not_private(
    run: Simulate, tmp_path: Path
) -> None:
    summary = run(*SMALL)
    shares = summary["model"]["gain_by_column"]
    assert sum(shares.values()) == pytest.approx(1)
    assert sorted(shares.values(), reverse=True) == list(shares.values())
    page = write_report(tmp_path / "run").read_text()
    card = (tmp_path / "run" / "model_card.md").read_text()
    for text in (re.sub(r"<[^>]+>", "", page), card):
        assert "boosted trees, 3 of depth 2" in text
        assert "this model is not private" in text
        assert "sums over few records reveal their labels" in text
        assert next(iter(shares)) in text
    assert "What the trees split by" in page
    assert "Only exact sums of gradients" in card
    assert "updates of trainable tensors" not in card


def test_a_policy_that_requires_privacy_ends_the_run_with_that_reason(run: Simulate) -> None:
    with pytest.raises(RunFailedError, match=r"Cleveland \(policy_required_unit\)"):
        run(*SMALL, "policy=strict")


@pytest.mark.parametrize("choice", [["client=trees"], ["backbone=trees", "tuning=full"]])
def test_client_or_backbone_brings_all_that_trees_need(choice: list[str]) -> None:
    own = ("task=heart_disease", "data=heart_disease", "privacy=none")
    config = compose([*own, *choice, "backbone.num_trees=7"])
    assert objective_of(config.strategy) == BoostingConfig()
    assert (config.backbone.kind, config.tuning.kind) == ("trees", "full")
    assert config.server.num_rounds == 28
    assert (config.client.local_steps, config.client.sampling_rate) == (1, 1.0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["privacy=record"], "no epsilon covers them; set privacy=none"),
        (["privacy=group", "data.group_column=id"], "no epsilon covers them"),
        (["client=poisson", "backbone=trees", "tuning=full"], "choose client=trees"),
        (["strategy=fedadam"], "choose client=trees"),
        (["strategy=flower"], "choose client=trees"),
        (["strategy/server_optimizer=adam"], "leave server_optimizer out"),
        (["strategy.server_optimizer.momentum=0.5"], "leave server_optimizer out"),
        (["strategy.aggregator.weighting=uniform"], "set num_examples"),
        (["server.num_rounds=10"], "take 240 rounds; leave it out, or set 240"),
        (["client.local_steps=3"], r"leave client out \(client=trees\)"),
        (["backbone.row_norm=3"], "leave it out"),
        (["tuning=head"], "choose tuning=full"),
        (["task.numeric.edges=released", "task.numeric.encoding=piecewise"], "cells=edges"),
        (["backbone=logistic", "strategy=boosting"], "choose backbone=trees"),
        (["task._target_=somewhere.Task"], "reads columns by the schema"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_fix(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        compose(["experiment=heart_trees", *words])


def test_edges_that_were_released_are_cells(run: Simulate, tmp_path: Path) -> None:
    released = ("task.numeric.encoding=piecewise", "task.numeric.edges=released")
    summary = run(*SMALL, *released, "backbone.cells=edges")
    plan = json.loads((tmp_path / "run" / "plan.json").read_text())
    assert plan["edges"]["columns"]["age"]
    assert summary["federated"]["auc"] > 0.6
