"""Boosting: trees computed by hand, and trees that no partition of the records changes."""

import math

import numpy
import pytest
import torch
from builders import build_institution, build_plan, build_records, build_request, workload_of
from hypothesis import given, settings
from hypothesis import strategies as st
from small_trees import (
    client_round,
    drawn,
    examples,
    grow_trees,
    partition,
    reply,
    table,
    tree_plan,
)

from confide.config.models.perceptrons import LogisticConfig
from confide.config.models.trees import TreesConfig
from confide.config.privacy import PolicyConfig, PrivacyConfig
from confide.config.strategies.strategy import BoostingConfig, ObjectiveConfig
from confide.errors import DeniedError, ProtocolError
from confide.models.networks import trainable_tensors
from confide.models.trees import margins_of, part_of, routed
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors
from confide.storage.tensor_files import sha256
from confide.strategies.algorithms import boosting
from confide.strategies.algorithms.boosting import derivatives, histograms
from confide.strategies.algorithms.tree_splits import Sums

UNIT = 2.0**24


def only(tensors: Tensors, name: str) -> list[float]:
    return [float(value) for value in tensors[name].reshape(-1)]


# By hand


def test_a_stump_parts_the_classes_and_steps_as_newton_does() -> None:
    """At margin 0, g is -1/2 or 1/2 and h 1/4: two records a side give -(+-1) / (1/2 + 1)."""
    plan = tree_plan()
    records = examples([[1, 3], [2, 1], [3, 2], [4, 3]], [0, 0, 1, 1])
    trees = grow_trees(plan, records, [range(4)])
    assert (only(trees, "split_input"), only(trees, "split_cell")) == ([0.0], [2.0])
    assert only(trees, "leaf") == pytest.approx([-1 / 1.5, 1 / 1.5])
    assert only(trees, "gain") == pytest.approx([2 / 1.5 / 4])
    assert only(trees, "cover") == pytest.approx([0.25, 0.125, 0.125])


def test_second_tree_starts_from_the_margins_of_the_first() -> None:
    plan = tree_plan(num_trees=2, learning_rate=0.5)
    records = examples([[1, 1], [1, 1], [4, 1], [4, 1]], [0, 0, 1, 1])
    trees = grow_trees(plan, records, [range(4)])
    first = 0.5 * 1 / 1.5
    chance = 1 / (1 + math.exp(first))
    second = 0.5 * 2 * chance / (2 * chance * (1 - chance) + 1)
    assert only(trees, "leaf") == pytest.approx([-first, first, -second, second], rel=1e-6)


@pytest.mark.parametrize(("label", "left"), [(0, 1.0), (1, 0.0)])
def test_missing_values_go_where_they_gain_more(label: int, left: float) -> None:
    records = examples([[1, 1], [1, 1], [4, 1], [4, 1], [0, 1]], [0, 0, 1, 1, label])
    trees = grow_trees(tree_plan(), records, [range(5)])
    assert only(trees, "split_input") == [0.0]
    assert only(trees, "missing_left") == [left]


def test_a_split_may_part_missing_values_from_all_others() -> None:
    records = examples([[1, 1], [4, 1], [2, 1], [0, 1], [0, 1], [0, 1]], [0, 0, 0, 1, 1, 1])
    trees = grow_trees(tree_plan(), records, [range(6)])
    cells = torch.tensor([[4.0, 1.0], [1.0, 1.0], [0.0, 1.0]])
    assert (margins_of(trees, cells)[:, 0] > 0).tolist() == [False, False, True]


@pytest.mark.parametrize("counts", [(3, 1), (1, 3)])
def test_values_that_no_record_lacked_go_with_most_records(counts: tuple[int, int]) -> None:
    rows = [[1, 1]] * counts[0] + [[4, 1]] * counts[1]
    records = examples(rows, [0] * counts[0] + [1] * counts[1])
    trees = grow_trees(tree_plan(), records, [range(4)])
    assert only(trees, "missing_left") == [float(counts[0] > counts[1])]


@pytest.mark.parametrize(
    "rules", [{"min_records": 3}, {"min_child_weight": 0.6}], ids=["records", "weight"]
)
def test_a_side_that_is_too_small_is_no_split_and_the_leaf_stays_whole(
    rules: dict[str, float],
) -> None:
    """Two of six records are the odd ones: a rule that asks for three keeps them hidden."""
    records = examples([[1, 1]] * 4 + [[4, 1]] * 2, [0, 0, 0, 0, 1, 1])
    free = grow_trees(tree_plan(), records, [range(6)])
    assert only(free, "split_input") == [0.0]
    ruled = grow_trees(tree_plan(**rules), records, [range(6)])
    assert only(ruled, "split_input") == [-1.0]
    assert only(ruled, "leaf")[0] == pytest.approx(-1 / (6 / 4 + 1))
    everybody = torch.tensor([[1.0, 1.0], [4.0, 4.0], [0.0, 0.0]])
    assert len(set(margins_of(ruled, everybody)[:, 0].tolist())) == 1


