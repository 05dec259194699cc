"""How far groups are apart, and how sure that is.

The largest of many differences is large by chance alone. So each pair of groups has an interval at
a level at which all pairs together hold with 95 % (Bonferroni), and the interval of the largest gap
is that of its pair. Intervals of differences: Zou and Donner, "Construction of Confidence Limits
about Effect Measures", Statistics in Medicine 2008, of those of either group.

Demographic parity, equal opportunity, equalised odds: Hardt, Price and Srebro, "Equality of
Opportunity in Supervised Learning", NeurIPS 2016. The ratio of four fifths: Uniform Guidelines on
Employee Selection Procedures, 29 CFR 1607.4 D (1978), a rule of thumb and no test.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist

from confide.metrics.evaluation import Json, figure
from confide.metrics.intervals import Z

FOUR_FIFTHS = 0.8
"""Ratio of selection rates below which the rule of thumb sees adverse impact."""
SELECTION, RECALL, FALSE_POSITIVES = "selection_rate", "recall", "false_positive_rate"
"""Shares taken for a class: of all records, of those of the class, of the others."""
RECORDS = "records"
"""Number of a group's records, as far as sums tell."""
_TERMS = {SELECTION: "demographic parity", RECALL: "equal opportunity"}
_LEVEL = 0.05

EndsFn = Callable[[float], tuple[float, float] | None]
"""Quantile of the standard normal distribution -> ends of an interval; None for unknown ones."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A figure of one group.

    Attributes:
        value: NaN where it is undefined.
        ends_fn: its interval.
        name: what it is; of a class beside ``of``.
        of: class that it is of, of several; "" for none.
        is_compared: whether groups are compared by it.
    """

    value: float
    ends_fn: EndsFn
    name: str
    of: str = ""
    is_compared: bool = True

    @property
    def is_known(self) -> bool:
        """Whether it has a value, and an interval."""
        return math.isfinite(self.value) and self.ends_fn(Z) is not None

    def as_figure(self) -> dict[str, Json]:
        """Return the figure with its 95 % interval."""
        return figure(self.value, self.ends_fn(Z) if math.isfinite(self.value) else None)


def records(count: float, variance: float) -> Measure:
    """Return the number of records of a group, with the variance of the noise in it."""
    deviation = math.sqrt(variance)
    return Measure(
        name=RECORDS,
        value=count,
        ends_fn=lambda z: (max(0.0, count - z * deviation), count + z * deviation),
        is_compared=False,
    )


Groups = Mapping[str, Mapping[str, Measure]]
"""Group -> measure's key -> the measure."""


@dataclass(frozen=True, kw_only=True)
class _Gap:
    key: str
    name: str
    highest: str
    lowest: str
    value: float
    low: float
    high: float

    def as_json(self, name: str, term: str) -> dict[str, Json]:
        return {
            "measure": name,
            "called": term,
            "highest": self.highest,
            "lowest": self.lowest,
            **figure(self.value, (self.low, self.high)),
            "beyond_chance": self.low > 0,
        }


def gaps(groups: Groups) -> list[dict[str, Json]]:
    """Return the largest difference of each measure that groups are compared by.

    Args:
        groups: two or more, for anything to be told.
    """
    keys = {key: one for they in groups.values() for key, one in they.items() if one.is_compared}
    classes = {name: sum(it.name == name for it in keys.values()) for name in _names(keys)}
    largest = {
        key: found
        for key, one in keys.items()
        if (found := _largest(groups, key, one.name, times=classes[one.name])) is not None
    }
    told = [gap.as_json(key, _TERMS.get(gap.name, "")) for key, gap in largest.items()]
    odds = [
        found
        for key, one in keys.items()
        if one.name in (RECALL, FALSE_POSITIVES)
        if (found := _largest(groups, key, one.name, times=2 * classes[one.name])) is not None
    ]
    if {gap.name for gap in odds} == {RECALL, FALSE_POSITIVES}:
        worst = max(odds, key=lambda gap: gap.value)
        told.append(worst.as_json(worst.key, "equalised odds"))
    return told


def _names(keys: Mapping[str, Measure]) -> list[str]:
    return list(dict.fromkeys(one.name for one in keys.values()))


def _largest(groups: Groups, key: str, name: str, *, times: int) -> _Gap | None:
    """Return the largest difference of a measure; None where fewer than two groups have it.

    Args:
        groups: whose measures.
        key: of the measure.
        name: of it, whatever its class.
        times: number of measures that are told side by side.
    """
    known = {who: they[key] for who, they in groups.items() if key in they and they[key].is_known}
    if len(known) < 2:
        return None
    z = quantile(math.comb(len(known), 2) * times)
    highest = max(known, key=lambda who: known[who].value)
    lowest = min(known, key=lambda who: known[who].value)
    if highest == lowest:  # all are alike
        lowest = next(who for who in known if who != highest)
    top, bottom = known[highest], known[lowest]
    above, below = top.ends_fn(z), bottom.ends_fn(z)
    assert above is not None
    assert below is not None
    value = top.value - bottom.value
    return _Gap(
        key=key,
        name=name,
        highest=highest,
        lowest=lowest,
        value=value,
        low=value - math.hypot(top.value - above[0], below[1] - bottom.value),
        high=value + math.hypot(above[1] - top.value, bottom.value - below[0]),
    )


def ratio(groups: Groups) -> dict[str, Json]:
    """Return the lowest selection rate as a share of the highest; {} where it is not one rate.

    Its interval is that of the logarithm, to first order, at the level of all pairs.
    """
    known = {
        who: they[SELECTION]
        for who, they in groups.items()
        if SELECTION in they and they[SELECTION].is_known
    }
    if len(known) < 2:
        return {}
    highest = max(known, key=lambda who: known[who].value)
    lowest = min((who for who in known if who != highest), key=lambda who: known[who].value)
    top, bottom = known[highest].value, known[lowest].value
    if top <= 0:
        return {}
    value, ends = bottom / top, None
    if bottom > 0:
        pair = (known[highest], known[lowest])
        spread = math.hypot(*(_deviation(one) / one.value for one in pair))
        half = min(quantile(math.comb(len(known), 2)) * spread, 50.0)
        ends = (value * math.exp(-half), value * math.exp(half))
    return {
        **figure(value, ends),
        "highest": highest,
        "lowest": lowest,
        "below_four_fifths": value < FOUR_FIFTHS,
    }


def _deviation(one: Measure) -> float:
    """Return about the standard deviation of a figure: half of its interval of 68 %."""
    ends = one.ends_fn(1.0)
    return (ends[1] - ends[0]) / 2 if ends else math.inf


def quantile(comparisons: int) -> float:
    """Return the quantile at which so many intervals hold together with 95 %.

    >>> round(quantile(1), 3), round(quantile(3), 3)
    (1.96, 2.394)
    """
    return NormalDist().inv_cdf(1 - _LEVEL / 2 / max(1, comparisons))


__all__ = [
    "FALSE_POSITIVES",
    "FOUR_FIFTHS",
    "RECALL",
    "RECORDS",
    "SELECTION",
    "EndsFn",
    "Groups",
    "Measure",
    "gaps",
    "quantile",
    "ratio",
    "records",
]
