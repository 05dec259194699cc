import pytest
from scipy.stats import binomtest

from confide.server.report.intervals import interval, wilson


@pytest.mark.parametrize(("right", "n"), [(0, 7), (3, 10), (814, 1148), (50, 50)])
def test_wilson_agrees_with_scipy(right: int, n: int) -> None:
    known = binomtest(right, n).proportion_ci(method="wilson")

    assert wilson(right / n, n) == pytest.approx((known.low, known.high), abs=1e-9)


@pytest.mark.parametrize(("share", "n"), [(1.1, 5), (-0.1, 5), (0.5, 0)])
def test_no_proportion_is_refused(share: float, n: int) -> None:
    with pytest.raises(ValueError, match="Expected 0 <= share"):
        wilson(share, n)


def test_only_accuracy_has_an_interval() -> None:
    assert interval("auc", 0.8, 100) is None
    assert interval("accuracy", 0.8, None) is None
    assert interval("accuracy", 0.8, 100) == wilson(0.8, 100)
