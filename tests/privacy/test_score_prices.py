"""What docs/privacy.md says that noisy scores cost is what they cost."""

import itertools
from pathlib import Path

import pytest

from confide.metrics.metric import reported
from confide.metrics.outcomes.classification import CLASSIFICATION
from confide.metrics.release import sensitivity, statistics_of
from confide.privacy.accounting import Schedule, epsilon

PAGE = Path(__file__).parents[2] / "docs" / "privacy.md"
ROWS = list(itertools.product((100, 1000, 10_000), (0.01, 0.03)))


def price(count: int, error: float, metrics: list[str], releases: int) -> float:
    """Return the epsilon of releases whose noise gives accuracy a standard error, at most."""
    # A share of n, one sum's noise divided by n: with right and wrong ones at p and 1 - p it is
    # sqrt((1 - p)^2 + p^2) times that, at most 1
    std = error * count
    sigma = std / sensitivity(statistics_of(metrics, CLASSIFICATION))
    schedule = Schedule(noise_multiplier=sigma, sampling_rate=1.0, steps=releases)
    return epsilon(schedule, delta=1e-5)


def row(count: int, error: float) -> str:
    prices = [
        price(count, error, metrics, releases)
        for metrics in (["accuracy"], reported(CLASSIFICATION))
        for releases in (1, 11)
    ]
    shown = " | ".join(f"{value:.2g}" if value < 1 else f"{value:.1f}" for value in prices)
    return f"| {count:,} | {error:g} | {shown} |"


@pytest.mark.parametrize(("count", "error"), ROWS)
def test_page_tells_the_price_of_a_standard_error(count: int, error: float) -> None:
    assert row(count, error) in PAGE.read_text()


if __name__ == "__main__":
    print("\n".join(row(*one) for one in ROWS))
