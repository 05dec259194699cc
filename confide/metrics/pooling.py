"""How the values of institutions become one: functions, and the sums that these are made of.

Whoever has every institution's value calls the function. Where nobody has them, as in a masked sum,
the same value follows from two sums that institutions add up: of weights, and of weights times a
function of the value (:class:`Form`).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

PoolFn = Callable[[Sequence[tuple[float, float]]], float]
"""(value, support) of each institution, all supports > 0 -> value of all together."""
_LEAST_LOGGED = 1e-30
"""Noise may leave a perplexity of 0, which has no logarithm."""
_LARGEST_LOG = 700.0
"""Of a number that a float holds."""


def mean_by_support(parts: Sequence[tuple[float, float]]) -> float:
    """Average values, weighted by the number of records they were measured on.

    Exact for a mean over records; for others, such as AUC, a stand-in for the pooled value.

    >>> mean_by_support([(0.5, 10), (1.0, 30)])
    0.875
    """
    return sum(value * weight for value, weight in parts) / sum(weight for _, weight in parts)


def total(parts: Sequence[tuple[float, float]]) -> float:
    """Add values up, whatever their support: of counts.

    >>> total([(2.0, 10), (3.0, 30)])
    5.0
    """
    return sum(value for value, _ in parts)


def root_mean_square(parts: Sequence[tuple[float, float]]) -> float:
    """Put root mean squared errors together, by the squares behind them; exact.

    >>> root_mean_square([(3.0, 1), (4.0, 1)])
    3.5355339059327378
    """
    weights = sum(weight for _, weight in parts)
    return math.sqrt(sum(value**2 * weight for value, weight in parts) / weights)


def geometric_mean(parts: Sequence[tuple[float, float]]) -> float:
    """Return the mean of logarithms by weight: institutions' perplexities become that of all.

    >>> round(geometric_mean([(2.0, 3), (32.0, 1)]), 6)
    4.0
    """
    weights = sum(weight for _, weight in parts)
    return _exp(sum(weight * _log(value) for value, weight in parts) / weights)


@dataclass(frozen=True, kw_only=True)
class Form:
    """A function of institutions' values, as sums over institutions.

    ``back(sum of weight * to(value) / sum of weights)``, but for a total, which is the sum of
    values.

    Attributes:
        to: of an institution's value; increasing over what the metric may be.
        back: undoes ``to``.
        is_total: whether values are added up, each with a weight of 1 and never divided.
    """

    to: Callable[[float], float]
    back: Callable[[float], float]
    is_total: bool = False

    def spread(self, value: float, noise: float) -> float:
        """Return what one standard deviation of noise in a value moves ``to`` by."""
        return self.to(value + noise) - self.to(value)

    def noise(self, pooled: float, spread: float) -> float:
        """Return the standard deviation of a pooled value from that of its ``to``.

        Exact where ``to`` is linear; elsewhere, so is it of a single institution.
        """
        return self.back(self.to(pooled) + spread) - pooled


def _same(value: float) -> float:
    return value


def _square(value: float) -> float:
    return value * value


def _log(value: float) -> float:
    return math.log(max(value, _LEAST_LOGGED))


def _exp(value: float) -> float:
    return math.exp(min(value, _LARGEST_LOG))


FORMS: Mapping[PoolFn, Form] = {
    mean_by_support: Form(to=_same, back=_same),
    total: Form(to=_same, back=_same, is_total=True),
    root_mean_square: Form(to=_square, back=math.sqrt),
    geometric_mean: Form(to=_log, back=_exp),
}
"""Pool function -> the sums it is made of. One that is not here needs every institution's value, so
that a masked sum leaves its metrics out."""


def pooled_noise(parts: Sequence[tuple[float, float]]) -> float:
    """Return the standard deviation of a mean by support whose parts have independent noise.

    Args:
        parts: (standard deviation, support) of each institution, all supports > 0.

    >>> pooled_noise([(0.03, 10), (0.04, 10)])
    0.025
    """
    return math.hypot(*(noise * weight for noise, weight in parts)) / sum(
        weight for _, weight in parts
    )


__all__ = [
    "FORMS",
    "Form",
    "PoolFn",
    "geometric_mean",
    "mean_by_support",
    "pooled_noise",
    "root_mean_square",
    "total",
]
