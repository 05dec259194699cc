"""Noisy metrics: one unit moves the sums by a known distance, and the noise is what is claimed."""

import math

import numpy
import pytest
from numpy.typing import NDArray

from confide.metrics.outcomes.classification import CLASSIFICATION, LARGEST_LOSS
from confide.metrics.release import add_noise, estimates, sensitivity, statistics_of, unit_sums

NAMES = list(CLASSIFICATION)
SUBSETS = [
    NAMES,
    ["accuracy"],
    ["macro_f1"],
    ["auc"],
    ["log_loss"],
    ["accuracy", "log_loss"],
    ["brier"],
    ["average_precision", "auc"],
]
UNIT = 2**30
Floats = NDArray[numpy.float64]


def drawn(
    rng: numpy.random.Generator, count: int, classes: int
) -> tuple[Floats, NDArray[numpy.int64]]:
    """Draw labels, and scores of which some are not finite, not in range, or all zero."""
    scores = rng.dirichlet([0.2] * classes, size=count)
    odd = [math.nan, math.inf, -math.inf, -1.0, 0.0, 1.0, 1e300, 5e-324]
    changed = rng.random((count, classes)) < 0.2
    scores[changed] = rng.choice(odd, size=int(changed.sum()))
    return scores, rng.integers(0, classes, size=count)


@pytest.mark.parametrize("names", SUBSETS)
def test_zeroing_one_unit_moves_the_sums_by_at_most_the_sensitivity(names: list[str]) -> None:
    rng, statistics = numpy.random.default_rng(0), statistics_of(names, CLASSIFICATION)
    largest = 0.0
    for _ in range(200):
        classes, count = int(rng.integers(2, 8)), int(rng.integers(1, 30))
        scores, labels = drawn(rng, count, classes)
        groups = rng.integers(0, 5, size=count) if rng.random() < 0.5 else None
        whole = unit_sums(statistics, scores, labels, groups)
        units = numpy.arange(count) if groups is None else groups
        for unit in numpy.unique(units):
            kept = units != unit
            rest = (
                unit_sums(
                    statistics, scores[kept], labels[kept], None if groups is None else groups[kept]
                )
                if kept.any()
                else numpy.zeros_like(whole)
            )
            largest = max(largest, float(numpy.linalg.norm((whole - rest) / UNIT)))
    assert 0.99 * sensitivity(statistics) < largest <= sensitivity(statistics)


def test_record_adds_the_same_whoever_else_is_there() -> None:
    rng, statistics = numpy.random.default_rng(1), statistics_of(NAMES, CLASSIFICATION)
    scores, labels = drawn(rng, 60, 3)
    alone = [unit_sums(statistics, scores[i : i + 1], labels[i : i + 1]) for i in range(60)]
    assert (unit_sums(statistics, scores, labels) == sum(alone)).all()


def test_group_counts_as_one_unit_however_many_records_it_has() -> None:
    scores, labels = numpy.tile([[0.9, 0.1]], (7, 1)), numpy.zeros(7, dtype=int)
    groups = numpy.array([0, 0, 0, 0, 0, 0, 1])
    sums = unit_sums(statistics_of(["accuracy"], CLASSIFICATION), scores, labels, groups)
    assert sums.tolist() == [2 * UNIT, 0]


def test_model_that_has_diverged_is_wrong_about_everybody() -> None:
    scores, labels = numpy.full((50, 3), math.nan), numpy.arange(50) % 3
    sums = unit_sums(statistics_of(NAMES, CLASSIFICATION), scores, labels) / UNIT
    found = estimates(sums, NAMES, CLASSIFICATION, classes=3, std=0.0)
    assert found["num_examples"] == 50
    assert (found["accuracy"], found["macro_f1"]) == (0.0, 0.0)
    assert found["log_loss"] == pytest.approx(LARGEST_LOSS)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_without_noise_metrics_are_those_that_are_computed_exactly(classes: int) -> None:
    rng = numpy.random.default_rng(2)
    labels = rng.integers(0, classes, size=4000)
    scores = numpy.eye(classes)[labels] * 0.5 + rng.dirichlet([1.0] * classes, size=4000)
    scores /= scores.sum(axis=1, keepdims=True)
    sums = unit_sums(statistics_of(NAMES, CLASSIFICATION), scores, labels) / UNIT
    found = estimates(sums, NAMES, CLASSIFICATION, classes=classes, std=0.0)
    exact = {name: CLASSIFICATION[name].score_fn(scores, labels) for name in NAMES}
    assert found["num_examples"] == 4000
    for name in ("accuracy", "macro_f1", "log_loss"):
        assert found[name] == pytest.approx(exact[name], abs=1e-6)
    assert found["brier"] == pytest.approx(exact["brier"], abs=1e-6)
    assert found["auc"] == pytest.approx(exact["auc"], abs=0.01)  # scores are binned
    # Precision is that of bins: those in which both classes are read lower than record by record.
    assert -0.04 < found["average_precision"] - exact["average_precision"] < 0.01


@pytest.mark.parametrize("names", SUBSETS)
def test_noise_told_is_the_noise_that_metrics_have(names: list[str]) -> None:
    rng, std = numpy.random.default_rng(3), 6.0
    labels = rng.integers(0, 3, size=3000)
    scores = numpy.eye(3)[labels] * 0.4 + rng.dirichlet([1.0] * 3, size=3000)
    sums = unit_sums(statistics_of(names, CLASSIFICATION), scores, labels)
    released = [
        estimates(
            add_noise(sums, rng.normal(0, std, size=len(sums))),
            names,
            CLASSIFICATION,
            classes=3,
            std=std,
        )
        for _ in range(120)
    ]
    exact = estimates(sums / UNIT, names, CLASSIFICATION, classes=3, std=0.0)
    for name in names:
        values = numpy.array([one[name] for one in released])
        told = numpy.mean([one[f"{name}_noise"] for one in released])
        assert values.std() == pytest.approx(told, rel=0.25)
        # Precision that is near 1 can be told too low and not too high: by its noise at most.
        error = told if name == "average_precision" else 4 * told / math.sqrt(len(values))
        assert abs(values.mean() - exact[name]) < error + 0.002
    counts = numpy.array([one["num_examples"] for one in released])
    assert abs(counts.mean() - 3000) < 4 * counts.std() / math.sqrt(len(counts)) + 1


def test_values_stay_in_their_metrics_range_whatever_the_noise() -> None:
    rng, statistics = numpy.random.default_rng(4), statistics_of(NAMES, CLASSIFICATION)
    sums = unit_sums(statistics, numpy.array([[0.7, 0.3]]), numpy.array([0]))
    for _ in range(50):
        noisy = add_noise(sums, rng.normal(0, 30, size=len(sums)))
        found = estimates(noisy, NAMES, CLASSIFICATION, classes=2, std=30.0)
        assert found["num_examples"] >= 1
        for name in found.keys() & set(NAMES):
            assert CLASSIFICATION[name].least <= found[name] <= CLASSIFICATION[name].largest
            assert math.isfinite(found[f"{name}_noise"])