def test_no_leaf_has_fewer_records_than_asked_for() -> None:
    plan = tree_plan(num_trees=3, depth=3, min_records=25, task=table(columns=3))
    records = drawn(plan, 400)
    trees = grow_trees(plan, records, partition(400, 3))
    leaves = margins_of(
        {**trees, "leaf": torch.arange(24.0).reshape(3, 1, 8)}, records.columns["features"]
    )
    assert leaves.unique().numel() > 3
    for number in range(3):
        places = routed(part_of(trees, number, number + 1), records.columns["features"], 3)
        counts = places.reshape(-1).bincount()
        assert int(counts[counts > 0].min()) >= 25


def test_of_several_classes_each_gets_a_tree_and_curvatures_are_doubled() -> None:
    found = derivatives(numpy.zeros((2, 4), numpy.float32), numpy.array([0, 3]))
    assert (found["gradient"] / UNIT).tolist() == [[-0.75, 0.25, 0.25, 0.25], [0.25] * 3 + [-0.75]]
    assert (found["curvature"] / UNIT).tolist() == [[0.375] * 4] * 2
    plan = tree_plan(num_trees=2, depth=2, task=table(classes=3))
    records = drawn(plan, 300)
    trees = grow_trees(plan, records, [range(300)])
    assert trees["leaf"].shape == (2, 3, 4)
    right = margins_of(trees, records.columns["features"]).argmax(dim=1) == records.labels
    assert float(right.float().mean()) > 0.45


@pytest.mark.parametrize("margin", [1e4, -1e4, 800.0])
def test_margins_of_any_size_have_derivatives(margin: float) -> None:
    found = derivatives(numpy.full((1, 1), margin, numpy.float32), numpy.array([1]))
    assert abs(int(found["gradient"][0, 0])) <= UNIT
    assert 0 <= int(found["curvature"][0, 0]) <= UNIT / 4


# Exactness


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("institutions", [2, 6])
def test_any_partition_gives_the_trees_of_the_pooled_records(
    classes: int, institutions: int
) -> None:
    plan = tree_plan(num_trees=5, depth=3, learning_rate=0.3, task=table(classes=classes))
    records = drawn(plan, 200, seed=classes)
    pooled = sha256(grow_trees(plan, records, [range(200)]))
    parts = partition(200, institutions, seed=institutions)
    assert sha256(grow_trees(plan, records, parts)) == pooled
    assert sha256(grow_trees(plan, records, parts[::-1])) == pooled


def test_what_an_institution_remembers_changes_nothing() -> None:
    plan = tree_plan(num_trees=6, depth=2)
    records = drawn(plan, 120)
    with_memory, without = (
        grow_trees(plan, records, partition(120, 3), remembers=remembers)
        for remembers in (True, False)
    )
    assert sha256(with_memory) == sha256(without)


def test_memory_of_other_trees_is_not_used() -> None:
    plan = tree_plan(num_trees=3)
    records = drawn(plan, 80)
    trees = grow_trees(plan, records, [range(80)])
    other = {**trees, "leaf": -trees["leaf"]}
    memory: dict[str, torch.Tensor] = {}
    reply(plan, client_round(plan, trees, 3, records, memory))
    remembered = reply(plan, client_round(plan, other, 3, records, memory))
    assert sha256(remembered) == sha256(reply(plan, client_round(plan, other, 3, records)))
    assert len(memory) == 1


@given(st.lists(st.integers(-(2**48), 2**48), min_size=1, max_size=20), st.integers(1, 5))
@settings(max_examples=50, deadline=None)
def test_halves_of_any_sum_are_put_together_again(values: list[int], institutions: int) -> None:
    """The largest sum that 2^24 records may have, of either sign, from several institutions."""
    exact = numpy.array(values, numpy.int64)
    high, low = exact >> 24, exact & (2**24 - 1)
    sent = {
        **{f"{name}_high": high for name in ("gradient", "curvature")},
        **{f"{name}_low": low for name in ("gradient", "curvature")},
        "count": abs(exact) >> 24,
    }
    tensors = {
        name: torch.from_numpy((value / UNIT).astype(numpy.float32)).double() * institutions
        for name, value in sent.items()
    }
    assert max(float(value.abs().max()) for value in tensors.values()) <= institutions
    found = Sums.of(tensors)
    assert found.gradient.tolist() == [institutions * value for value in values]
    assert found.count.tolist() == [institutions * (abs(value) >> 24) for value in values]


def test_histograms_are_the_sums_record_by_record() -> None:
    generator = numpy.random.default_rng(0)
    starts, shape = [0, 3, 8], (2, 1, 8)
    places = numpy.stack([generator.integers(0, 3, 50), generator.integers(0, 5, 50)], axis=1)
    nodes = generator.integers(0, 2, (50, 1))
    slopes = {
        "gradient": generator.integers(-(2**24), 2**24, (50, 1)),
        "curvature": generator.integers(0, 2**22, (50, 1)),
    }
    found = Sums.of(histograms(places, nodes, slopes, starts=starts, shape=shape))
    expected = numpy.zeros((3, *shape), numpy.int64)
    for record in range(50):
        for number in range(2):
            at = (nodes[record, 0], 0, starts[number] + places[record, number])
            expected[:, *at] += [slopes["gradient"][record, 0], slopes["curvature"][record, 0], 1]
    for have, want in zip((found.gradient, found.curvature, found.count), expected, strict=True):
        assert have.tolist() == want.tolist()


