"""Sections on several labels, and on labels in order: the figures are those of the records."""

from collections.abc import Mapping
from typing import Any

import numpy
import pytest

from confide.metrics.evaluation import Measured, describe
from confide.metrics.floor import Floor
from confide.metrics.metric import Metric
from confide.metrics.outcomes.multi_label import MULTI_LABEL, mean_average_precision
from confide.metrics.outcomes.ordinal import ORDINAL, median_labels
from confide.metrics.release import (
    add_noise,
    estimates,
    exact_sums,
    named_sums,
    statistics_of,
    unit_sums,
)
from confide.metrics.tally import ScoreTally

NAMES = {"multi_label": ["a", "b", "rare"], "ordinal": ["low", "mid", "high", "top"]}
TABLES: dict[str, Mapping[str, Metric]] = {"multi_label": MULTI_LABEL, "ordinal": ORDINAL}
Floats = numpy.ndarray


def drawn(kind: str, count: int, seed: int = 0) -> tuple[Floats, Floats]:
    rng = numpy.random.default_rng(seed)
    if kind == "multi_label":
        truth = (rng.random((count, 3)) < [0.5, 0.2, 0.05]).astype(int)
        return 1 / (1 + numpy.exp(-(2 * truth - 1 + rng.normal(size=truth.shape)))), truth
    labels = rng.integers(0, 4, count)
    steps = labels[:, None] - numpy.array([0.5, 1.5, 2.5]) + rng.normal(0, 0.8, (count, 1))
    above = 1 / (1 + numpy.exp(-3 * steps))
    ones, zeros = numpy.ones((count, 1)), numpy.zeros((count, 1))
    return numpy.hstack([ones, above]) - numpy.hstack([above, zeros]), labels


def scored(kind: str, scores: Floats, truth: Floats) -> dict[str, float]:
    values = {name: one.score_fn(scores, truth) for name, one in TABLES[kind].items()}
    known = {name: float(value) for name, value in values.items() if value is not None}
    return {**known, "num_examples": len(truth)}


def exact(kind: str, scores: Floats, truth: Floats, least: int = 1) -> ScoreTally:
    statistics = statistics_of(list(TABLES[kind]), TABLES[kind])
    tally = ScoreTally(sums=exact_sums(statistics, scores, truth, Floor(least=least)))
    assert tally.problem() is None
    return tally


def noisy(
    kind: str, scores: Floats, truth: Floats, std: float
) -> tuple[ScoreTally, dict[str, float]]:
    names, width = list(TABLES[kind]), scores.shape[1]
    statistics = statistics_of(names, TABLES[kind])
    sums = unit_sums(statistics, scores, truth)
    released = add_noise(sums, numpy.random.default_rng(5).normal(0, std, len(sums)))
    told = estimates(released, names, TABLES[kind], classes=width, std=std)
    return ScoreTally(sums=named_sums(released, statistics, width), std=std), told


def section(
    kind: str, test: dict[str, Any], tallies: dict[str, ScoreTally], federated: Any = None
) -> dict[str, Any]:
    return describe(
        kind,
        Measured(
            labels=NAMES[kind],
            metrics=TABLES[kind],
            federated=federated or next(iter(test.values())),
            is_pooled=federated is not None,
            test=test,
            tallies=tallies,
        ),
    )


def two(kind: str, least: int) -> tuple[dict[str, Any], Floats, Floats]:
    """Return the section on two institutions, and the records of both."""
    parts = {name: drawn(kind, 900, seed) for seed, name in enumerate("ab")}
    scores, truth = (numpy.concatenate([part[it] for part in parts.values()]) for it in (0, 1))
    return (
        section(
            kind,
            {name: scored(kind, *part) for name, part in parts.items()},
            {name: exact(kind, *part, least) for name, part in parts.items()},
            scored(kind, scores, truth),
        ),
        scores,
        truth,
    )


