"""Mean errors of groups are those of their records, with intervals as wide."""

from typing import Any

import numpy
import pytest

from confide.config.outcomes.regression import RegressionConfig
from confide.metrics.evaluation import Measured, describe
from confide.metrics.floor import Floor
from confide.metrics.subgroups.describe import describe_subgroups
from confide.metrics.subgroups.groups import Subgroups
from confide.metrics.subgroups.numbers import NUMBERS, residual_rows
from confide.metrics.subgroups.pooled import group_name
from confide.metrics.tally import ScoreTally

STAY = RegressionConfig(column="stay", minimum=1.0, maximum=101.0)
WARD = Subgroups(column="ward", categories=("a", "b"))
Floats = numpy.ndarray


def drawn(count: int, seed: int = 0) -> tuple[Floats, Floats, Floats]:
    rng = numpy.random.default_rng(seed)
    codes, told = rng.integers(0, 2, count), rng.normal(40, 12, count).clip(1, 101)
    true = (told + 3 * codes + rng.normal(0, 9, count)).clip(1, 101)
    return told[:, None], (true - 1) / 100, codes


def section(told: Floats, truth: Floats, codes: Floats, std: float = 0.0) -> dict[str, Any]:
    (one,) = NUMBERS.statistics_fn(STAY.metric_table, ["mae"])
    sums: dict[str, list[float]] = {}
    rng = numpy.random.default_rng(5)
    for group in range(2):
        usable = one.usable_fn(told[codes == group], truth[codes == group])
        assert one.exact_fn is not None
        found = one.exact_fn(*usable, Floor()) if std == 0 else None
        noisy = one.rows_fn(*usable).sum(axis=0) + rng.normal(0, std, 4) if std else None
        values = noisy if found is None else found
        assert values is not None
        sums[group_name(one.name, "ward", group)] = [float(it) for it in values]
    tally = ScoreTally(sums=sums, std=std)
    assert tally.problem() is None
    measured = Measured(
        labels=(),
        metrics=STAY.metric_table,
        federated={"num_examples": 10},
        is_pooled=True,
        test={"x": {"num_examples": 10}},
        tallies={"x": tally},
        settings=STAY,
        subgroups=(WARD,),
    )
    told: dict[str, Any] = describe_subgroups(
        "regression", measured, describe("regression", measured)
    )
    column: dict[str, Any] = told["subgroups"]["columns"]["ward"]
    return column


@pytest.mark.parametrize("std", [0.0, 2.0])
def test_errors_are_those_of_the_records(std: float) -> None:
    told, truth, codes = drawn(2000)
    column = section(told, truth, codes, std)
    for group, one in enumerate(column["groups"]):
        off = (told[:, 0] - 1 - 100 * truth)[codes == group]
        within = 0.6 if std else 0.01
        measures = one["measures"]
        assert measures["mean_error"]["value"] == pytest.approx(off.mean(), abs=within)
        assert measures["mae"]["value"] == pytest.approx(abs(off).mean(), abs=within)
        half = 1.96 * off.std() / len(off) ** 0.5
        low, high = measures["mean_error"]["interval"]
        if std == 0:
            assert (high - low) / 2 == pytest.approx(half, rel=0.01)
        else:
            assert (high - low) / 2 > half
    gap = next(it for it in column["gaps"] if it["measure"] == "mean_error")
    assert (gap["highest"], gap["lowest"], gap["beyond_chance"]) == ("a", "b", True)


def test_row_is_never_longer_than_1() -> None:
    ends = numpy.linspace(0, 1, 201)
    shares, truth = (it.ravel() for it in numpy.meshgrid(ends, ends))
    rows = residual_rows(shares, truth)
    assert (rows >= 0).all()
    assert numpy.linalg.norm(rows, axis=1).max() <= 1 + 1e-12
    assert rows @ [1, 1, 1, 0] == pytest.approx(numpy.ones(len(rows)))
