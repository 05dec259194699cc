"""The summary's section on a model's test, from what institutions told."""

import json
from dataclasses import replace
from typing import Any

import numpy
import pytest
import torch
from scored_records import exact, noisy, records

from confide.config.composing.compose import compose
from confide.config.report import CostsConfig, ReportConfig
from confide.errors import ConfigError
from confide.metrics.outcomes.classification import CLASSIFICATION
from confide.metrics.tally import ScoreTally
from confide.protocol.messages import Evaluation
from confide.protocol.new_plan import make_plan
from confide.server.rounds.outcome import Outcome
from confide.server.rounds.state import RunState
from confide.server.run.summary import Findings, InstitutionResult, RunResult, summarise

PLAN = make_plan(compose(["experiment=heart_disease", "job=trial"]), backbone_sha256=None)
PARTS = {name: records(200, seed=seed) for seed, name in enumerate(("a", "b"))}


def scored(name: str) -> Evaluation:
    scores, labels = PARTS[name]
    values = {it: CLASSIFICATION[it].score_fn(scores, labels) for it in PLAN.task.metrics}
    return {**{it: value or 0.0 for it, value in values.items()}, "num_examples": 200}


def result(tallies: dict[str, dict[str, ScoreTally]], **more: Any) -> RunResult:
    state = RunState(server_round=1, params={"w": torch.ones(1)}, strategy_state={})
    test = {name: scored(name) for name in PARTS}
    mean = {it: numpy.mean([one[it] for one in test.values()]) for it in PLAN.task.metrics}
    findings: dict[str, Any] = {
        "pooled_test": {**mean, "num_examples": 400},
        "institutions": {
            name: InstitutionResult(num_examples=9, test=one) for name, one in test.items()
        },
        "reproducible": True,
    }
    outcome = Outcome(
        state=state,
        kept=state.params,
        kept_round=1,
        clients=dict.fromkeys(PARTS, 9),
        test=test,
        stopped_early=False,
        tallies=tallies,
    )
    return RunResult(
        plan=PLAN,
        outcome=outcome,
        findings=Findings(**findings | more),
        model_sha256="0" * 64,
        seconds={},
    )


def section(of: RunResult) -> Any:
    return json.loads(json.dumps(summarise(of)["evaluation"], allow_nan=False))


def test_section_is_of_the_tallies_and_the_settings_of_the_report() -> None:
    of = result({"test": {name: exact(*part) for name, part in PARTS.items()}})
    told = section(of)
    assert (told["kind"], told["positive"], told["records"]) == ("classes", "present", 400)
    assert told["thresholds"]["costs"] == {"false_negative": 1.0, "false_positive": 1.0}
    costs = CostsConfig(false_negative=5.0)
    told = section(replace(of, report=ReportConfig(positive="absent", costs=costs)))
    assert told["positive"] == "absent"
    assert told["thresholds"]["if_calibrated"] == pytest.approx(1 / 6, abs=1e-6)
    assert told["thresholds"]["chosen_on"] == "test"


def test_validation_records_choose_the_threshold_where_they_are_of_the_kept_model() -> None:
    tallies = {name: exact(*part) for name, part in PARTS.items()}
    told = section(result({"test": tallies, "validation": tallies}))
    assert told["thresholds"]["chosen_on"] == "validation"


def test_means_over_institutions_have_intervals_of_their_own() -> None:
    rng = numpy.random.default_rng(0)
    tallies = {name: noisy(*part, 2.0, rng) for name, part in PARTS.items()}
    pooled = section(result({"test": tallies}))["metrics"]["auc"]["interval"]
    mean = section(result({"test": tallies}, measured="mean"))["metrics"]["auc"]["interval"]
    assert mean != pooled
    assert mean[1] - mean[0] == pytest.approx(pooled[1] - pooled[0], rel=0.2)


def test_run_without_tallies_has_intervals_of_proportions_and_no_curves() -> None:
    told = section(result({}))
    assert told["metrics"]["accuracy"]["interval"]
    assert told["metrics"]["auc"]["interval"] is None
    assert "classes" not in told
    assert set(told["clients"]) == {"a", "b"}


def test_no_plan_holds_what_the_report_says() -> None:
    words = ["experiment=heart_disease", "job=trial"]
    costly = compose([*words, "report.costs.false_negative=5", "report.positive=absent"])
    assert make_plan(costly, backbone_sha256=None).to_json() == PLAN.to_json()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (
            ["experiment=heart_disease", "report.positive=ill"],
            r"report.positive=ill: expected one of task.labels=\['absent', 'present'\]",
        ),
        (["report.positive=neutral"], "report.positive=neutral: of 3 classes each is told"),
        (
            ["experiment=heart_disease", "report.costs.false_negative=0"],
            "report.costs.false_negative=0.0: expected > 0",
        ),
    ],
)
def test_settings_that_say_nothing_are_refused(words: list[str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        compose(words)


def test_a_class_that_is_looked_for_is_refused_where_a_task_has_none() -> None:
    (problem,) = ReportConfig(positive="1").label_problems([])
    assert problem == "report.positive=1: expected null: the task has no classes."
