"""A gap that is called beyond chance is so: of groups that are alike, one in twenty at most."""

import numpy

from confide.metrics.intervals import share_interval
from confide.metrics.subgroups.gaps import Measure, gaps


def share(part: float, rest: float) -> Measure:
    return Measure(
        name="accuracy",
        value=part / (part + rest),
        ends_fn=lambda z: share_interval(part, rest, (0, 0), z=z),
    )


def test_groups_that_are_alike_seem_apart_in_one_run_of_twenty_at_most() -> None:
    rng, false = numpy.random.default_rng(0), 0
    for _ in range(1000):
        right = rng.binomial(80, 0.7, size=5)
        (gap,) = gaps({str(i): {"accuracy": share(it, 80 - it)} for i, it in enumerate(right)})
        false += bool(gap["beyond_chance"])
    assert false <= 65  # 50 expected at most, and three standard deviations


def test_groups_that_differ_are_told_apart() -> None:
    found = gaps({"a": {"accuracy": share(90, 10)}, "b": {"accuracy": share(60, 40)}})
    assert found[0]["beyond_chance"]
    assert found[0]["value"] == 0.3


def test_one_group_has_no_gap() -> None:
    assert gaps({"a": {"accuracy": share(90, 10)}}) == []
