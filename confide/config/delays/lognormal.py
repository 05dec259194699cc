"""Lognormal times."""

from dataclasses import dataclass

from confide.config.delays.delays import MOST_S, DelaysConfig, delay_name
from confide.config.fields import setting


@dataclass
class LognormalDelaysConfig(DelaysConfig):
    """Times are lognormal: most clients are alike, a few are much slower."""

    kind: str = delay_name("lognormal")
    median_s: float = setting(1.0, "Median time, in virtual seconds.", gt=0, le=MOST_S)
    sigma: float = setting(
        1.0,
        "Standard deviation of a time's logarithm; with 1, the slowest of a hundred clients takes"
        " some ten times the median.",
        ge=0,
        le=5,
    )


__all__ = ["LognormalDelaysConfig"]