def test_more_records_than_sums_hold_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boosting, "MOST_RECORDS", 10)
    plan = tree_plan()
    trees = trainable_tensors(workload_of(plan).model)
    with pytest.raises(DeniedError, match="more than the 10 whose sums are exact"):
        reply(plan, client_round(plan, trees, 1, drawn(plan, 11)))
    assert reply(plan, client_round(plan, trees, 1, drawn(plan, 10)))["count"].max() > 0


# At an institution's door


def test_institution_answers_with_sums_that_do_not_depend_on_the_trees_to_come() -> None:
    plan = tree_plan(num_trees=2, depth=2)
    institution = build_institution(plan)
    tensors = trainable_tensors(workload_of(plan).model)
    answer = institution.handle("train", build_request(plan, 1, tensors=tensors))
    assert answer.refusal is None
    assert answer.arrays is not None
    assert sorted(answer.arrays) == [
        "count",
        "curvature_high",
        "curvature_low",
        "gradient_high",
        "gradient_low",
    ]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"layout": torch.zeros(10)}, "tensor_values"),
        ({"split_input": torch.full((2, 1, 3), 77.0)}, None),
        ({"split_input": torch.full((2, 1, 3), -9.0)}, None),
        ({"split_cell": torch.full((2, 1, 3), 5000.0)}, None),
        ({"leaf": torch.full((2, 1, 4), 9999.0)}, None),
        ({"layout": torch.tensor([0.0] * 9 + [1.0])}, "tensor_values"),
        ({"layout": torch.full((10,), -1.0)}, "tensor_values"),
        ({"layout": torch.full((10,), 5000.0)}, "tensor_values"),
    ],
)
def test_tensors_of_a_stranger_are_refused_or_do_no_harm(change: Tensors, code: str | None) -> None:
    plan = tree_plan(num_trees=2, depth=2)
    institution = build_institution(plan)
    tensors = {**trainable_tensors(workload_of(plan).model), **change}
    for server_round in (1, 3, 4):
        answer = institution.handle("train", build_request(plan, server_round, tensors=tensors))
        assert answer.refusal == code


def test_rounds_beyond_the_trees_are_refused() -> None:
    plan = tree_plan(num_trees=1, depth=2)
    tensors = trainable_tensors(workload_of(plan).model)
    answer = build_institution(plan).handle("train", build_request(plan, 3, tensors=tensors))
    assert answer.refusal == "rounds_spent"
    with pytest.raises(ProtocolError, match="all 1 trees are grown"):
        reply(plan, client_round(plan, tensors, 3, drawn(plan, 5)))


def plan_text(**fields: object) -> TrainingPlan:
    return TrainingPlan.from_json(build_plan(**{"task": table(), **fields}).to_json())


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"objective": ObjectiveConfig()}, "does not train backbone.kind=trees"),
        ({"backbone": LogisticConfig()}, "does not train backbone.kind=logistic"),
        ({"num_rounds": 3}, "num_rounds=3: .* take 2"),
        ({"privacy": PrivacyConfig(unit="record")}, "no epsilon covers"),
        ({"privacy": PrivacyConfig(unit="group")}, "no epsilon covers"),
        ({"backbone": TreesConfig(num_trees=2, depth=1, row_norm=3.0)}, "row_norm=3"),
    ],
)
def test_plans_that_do_not_hold_together_are_refused(fields: dict[str, object], said: str) -> None:
    plan = tree_plan(num_trees=2, depth=1)
    good = {
        "backbone": plan.backbone,
        "objective": plan.objective,
        "client": plan.client,
        "num_rounds": 2,
    }
    assert plan_text(**good).objective == plan.objective
    with pytest.raises(ProtocolError, match=said):
        plan_text(**{**good, **fields})


def test_an_institution_that_requires_privacy_declines() -> None:
    plan = tree_plan()
    strict = PolicyConfig(min_records=1)
    answer = build_institution(plan, policy=strict).handle(
        "query", build_request(plan, tensors=None)
    )
    assert answer.refusal == "policy_required_unit"


def test_evaluation_scores_what_has_grown() -> None:
    plan = tree_plan(num_trees=2, depth=2)
    workload = workload_of(plan)
    records = drawn(plan, 200)
    trees = grow_trees(plan, records, [range(200)])
    institution = build_institution(plan, build_records(workload, validation=50))
    request = build_request(plan, tensors=trees, splits=["validation"])
    scored = institution.handle("evaluate", request)
    assert scored.refusal is None
    assert scored.evaluations["validation"]["num_examples"] == 50


def test_plan_of_trees_survives_its_own_text() -> None:
    plan = tree_plan(num_trees=3, depth=2)
    again = TrainingPlan.from_json(plan.to_json())
    assert again == plan
    assert isinstance(again.objective, BoostingConfig)