@pytest.mark.parametrize("least", [1, 10])
def test_each_label_has_the_figures_of_its_records(least: int) -> None:
    found, scores, truth = two("multi_label", least)
    for place, one in enumerate(found["labels"]):
        said, true = scores[:, place] >= 0.5, truth[:, place] == 1
        right = (said & true).sum()
        assert one["records"] == true.sum()
        assert one["share"]["value"] == pytest.approx(true.mean(), abs=1e-6)
        assert one["precision"]["value"] == pytest.approx(right / said.sum(), abs=1e-6)
        assert one["recall"]["value"] == pytest.approx(right / true.sum(), abs=1e-6)
        f1 = 2 * right / (said.sum() + true.sum())
        assert one["f1"]["value"] == pytest.approx(f1, abs=1e-6)
        precision = mean_average_precision(scores[:, [place]], truth[:, [place]])
        # Ten records of which one has the label are in any order
        near = 0.02 if least == 1 else 0.07
        assert one["average_precision"]["value"] == pytest.approx(precision, abs=near)
        low, high = one["average_precision"]["interval"]
        assert low - near < precision < high + near


def test_a_label_that_few_are_predicted_to_have_is_not_told() -> None:
    scores, truth = drawn("multi_label", 300)
    scores[:, 2] = scores[:, 2] * 0.49  # for nobody
    scores[:4, 2] = 0.9
    found = section(
        "multi_label",
        {"a": scored("multi_label", scores, truth)},
        {"a": exact("multi_label", scores, truth, 10)},
    )
    rare = found["labels"][2]
    assert rare["records"] is None
    assert [rare[name]["value"] for name in ("share", "precision", "recall", "f1")] == [None] * 4
    assert found["labels"][0]["precision"]["value"] is not None


@pytest.mark.parametrize("least", [1, 10])
def test_labels_in_order_tell_who_is_taken_for_what(least: int) -> None:
    found, scores, truth = two("ordinal", least)
    taken = median_labels(scores)
    counts = numpy.zeros((4, 4))
    numpy.add.at(counts, (truth, taken), 1)
    assert found["confusion"]["counts"] == counts.tolist()
    for one in found["steps"]:
        share = (abs(taken - truth) == one["steps"]).mean()
        assert one["share"]["value"] == pytest.approx(share, abs=1e-6)
    assert found["by_label"][1]["recall"]["value"] == pytest.approx(
        (taken[truth == 1] == 1).mean(), abs=1e-6
    )


def test_a_prediction_of_few_is_told_with_its_neighbour() -> None:
    scores, truth = drawn("ordinal", 400)
    scores[:, 3] = 0.0  # nobody is taken for the top
    found = section(
        "ordinal",
        {"a": scored("ordinal", scores, truth)},
        {"a": exact("ordinal", scores, truth, 10)},
    )
    assert found["confusion"]["predicted"][-1] == "high to top"
    assert sum(map(sum, found["confusion"]["counts"])) == 400
    assert "steps" not in found
    assert found["metrics"]["mae"]["interval"]


@pytest.mark.parametrize("kind", ["multi_label", "ordinal"])
def test_intervals_are_as_wide_as_metrics_spread(kind: str) -> None:
    found, _, _ = two(kind, 1)
    each = [scored(kind, *drawn(kind, 1800, seed)) for seed in range(10, 90)]
    for name in TABLES[kind]:
        low, high = found["metrics"][name]["interval"]
        spread = float(numpy.std([one[name] for one in each]))
        # Of a mean over labels an upper bound
        most = 2.4 if kind == "multi_label" else 1.6
        assert 0.75 < (high - low) / 3.92 / spread < most, name


@pytest.mark.parametrize("kind", ["multi_label", "ordinal"])
def test_noisy_sums_give_the_same_section_with_wider_intervals(kind: str) -> None:
    scores, truth = drawn(kind, 5000)
    tally, told = noisy(kind, scores, truth, 3.0)
    plain = section(kind, {"a": scored(kind, scores, truth)}, {"a": exact(kind, scores, truth)})
    found = section(kind, {"a": told}, {"a": tally})
    assert found["noise"] > 0
    name = "labels" if kind == "multi_label" else "by_label"
    for one, other in zip(found[name], plain[name], strict=True):
        for figure in ("precision", "recall"):
            low, high = one[figure]["interval"]
            exact_low, exact_high = other[figure]["interval"]
            assert low < other[figure]["value"] < high
            assert high - low > exact_high - exact_low


@pytest.mark.parametrize("kind", ["multi_label", "ordinal"])
def test_a_tally_of_other_records_is_left_out(kind: str) -> None:
    scores, truth = drawn(kind, 500)
    tally = exact(kind, scores[:400], truth[:400])
    found = section(kind, {"a": scored(kind, scores, truth)}, {"a": tally})
    assert "counted" not in found
    assert list(found["clients"]) == ["a"]
