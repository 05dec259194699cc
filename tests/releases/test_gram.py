"""The Gram matrix of encoded rows: what a unit adds, how far it moves, and what is refused."""

import dataclasses
import math
from typing import Any

import numpy
import pytest
import torch
from builders import build_plan
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from confide.config.models.perceptrons import LogisticConfig, MlpConfig
from confide.config.privacy import PrivacyConfig
from confide.config.tasks.columns import ColumnConfig, NumericConfig
from confide.config.tasks.tabular import TabularConfig
from confide.models.networks import scaled_rows
from confide.protocol.plan import TrainingPlan
from confide.protocol.released_edges import ReleasedEdges
from confide.protocol.releases import release_plan, release_shapes
from confide.releases.gram import GRAM, GRAM_MATRIX, packed, unit_rows, unpacked
from confide.releases.release import Records

Floats = NDArray[numpy.float64]
NORM = 3.0


def plan_of(columns: int = 1, *, bins: int = 4, **fields: Any) -> TrainingPlan:
    task = TabularConfig(
        labels=["no", "yes"],
        columns={f"c{i}": ColumnConfig(minimum=0.0, maximum=1.0) for i in range(columns)},
        numeric=NumericConfig(bins=bins),
    )
    given = {
        "task": task,
        "backbone": LogisticConfig(row_norm=NORM),
        "privacy": PrivacyConfig(unit="record", epsilon=2.0),
        "seed": None,
    }
    return build_plan(**{**given, **fields})


PLAN = release_plan(plan_of(), "gram", epsilon=0.5)


def sums_of(
    features: Floats, groups: NDArray[numpy.int64] | None = None, *, by_group: bool = False
) -> Floats:
    records = Records(
        features=features,
        labels=numpy.zeros(len(features), dtype="int64"),
        groups=groups,
        by_group=by_group,
    )
    return GRAM_MATRIX.sums_fn(PLAN, records)[GRAM]


numbers = st.one_of(
    st.floats(-2, 2), st.floats(allow_nan=True, allow_infinity=True), st.just(0.0), st.just(1e-7)
)
tables = arrays(numpy.float64, st.tuples(st.integers(1, 12), st.just(4)), elements=numbers)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@settings(max_examples=150, deadline=None)
@given(tables, st.data())
def test_one_record_moves_the_release_by_at_most_one(features: Floats, data: Any) -> None:
    place = data.draw(st.integers(0, len(features) - 1))
    # Zeroed out, a record adds nothing: as one that is no number
    without = features.copy()
    without[place] = numpy.nan
    moved = numpy.linalg.norm(sums_of(features) - sums_of(without))
    assert moved <= 1.0
    alone = sums_of(features[place : place + 1])
    assert moved == pytest.approx(numpy.linalg.norm(alone), abs=1e-9)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@settings(max_examples=150, deadline=None)
@given(tables, st.data())
def test_one_group_moves_the_release_by_at_most_one(features: Floats, data: Any) -> None:
    groups = numpy.array(data.draw(st.lists(st.integers(0, 3), min_size=12, max_size=12)))
    groups = numpy.unique(groups[: len(features)], return_inverse=True)[1].astype("int64")
    without = features.copy()
    without[groups == 0] = numpy.nan
    both = [sums_of(rows, groups, by_group=True) for rows in (features, without)]
    assert numpy.linalg.norm(both[0] - both[1]) <= 1.0


def test_the_largest_move_is_nearly_one() -> None:
    """The noise is for what a record can add, and not for twice that."""
    assert 0.998 < numpy.linalg.norm(sums_of(numpy.array([[0.3, -1.0, 0.2, 0.9]]))) <= 1.0


def test_it_is_the_gram_matrix_of_what_the_model_takes() -> None:
    rows = numpy.random.default_rng(0).normal(size=(20_000, 4))
    taken = scaled_rows(torch.from_numpy(rows), NORM).numpy()
    taken = numpy.concatenate([taken, numpy.ones((len(rows), 1))], axis=1)
    expected = taken.T @ taken / (NORM**2 + 1)
    found = unpacked(sums_of(rows))
    assert numpy.abs(found / expected - 1).max() < 2e-3
    assert (found == found.T).all()


def test_a_group_counts_as_much_as_a_record_however_many_it_has() -> None:
    rows = numpy.array([[1.0, 0, 0, 0], [1.0, 0, 0, 0], [1.0, 0, 0, 0], [0, 1.0, 0, 0]])
    groups = numpy.array([0, 0, 0, 1])
    expected = sums_of(rows[2:])
    assert sums_of(rows, groups, by_group=True) == pytest.approx(expected)


@given(arrays(numpy.float64, (5, 5), elements=st.floats(-10, 10)))
def test_the_packed_vector_has_the_norm_of_the_matrix(matrix: Floats) -> None:
    symmetric = matrix + matrix.T
    vector = packed(symmetric)
    assert vector.shape == (15,)
    assert numpy.linalg.norm(vector) == pytest.approx(numpy.linalg.norm(symmetric), abs=1e-12)
    assert unpacked(vector) == pytest.approx(symmetric, abs=1e-12)


def test_rows_of_zeros_have_the_intercept_alone() -> None:
    row = unit_rows(numpy.zeros((1, 3)), NORM)[0]
    assert row[:3].tolist() == [0, 0, 0]
    assert row[3] == pytest.approx(1 / math.hypot(NORM, 1), rel=1e-3)


# The question


def test_the_question_holds_edges_and_model_and_nothing_else_of_the_run() -> None:
    edges = ReleasedEdges(job="edges-1", epsilon=0.3, columns={"c0": [0.5]})
    task = dataclasses.replace(plan_of().task, numeric=NumericConfig(bins=4, edges="released"))  # type: ignore[type-var]
    run = plan_of(task=task, edges=edges)
    asked = release_plan(run, "gram", epsilon=0.1)
    assert TrainingPlan.from_json(asked.to_json()) == asked
    assert release_shapes(asked) == {GRAM: (3 * 4 // 2,)}  # one edge, two cells, one intercept
    later = dataclasses.replace(
        run, job="later", num_rounds=7, privacy=PrivacyConfig(unit="record", epsilon=1.0)
    )
    assert release_plan(later, "gram", epsilon=0.1) == asked
    others = [
        dataclasses.replace(run, backbone=LogisticConfig(row_norm=2.0)),
        dataclasses.replace(run, edges=dataclasses.replace(edges, columns={"c0": [0.4]})),
    ]
    jobs = {release_plan(other, "gram", epsilon=0.1).job for other in others}
    assert len({asked.job, *jobs}) == 3


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"privacy": PrivacyConfig()}, "protected unit"),
        ({"backbone": LogisticConfig()}, "rows of one norm"),
        ({"backbone": MlpConfig(row_norm=3.0)}, "linear model"),
    ],
)
def test_what_has_no_bound_is_refused(fields: dict[str, Any], said: str) -> None:
    asked = release_plan(plan_of(**fields), "gram", epsilon=0.5)
    assert said in " ".join(asked.problems())


def test_more_inputs_than_can_be_sent_are_refused_with_a_way_out() -> None:
    assert not list(release_plan(plan_of(15, bins=128), "gram", epsilon=0.5).problems())
    asked = release_plan(plan_of(16, bins=128), "gram", epsilon=0.5)
    assert "lower task.numeric.bins" in " ".join(asked.problems())
