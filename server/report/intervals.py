"""Confidence intervals of metrics, of records that were drawn and of noise that was added."""

import math

from confide.config.tasks.table import known_metrics
from confide.metrics.intervals import Z, wilson


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
        half = Z * math.hypot(noise, drawn)
        return max(known.least, value - half), min(known.largest, value + half)
    if known is None or not known.proportion or value is None or not n:
        return None
    # An institution may declare any value, and a report has to be written all the same
    return wilson(value, n) if 0 <= value <= 1 else None


__all__ = ["interval", "wilson"]
