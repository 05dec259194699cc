"""Labels that are not there: who may lack them, and who reads what is there in their place."""

import dataclasses

import numpy
import pytest
import torch
from builders import build_plan, build_task, workload_of

from confide.config.composing.compose import compose
from confide.config.fields import range_problems
from confide.config.outcomes.ordinal import OrdinalConfig
from confide.config.outcomes.table import OF_ONE_CLASS, OUTCOMES
from confide.config.strategies.algorithms import ALGORITHMS
from confide.config.strategies.training import record_problems
from confide.config.tasks.table import TASKS
from confide.config.tasks.task import TaskConfig
from confide.errors import ConfigError, ProtocolError
from confide.protocol.plan import TrainingPlan
from confide.releases.targets import target_partitions
from confide.tasks.outcomes.build import outcome_of
from confide.tasks.outcomes.outcome import UNLABELLED
from confide.tasks.tabular import Tabular
from confide.tasks.task import LABELS, Batch

PLAIN = build_task(labels=["a", "b", "c"])
LACKS = dataclasses.replace(PLAIN, self_training=0.9)
ORDINAL = OrdinalConfig(labels=["a", "b", "c"], column="label")


def ordinal(task: TaskConfig) -> TaskConfig:
    return dataclasses.replace(task, labels=[], outcome=ORDINAL, metrics=[], primary_metric="")


@pytest.mark.parametrize("task", [LACKS, ordinal(LACKS)])
def test_a_null_is_no_class_and_no_mistake_is_one(task: TaskConfig) -> None:
    targets = outcome_of(task).read({"label": ["b", None, "", "c"]})
    assert targets.values.tolist() == [1, UNLABELLED, UNLABELLED, 2]
    assert targets.known.tolist() == [True, False, False, True]
    assert not targets.problems
    assert targets.notes[0].text.startswith("Column label: 2 of 4 labels are null; each of these")
    assert outcome_of(task).counts(targets.fitting) == {"a": 0, "b": 1, "c": 1}
    # A word that is no label is a mistake all the same
    (problem,) = outcome_of(task).read({"label": ["b", "unknown", None]}).problems
    assert "unknown label 'unknown'" in problem.text


@pytest.mark.parametrize("task", [PLAIN, ordinal(PLAIN)])
def test_without_it_a_null_is_refused(task: TaskConfig) -> None:
    (problem,) = outcome_of(task).read({"label": ["b", None, ""]}).problems
    assert problem.text == (
        "Column label: 2 of 3 labels are null; label or remove these records, or train on them too"
        " (task.self_training=0.95)."
    )


def test_a_loss_of_ones_own_meets_classes_alone() -> None:
    workload = workload_of(build_plan(task=LACKS))
    seen: list[list[int]] = []
    own = workload.task.loss

    def loss(outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        seen.append(batch[LABELS].tolist())
        return own(outputs, batch)

    batch = workload.synthetic(3, torch.Generator().manual_seed(1)).take(torch.arange(3))
    batch[LABELS] = torch.tensor([2, UNLABELLED, 1])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(workload.task, "loss", loss)
        losses = workload.losses(workload.model, batch)
    assert min(seen[0]) >= 0
    assert losses[1] == 0
    assert bool((losses[[0, 2]] > 0).all())


# --- settings


def test_a_plan_names_it_only_where_it_is_on() -> None:
    assert "self_training" not in build_plan(task=PLAIN).to_json()
    assert TrainingPlan.from_json(build_plan(task=LACKS).to_json()).task == LACKS


@pytest.mark.parametrize("threshold", [0.0, 0.49, 1.0, -1.0, float("nan")])
def test_a_plan_from_elsewhere_names_a_threshold_in_range(threshold: float) -> None:
    task = dataclasses.replace(PLAIN, self_training=threshold)
    assert any("self_training" in one for one in range_problems(task))
    with pytest.raises(ProtocolError, match=r"self_training|Expected a plan"):
        TrainingPlan.from_json(build_plan(task=task).to_json())


@pytest.mark.parametrize("kind", sorted(set(OUTCOMES) - set(OF_ONE_CLASS)))
def test_other_outcomes_refuse_it(kind: str) -> None:
    made = OUTCOMES[kind].schema()
    task = dataclasses.replace(LACKS, labels=[], outcome=made, metrics=[], primary_metric="")
    assert any(f"outcome.kind={kind}" in one for one in range_problems(task) if "finds one" in one)


@pytest.mark.parametrize(
    ("kind", "refused"), [("newton", True), ("boosting", True), ("plain", False)]
)
def test_algorithms_that_sum_by_labels_refuse_it(kind: str, refused: bool) -> None:
    objective = ALGORITHMS[kind].schema()
    tuning = build_plan().tuning
    found = [*record_problems(LACKS, tuning, objective)]
    assert bool(found) == refused
    assert not [*record_problems(PLAIN, tuning, objective)]
    plan = build_plan(task=LACKS, objective=objective).to_json()
    if refused:
        with pytest.raises(ProtocolError, match="adds up sums over records by their labels"):
            TrainingPlan.from_json(plan)


def test_records_that_are_made_of_others_refuse_it() -> None:
    for name, kind in TASKS.items():
        task = dataclasses.replace(kind.schema(), self_training=0.9)
        found = [*record_problems(task, build_plan().tuning, build_plan().objective)]
        assert bool(found) == (kind.maker is not None), name


def test_trees_refuse_it_on_the_command_line() -> None:
    with pytest.raises(ConfigError, match=r"task\.self_training=0\.9"):
        compose(["experiment=heart_trees", "task.self_training=0.9"])


def test_statistics_tell_of_no_partition_by_labels_that_may_lack() -> None:
    assert [name for name, *_ in target_partitions(PLAIN)] == ["label"]
    assert not [*target_partitions(LACKS)]


def test_a_task_that_gives_no_probabilities_refuses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tally", "predictions"):
        monkeypatch.setattr(Tabular, name, lambda *given: None, raising=False)
    workload_of(build_plan(task=PLAIN))
    with pytest.raises(ConfigError, match=r"task\.self_training=0\.9: task\._target_=None tallies"):
        workload_of(build_plan(task=LACKS))


@pytest.mark.parametrize("task", [LACKS, ordinal(LACKS)])
def test_who_lacks_a_label_is_of_no_class(task: TaskConfig) -> None:
    assert outcome_of(task).strata(numpy.array([0, UNLABELLED, 2])) == ["a", "", "c"]
