"""What is predicted is counted like a column: bounded, above the floor, by its own name."""

import dataclasses
import math

import numpy
import pytest
from release_records import TASK, question, without

from confide.config.outcomes.multi_label import MultiLabelConfig
from confide.config.outcomes.ordinal import OrdinalConfig
from confide.config.outcomes.outcome import OutcomeConfig
from confide.config.outcomes.regression import RegressionConfig
from confide.config.outcomes.survival import SurvivalConfig
from confide.config.tasks.tabular import TabularConfig
from confide.protocol.plan import TrainingPlan
from confide.releases.figures import partitions
from confide.releases.floors import AS_BEFORE, HIDDEN
from confide.releases.release import Floats, Records
from confide.releases.statistics import FIGURE_COUNTS, MOMENTS
from confide.releases.table import RELEASES

ODD = [0.0, 1.0, 0.5, -1e6, 1e6, math.nan, math.inf, 2.5]
OUTCOMES: dict[str, tuple[OutcomeConfig, tuple[int, ...]]] = {
    "regression": (RegressionConfig(column="stay", minimum=1.0, maximum=100.0), ()),
    "amount": (RegressionConfig(column="cost", minimum=0.0, maximum=1e6, scale="log1p"), ()),
    "multi_label": (MultiLabelConfig(labels=["age", "x", "y"]), (3,)),
    "ordinal": (OrdinalConfig(column="grade", labels=["low", "mid", "high"]), ()),
    "survival": (SurvivalConfig(horizon=20.0, intervals=4), (2,)),
}
EVERY = pytest.mark.parametrize("kind", OUTCOMES)
STATISTICS = RELEASES["statistics"]


def plan_of(kind: str, unit: str = "none") -> TrainingPlan:
    columns = {name: one for name, one in TASK.columns.items() if name != "age"}
    task = TabularConfig(outcome=OUTCOMES[kind][0], columns=columns, numeric=TASK.numeric)
    return dataclasses.replace(question(unit), task=task)


def records_of(plan: TrainingPlan, labels: Floats, owners: int | None = None) -> Records:
    """Records whose columns are all missing."""
    task = plan.encoded_task
    assert isinstance(task, TabularConfig)
    count = len(labels)
    return Records(
        features=numpy.zeros((count, task.num_inputs)),
        labels=labels,
        groups=None if owners is None else numpy.arange(count) % owners,
        by_group=plan.privacy.unit == "group",
    )


def told(kind: str, labels: Floats, floor: int = 10, owners: int | None = None) -> list[Floats]:
    """Return the exact counts of what is predicted, a partition each."""
    plan = plan_of(kind)
    assert STATISTICS.exact_fn is not None
    counts = STATISTICS.exact_fn(plan, records_of(plan, labels, owners), floor)[FIGURE_COUNTS]
    return [counts[part.place] for part in partitions(plan.task) if not part.is_column]


@EVERY
@pytest.mark.parametrize("unit", ["record", "group"])
def test_a_unit_moves_them_by_at_most_one(kind: str, unit: str) -> None:
    plan, largest = plan_of(kind, unit), 0.0
    scales, random = STATISTICS.scales_fn(plan), numpy.random.default_rng(0)
    for _ in range(40):
        # A task of one's own may have any numbers for targets, but for indices of labels
        shape = (int(random.integers(1, 9)), *OUTCOMES[kind][1])
        odd = random.choice(ODD, size=shape)
        labels = random.integers(0, 3, size=shape) if kind == "ordinal" else odd
        records = records_of(plan, labels, owners=4)
        records = dataclasses.replace(
            records,
            features=random.choice([0.0, 1.0, 161.0, -1e6, 0.25], size=records.features.shape),
        )
        assert records.groups is not None
        chosen = records.groups == 0 if unit == "group" else numpy.arange(len(labels)) == 0
        whole = STATISTICS.sums_fn(plan, records)
        rest = STATISTICS.sums_fn(plan, without(records, chosen))
        apart = [numpy.linalg.norm(whole[it] - rest[it]) / scales[it] for it in scales]
        largest = max(largest, math.hypot(*map(float, apart)))
    assert 0.5 < largest <= 1 + 1e-9


@EVERY
def test_sums_have_the_shapes_that_are_asked_for(kind: str) -> None:
    plan = plan_of(kind)
    labels = numpy.zeros((30, *OUTCOMES[kind][1]))
    assert STATISTICS.exact_fn is not None
    found = STATISTICS.exact_fn(plan, records_of(plan, labels.astype(int)), 10)
    assert {name: value.shape for name, value in found.items()} == STATISTICS.shapes_fn(plan)


def test_a_label_may_be_called_as_a_column_is() -> None:
    plan = question()
    task = dataclasses.replace(
        plan.task, labels=[], label_column="label", outcome=OUTCOMES["multi_label"][0]
    )
    keys = [part.key for part in partitions(task)]
    assert {"numeric age", "truth age"} <= set(keys)
    assert len(set(keys)) == len(keys)


def test_a_number_is_counted_in_cells_of_enough_units() -> None:
    labels = numpy.concatenate([numpy.full(30, 0.5), numpy.full(30, 0.6), numpy.full(4, 0.95)])
    (counts,) = told("regression", labels)
    known = counts[counts > 0]
    assert known.tolist() == [30, 34]
    (counts,) = told("regression", labels, owners=9)
    assert (counts < 0).all()


def test_moments_of_a_number_with_a_rare_value_are_kept_back() -> None:
    plan = plan_of("regression")
    assert STATISTICS.exact_fn is not None
    for few, is_told in ((3, False), (12, True)):
        labels = numpy.array([1.0] * few + [0.0] * 60)
        moments = STATISTICS.exact_fn(plan, records_of(plan, labels), 10)[MOMENTS]
        assert (moments[-1, 0].sum() > 0) == is_told


def test_a_label_that_few_have_is_kept_back_and_others_are_not() -> None:
    labels = numpy.zeros((50, 3), dtype=int)
    labels[:20, 0] = labels[:4, 1] = labels[:46, 2] = 1
    counts = told("multi_label", labels)
    assert [part.tolist() for part in counts] == [[30, 20], [HIDDEN] * 2, [HIDDEN] * 2]


@pytest.mark.parametrize("event", [0, 1])
def test_few_ends_of_one_kind_tell_nothing_of_either(event: int) -> None:
    """The number of records is public: events give away how many are censored."""
    labels = numpy.array([[1.5, 1 - event]] * 40 + [[2.5, event]] * 5)
    (counts,) = told("survival", labels)
    assert (counts == HIDDEN).all()


def test_times_are_joined_to_intervals_of_enough_units() -> None:
    events = [[0.5, 1]] * 12 + [[1.5, 1]] * 3 + [[3.5, 1]] * 8
    labels = numpy.array([*events, *([[4.0, 0]] * 25), *([[0.2, 0]] * 4)])
    (counts,) = told("survival", labels)
    assert counts[:4].tolist() == [12, 11, AS_BEFORE, AS_BEFORE]
    assert counts[4:].tolist() == [29, *([AS_BEFORE] * 4)]
    (exact,) = told("survival", labels, floor=1)
    assert exact.tolist() == [12, 3, 0, 8, 4, 0, 0, 0, 25]
