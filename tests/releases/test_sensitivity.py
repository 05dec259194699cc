"""No unit moves a release by more than its noise was made for, whatever the records hold."""

import math

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from release_records import question, without

from confide.config.tasks.tabular import TabularConfig
from confide.protocol.plan import TrainingPlan
from confide.releases.release import Records
from confide.releases.table import RELEASES


def drawn(seed: int, plan: TrainingPlan) -> Records:
    """Draw records of any encoding: a task of one's own may make any numbers."""
    task, random = plan.encoded_task, numpy.random.default_rng(seed)
    assert isinstance(task, TabularConfig)
    rows = int(random.integers(1, 13))
    features = random.choice(
        [0.0, 1.0, 161.0, -1e6, 1e6, 0.25, 0.75, 40.0], size=(rows, task.num_inputs)
    )
    owners = numpy.unique(random.integers(0, 5, size=rows), return_inverse=True)[1]
    return Records(
        features=features,
        labels=random.integers(0, 2, size=rows),
        groups=owners,
        by_group=plan.privacy.unit == "group",
    )


def moved(plan: TrainingPlan, records: Records, unit: "numpy.typing.NDArray[numpy.bool_]") -> float:
    entry = RELEASES[plan.releases]
    scales = entry.scales_fn(plan)
    whole, rest = entry.sums_fn(plan, records), entry.sums_fn(plan, without(records, unit))
    norms = [numpy.linalg.norm(whole[name] - rest[name]) / scale for name, scale in scales.items()]
    return math.hypot(*map(float, norms))


@pytest.mark.parametrize("edges", ["public", "released"])
@pytest.mark.parametrize("unit", ["record", "group"])
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_unit_moves_statistics_by_at_most_one(unit: str, edges: str, seed: int) -> None:
    plan = question(unit, edges=edges)
    records = drawn(seed, plan)
    assert records.groups is not None
    one = records.groups == records.groups[0]
    chosen = one if unit == "group" else numpy.arange(len(one)) == 0
    assert moved(plan, records, chosen) <= 1 + 1e-9


def test_the_bound_is_reached() -> None:
    """A record at the end of every range moves them by all that noise was made for."""
    plan = question("record")
    row = numpy.array([[161.0, 1.0, 1.0, 0.0, 161.0, 1.0, 0.0, 1.0, 0.0, 0.0]])
    records = Records(features=row, labels=numpy.array([1]))
    assert moved(plan, records, numpy.array([True])) == pytest.approx(1)
