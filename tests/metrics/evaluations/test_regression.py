"""The section on a regression: its figures are those of the records, its intervals as wide."""

from typing import Any

import numpy
import pytest

from confide.config.outcomes.regression import RegressionConfig
from confide.metrics.evaluation import Measured, describe
from confide.metrics.floor import Floor
from confide.metrics.number_bins import EXACT_BINS, NOISY_BINS, RESIDUAL_BINS
from confide.metrics.outcomes.regression import ABSOLUTE, SQUARES
from confide.metrics.release import (
    add_noise,
    estimates,
    exact_sums,
    from_sums,
    named_sums,
    statistics_of,
    unit_sums,
)
from confide.metrics.tally import ScoreTally

STAY = RegressionConfig(column="stay", minimum=1.0, maximum=101.0)
AMOUNT = RegressionConfig(column="amount", minimum=0.0, maximum=5000.0, scale="log1p")
Floats = numpy.ndarray


def drawn(config: RegressionConfig, count: int, seed: int = 0) -> tuple[Floats, Floats]:
    """Draw predictions, shape [n, 1], and numbers as shares of the range."""
    rng, (low, high) = numpy.random.default_rng(seed), config.span
    if config.scale == "log1p":
        told = numpy.exp(rng.normal(4, 0.6, count))
        true = told * numpy.exp(rng.normal(0, 0.3, count))
    else:
        told = rng.normal(40, 12, count)
        true = told + rng.normal(0, 9, count)
    return told.clip(low, high)[:, None], (true.clip(low, high) - low) / (high - low)


def scored(config: RegressionConfig, told: Floats, truth: Floats) -> dict[str, float]:
    metrics = config.metric_table
    values = {name: float(one.score_fn(told, truth) or 0.0) for name, one in metrics.items()}
    return {**values, "num_examples": len(truth)}


def exact(config: RegressionConfig, told: Floats, truth: Floats, least: int = 1) -> ScoreTally:
    metrics = config.metric_table
    statistics = statistics_of(list(metrics), metrics)
    tally = ScoreTally(sums=exact_sums(statistics, told, truth, Floor(least=least)))
    assert tally.problem() is None
    return tally


def noisy(
    config: RegressionConfig, told: Floats, truth: Floats, std: float, seed: int = 0
) -> tuple[ScoreTally, dict[str, float]]:
    metrics = config.metric_table
    statistics = statistics_of(list(metrics), metrics)
    sums = unit_sums(statistics, told, truth)
    released = add_noise(sums, numpy.random.default_rng(seed).normal(0, std, len(sums)))
    tally = ScoreTally(sums=named_sums(released, statistics, 1), std=std)
    return tally, estimates(released, list(metrics), metrics, classes=1, std=std)


def section(
    config: RegressionConfig, test: dict[str, Any], tallies: dict[str, ScoreTally]
) -> dict[str, Any]:
    return describe(
        "regression",
        Measured(
            labels=(),
            metrics=config.metric_table,
            federated=next(iter(test.values())),
            is_pooled=True,
            test=test,
            tallies=tallies,
            settings=config,
        ),
    )


@pytest.mark.parametrize("config", [STAY, AMOUNT], ids=["linear", "log1p"])
@pytest.mark.parametrize("least", [1, 10])
def test_groups_and_residuals_are_those_of_the_records(
    config: RegressionConfig, least: int
) -> None:
    told, truth = drawn(config, 1500)
    low, high = config.span
    true = low + (high - low) * truth
    found = section(
        config,
        {"a": scored(config, told, truth)},
        {"a": exact(config, told, truth, least)},
    )
    assert found["actual"]["value"] == pytest.approx(true.mean(), rel=1e-6)
    assert sum(group["records"] for group in found["groups"]) == 1500
    for group in found["groups"]:
        inside = (told[:, 0] >= group["from"]) & (told[:, 0] < group["to"])
        assert group["records"] == pytest.approx(inside.sum(), abs=1)
        error = (high - low) / 1024 + 0.01 * true.mean()
        assert group["actual"]["value"] == pytest.approx(true[inside].mean(), abs=error)
    residuals = found["residuals"]
    assert sum(residuals["records"]) == 1500
    assert min(residuals["records"]) >= (0 if least == 1 else least)
    for one in residuals["within"]:
        share = (abs(told[:, 0] - true) <= one["distance"]).mean()
        assert one["share"]["value"] == pytest.approx(share, abs=1e-3)
        low_end, high_end = one["share"]["interval"]
        assert low_end <= share <= high_end


