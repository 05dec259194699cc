"""Records of survival counted by how they end and by predicted risk, and what counts tell.

Time is counted in public intervals, K of them; counts of institutions add up. NumPy is imported
where a value is computed, since every config reads the table of metrics.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy

ENDS = "ends by risk"
"""Name of the statistic."""
NOISY_BINS, NOISY_REACH = 16, 4.0
"""Of the log odds of a risk; what lies beyond is in the first or last bin."""


def risk(survival: "numpy.ndarray") -> "numpy.ndarray":
    """Return each record's risk, in [0, 1]: the mean probability of an event by an interval's end.

    One number that ranks records whose curves may cross; with intervals of one length it is one
    minus the restricted mean survival time as a share of the horizon.

    Args:
        survival: probabilities of being free of the event, shape [n, K].
    """
    lost: numpy.ndarray = 1.0 - survival.mean(axis=1)
    return lost


def end_codes(labels: "numpy.ndarray", intervals: int) -> "numpy.ndarray":
    """Return how each record ends, int64 of shape [n], 0 to 3 K.

    0 to K - 1: with the event, in that interval; K + h: censored h half intervals after the start,
    h from 0 to 2 K, as finely as a table of survival needs to know.
    """
    import numpy

    place = labels[:, 0].clip(0, intervals)
    within = numpy.maximum(numpy.ceil(place) - 1, 0)
    ways = numpy.where(labels[:, 1] > 0, within, intervals + numpy.floor(2 * place))
    return numpy.asarray(ways.astype("int64"))


def life_table(codes: "numpy.ndarray") -> tuple["numpy.ndarray", "numpy.ndarray"]:
    """Return events and records at risk in each interval, [..., K] each, from counts by end.

    Whoever is censored past the middle of an interval counts as at risk in it, and nobody who is
    censored before: the rule of the loss (Gensheimer and Narasimhan 2019, section 2.2).

    Args:
        codes: how many records end in each way, shape [..., 3 K + 1].
    """
    import numpy

    intervals = (codes.shape[-1] - 1) // 3
    events = codes[..., :intervals]
    censored = codes[..., intervals:]
    # Half intervals 2 k - 1 and 2 k together: censored between the middles of two intervals
    counted = numpy.concatenate(
        [censored[..., :1], censored[..., 1::2] + censored[..., 2::2]], axis=-1
    )
    after = _from(events)
    return events, after + _from(counted)[..., 1:]


def _from(counts: "numpy.ndarray") -> "numpy.ndarray":
    """Return sums from each place to the last, along the last axis."""
    summed: numpy.ndarray = counts[..., ::-1].cumsum(axis=-1)[..., ::-1]
    return summed


def survival_curve(events: "numpy.ndarray", at_risk: "numpy.ndarray") -> "numpy.ndarray":
    """Return the share free of the event at the end of each interval, [..., K].

    Kaplan and Meier's product, in intervals; counts may hold noise.
    """
    import numpy

    hazards = numpy.where(at_risk > 0, events / numpy.where(at_risk > 0, at_risk, 1.0), 0.0)
    curve: numpy.ndarray = (1.0 - hazards.clip(0.0, 1.0)).cumprod(axis=-1)
    return curve


def risk_bins(
    survival: "numpy.ndarray", bins: int = NOISY_BINS, reach: float = NOISY_REACH
) -> "numpy.ndarray":
    """Return the bin of each record's risk, int64 of shape [n], from 0: of its log odds."""
    from confide.metrics.grids import places

    return places(risk(survival), reach, bins)


def pairs_of(counts: "numpy.ndarray") -> tuple[float, float]:
    """Return concordant and comparable pairs of records by bin and end, shape [bins, 3 K + 1]."""
    intervals = (counts.shape[1] - 1) // 3
    events = counts[:, :intervals]
    # Whoever is known to be free of the event at the end of each interval
    free = _from(events) - events + _from(counts[:, intervals:])[:, 2::2]
    below = free.cumsum(axis=0) - free / 2
    return float((events * below).sum()), float((events.sum(axis=0) * free.sum(axis=0)).sum())


__all__ = [
    "ENDS",
    "NOISY_BINS",
    "NOISY_REACH",
    "end_codes",
    "life_table",
    "pairs_of",
    "risk",
    "risk_bins",
    "survival_curve",
]
