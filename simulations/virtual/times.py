"""How the time of an answer is drawn: a function for each kind of delay.

Each takes the settings of its kind and returns a :data:`DrawFn`.
"""

import math
import random
from collections.abc import Callable

from confide.config.delays.delays import DelaysConfig
from confide.config.delays.exponential import ExponentialDelaysConfig
from confide.config.delays.lognormal import LognormalDelaysConfig
from confide.config.delays.uniform import UniformDelaysConfig

DrawFn = Callable[[str, int, random.Random], float]
"""(client, number of its answer, from 1; a source of randomness) -> virtual seconds, >= 0."""


def none(settings: DelaysConfig) -> DrawFn:
    """Take no time."""
    return lambda client, number, source: 0.0


def exponential(settings: ExponentialDelaysConfig) -> DrawFn:
    """Draw exponential times."""
    return lambda client, number, source: source.expovariate(1.0 / settings.mean_s)


def lognormal(settings: LognormalDelaysConfig) -> DrawFn:
    """Draw lognormal times."""
    return lambda client, number, source: (
        settings.median_s * math.exp(settings.sigma * source.gauss(0.0, 1.0))
    )


def uniform(settings: UniformDelaysConfig) -> DrawFn:
    """Draw uniform times."""
    return lambda client, number, source: source.uniform(settings.low_s, settings.high_s)


__all__ = ["DrawFn", "exponential", "lognormal", "none", "uniform"]