@pytest.mark.parametrize("config", [STAY, AMOUNT], ids=["linear", "log1p"])
def test_intervals_are_as_wide_as_metrics_spread(config: RegressionConfig) -> None:
    told, truth = drawn(config, 1500)
    found = section(config, {"a": scored(config, told, truth)}, {"a": exact(config, told, truth)})
    each = [scored(config, *drawn(config, 1500, seed)) for seed in range(1, 120)]
    for name in config.metric_table:
        low, high = found["metrics"][name]["interval"]
        spread = float(numpy.std([one[name] for one in each]))
        # Of long tails one sample does not know all
        least = 0.5 if config is AMOUNT else 0.75
        assert least < (high - low) / 3.92 / spread < 1.9, name


def test_noise_widens_intervals_and_moves_no_figure_beyond_them() -> None:
    told, truth = drawn(STAY, 4000)
    true, inside, groups = 1 + 100 * truth, 0, 0
    for seed in range(8):
        tally, scores = noisy(STAY, told, truth, 6.0, seed)
        found = section(STAY, {"a": scores}, {"a": tally})
        plain = section(STAY, {"a": scored(STAY, told, truth)}, {"a": exact(STAY, told, truth)})
        for group in found["groups"]:
            where = (told[:, 0] >= group["from"]) & (told[:, 0] < group["to"])
            low, high = group["actual"]["interval"]
            inside += low <= true[where].mean() <= high
            groups += 1
        low, high = found["metrics"]["mae"]["interval"]
        exact_low, exact_high = plain["metrics"]["mae"]["interval"]
        assert high - low > exact_high - exact_low
    assert inside >= 0.9 * groups


def test_sums_that_noise_drowns_do_not_seem_sure() -> None:
    """Cut off at 0, a negative sum of squares would be a perfect model without any noise."""
    told, truth = drawn(AMOUNT, 300)
    for seed in range(12):
        _, scores = noisy(AMOUNT, told, truth, 20.0, seed)
        assert scores["rmse"] >= 0
        assert scores["rmse_noise"] > 100
        if "r2" in scores:
            assert scores["r2"] <= 1
            assert scores["r2_noise"] > 0.1


def test_r2_of_all_follows_from_the_sums_of_each() -> None:
    parts = [drawn(STAY, count, seed) for seed, count in enumerate((50, 400, 90))]
    parts[0] = parts[0][0], (parts[0][1] + 0.3).clip(0, 1)
    told, truth = (numpy.concatenate([part[it] for part in parts]) for it in (0, 1))
    r2 = STAY.metric_table["r2"]
    tallies = [exact(STAY, *part, least=10) for part in parts]
    assert from_sums(r2, tallies) == {"r2": pytest.approx(scored(STAY, told, truth)["r2"])}
    noisy_parts = [noisy(STAY, *part, std=0.01)[0] for part in parts]
    found = from_sums(r2, noisy_parts)
    assert found["r2"] == pytest.approx(scored(STAY, told, truth)["r2"], abs=0.02)
    assert found["r2_noise"] > 0


@pytest.mark.parametrize(
    "sums",
    [
        {},
        {SQUARES: [1.0] * 4},  # as of a release before bins
        {SQUARES: [1.0] * (4 + 2 * NOISY_BINS), ABSOLUTE: [1.0] * (1 + RESIDUAL_BINS)},
        {SQUARES: [0.0] * (4 + 3 * EXACT_BINS)},
    ],
    ids=["nothing", "earlier", "noisy", "of others"],
)
def test_a_tally_of_another_shape_or_of_other_records_is_left_out(
    sums: dict[str, list[float]],
) -> None:
    told, truth = drawn(STAY, 100)
    tally = ScoreTally(sums=sums)
    found = section(STAY, {"a": scored(STAY, told, truth)}, {"a": tally})
    assert "groups" not in found
    assert found["metrics"]["r2"]["interval"] is None
    if SQUARES not in sums or len(sums[SQUARES]) != 4 + 3 * EXACT_BINS:
        assert from_sums(STAY.metric_table["r2"], [tally, exact(STAY, told, truth)]) == {}
