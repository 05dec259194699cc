"""Confidence intervals of metrics, of records that were drawn and of noise that was added."""

import math

from confide.config.task import known_metrics

_Z = 1.959963984540054  # 97.5 % quantile of the standard normal distribution


def wilson(share: float, n: int) -> tuple[float, float]:
    """Return the 95 % score interval of a proportion (Wilson, JASA 1927).

    Args:
        share: proportion, in [0, 1].
        n: number of records that it was measured on, >= 1.

    Returns:
        Lower and upper end of the interval, in [0, 1].

    Raises:
        ValueError: if an argument is out of range.

    >>> [round(end, 3) for end in wilson(0.5, 100)]
    [0.404, 0.596]
    """
    if not 0 <= share <= 1 or n < 1:
        raise ValueError(f"Expected 0 <= share={share} <= 1 and n={n} >= 1.")
    z2 = _Z * _Z / n
    centre = (share + z2 / 2) / (1 + z2)
    half = _Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n)) / (1 + z2)
    return max(0.0, centre - half), min(1.0, centre + half)


def interval(
    metric: str, value: float | None, n: int | None, noise: float | None = None
) -> tuple[float, float] | None:
    """Return the 95 % interval of a metric; None if it does not follow from what is known.

    Args:
        metric: its name.
        value: what was measured; None for nothing.
        n: number of records that it was measured on.
        noise: standard deviation of the noise in it; None for an exact value. The interval of a
            proportion covers both noise and records, that of another metric noise alone.
    """
    known = known_metrics().get(metric)
    if known is not None and value is not None and noise is not None:
        share = min(max(value, 0.0), 1.0)
        drawn = math.sqrt(share * (1 - share) / n) if known.proportion and n else 0.0
        half = _Z * math.hypot(noise, drawn)
        return max(known.least, value - half), min(known.largest, value + half)
    if known is None or not known.proportion or value is None or not n:
        return None
    # An institution may declare any value, and a report has to be written all the same
    return wilson(value, n) if 0 <= value <= 1 else None


__all__ = ["interval", "wilson"]
