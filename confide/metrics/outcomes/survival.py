"""Metrics of survival, and the sums behind them.

Time is counted in public intervals: position 2.5 is the middle of the third one, and K their end,
the horizon, where whoever is still observed is censored. Predictions are probabilities of being
free of the event at the end of each interval, [n, K]; labels are positions and whether the event
was seen there, [n, 2]. NumPy is imported where a value is computed, since every config reads the
table of metrics.
"""

import math
from typing import TYPE_CHECKING

from confide.metrics import ends
from confide.metrics.ends import NOISY_BINS, end_codes, pairs_of, risk, risk_bins
from confide.metrics.metric import Metric, Statistic, table
from confide.metrics.pooling import total

if TYPE_CHECKING:
    import numpy

    from confide.metrics.floor import Floor


def c_index(survival: "numpy.ndarray", labels: "numpy.ndarray") -> float | None:
    """Return Harrell's concordance index of risk and time.

    None where no two records are comparable.
    """
    concordant, pairs = concordance(risk(survival), labels)
    return concordant / pairs if pairs else None


def comparable_pairs(survival: "numpy.ndarray", labels: "numpy.ndarray") -> float:
    """Return how many pairs of records :func:`c_index` compares."""
    return float(concordance(risk(survival), labels)[1])


def concordance(risks: "numpy.ndarray", labels: "numpy.ndarray") -> tuple[float, int]:
    """Count pairs (Harrell et al., Statistics in Medicine 1996).

    A pair is comparable if one record has the event while the other is known to be free of it: it
    is observed for longer, or censored at the same moment. Events at the same moment are not.

    Args:
        risks: one a record, finite, shape [n].
        labels: position and event, shape [n, 2].

    Returns:
        Pairs in which the event came to the higher risk, equal risks counted half; and comparable
        pairs.
    """
    import numpy

    events = labels[:, 1] > 0
    # Moments in the order in which they end: at one moment events first, and then those censored
    moment = numpy.unique(labels[:, 0], return_inverse=True)[1] * 2 + ~events
    order = numpy.argsort(-moment, kind="stable")
    ranks = numpy.unique(risks, return_inverse=True)[1][order]
    # Descending, so that whoever outlasts a record is a prefix of the order
    outlast = numpy.searchsorted(-moment[order], -moment[order], side="left")[events[order]]
    lower, equal = _below(ranks, outlast, ranks[events[order]])
    return float(lower + 0.5 * equal), int(outlast.sum())


def _below(
    ranks: "numpy.ndarray", prefixes: "numpy.ndarray", bounds: "numpy.ndarray"
) -> tuple[int, int]:
    """Count, over all i, entries of ``ranks[:prefixes[i]]`` below and equal to ``bounds[i]``.

    A prefix is a sum of blocks whose lengths are powers of two, and blocks of one length are sorted
    together: n log^2 n, where comparing all pairs would take n^2.
    """
    import numpy

    lower = equal = 0
    span = int(ranks.max(initial=0)) + 1
    for level in range(max(1, len(ranks)).bit_length()):
        size = 2**level
        keys = numpy.sort(numpy.arange(len(ranks)) // size * span + ranks)
        has = (prefixes // size) % 2 == 1
        block = prefixes[has] // size - 1
        wanted = block * span + bounds[has]
        first = numpy.searchsorted(keys, wanted, side="left")
        lower += int((first - block * size).sum())
        equal += int((numpy.searchsorted(keys, wanted, side="right") - first).sum())
    return lower, equal


def integrated_brier(survival: "numpy.ndarray", labels: "numpy.ndarray") -> float:
    """Return the mean over interval ends of Brier scores, weighted for censoring.

    Graf et al., Statistics in Medicine 1999: a record that is censored before an end counts there
    with weight zero, and the others for those like them, by one over the probability of not being
    censored until then. That is estimated by Kaplan and Meier from these records, events before
    censoring at the same moment.

    Args:
        survival: probabilities of being free of the event, shape [n, K].
        labels: position and event, shape [n, 2].
    """
    import numpy

    times, events = labels[:, 0], labels[:, 1] > 0
    moments, uncensored = _uncensored(times, events)

    def weight(at: "numpy.ndarray") -> "numpy.ndarray":
        """Return one over the probability of being observed until just before a moment."""
        return 1.0 / uncensored[numpy.searchsorted(moments, at, side="left")]

    scores = []
    for end in range(1, survival.shape[1] + 1):
        free = survival[:, end - 1]
        had = events & (times <= end)
        has_not = ~had & (times >= end)
        squares = numpy.zeros(len(times))
        squares[had] = free[had] ** 2 * weight(times[had])
        if has_not.any():
            squares[has_not] = (1.0 - free[has_not]) ** 2 * weight(numpy.array([float(end)]))
        scores.append(squares.mean())
    return float(numpy.mean(scores))


def _uncensored(
    times: "numpy.ndarray", events: "numpy.ndarray"
) -> tuple["numpy.ndarray", "numpy.ndarray"]:
    """Return moments [m], and the probabilities of not being censored before each, [m + 1].

    The last one is that of not being censored at all.
    """
    import numpy

    moments, place = numpy.unique(times, return_inverse=True)
    ended = numpy.bincount(place, minlength=len(moments))
    seen = numpy.bincount(place[events], minlength=len(moments))
    still = ended[::-1].cumsum()[::-1] - seen
    stays = 1.0 - (ended - seen) / numpy.maximum(still, 1)
    return moments, numpy.concatenate([[1.0], stays.cumprod()])


def usable(
    survival: "numpy.ndarray", labels: "numpy.ndarray"
) -> tuple["numpy.ndarray", "numpy.ndarray"]:
    """Return probabilities in [0, 1] and places in the intervals, each record's from its own alone.

    Args:
        survival: as a model gives them, shape [n, K]; they may be anything.
        labels: place and event, shape [n, 2]; a custom task's may be anything.
    """
    import numpy

    intervals = survival.shape[1]
    survival = numpy.asarray(survival, dtype=float)
    labels = numpy.nan_to_num(numpy.asarray(labels, dtype=float), nan=0.0)
    labels = numpy.stack([labels[:, 0].clip(0, intervals), labels[:, 1] > 0], axis=1)
    # No answer counts as a wrong one: no risk for whoever has the event, and all for the others
    finite = numpy.isfinite(survival).all(axis=1, keepdims=True)
    return numpy.where(finite, survival.clip(0, 1), labels[:, 1:]), labels


def _ends(survival: "numpy.ndarray", labels: "numpy.ndarray") -> "numpy.ndarray":
    """Return the bin and the end of each record, one 1 a row, shape [n, B (3 K + 1)]."""
    import numpy

    count, intervals = survival.shape
    ways = 3 * intervals + 1
    rows = numpy.zeros((count, NOISY_BINS * ways))
    rows[numpy.arange(count), risk_bins(survival) * ways + end_codes(labels, intervals)] = 1.0
    return rows


def _exact_ends(
    survival: "numpy.ndarray", labels: "numpy.ndarray", floor: "Floor"
) -> "numpy.ndarray | None":
    from confide.metrics.evaluations.survival import exact_ends

    return exact_ends(survival, labels, floor)


def _end_counts(intervals: int) -> "numpy.ndarray":
    import numpy

    return numpy.ones(NOISY_BINS * (3 * intervals + 1))


def c_index_of(sums: "numpy.ndarray") -> float | None:
    """Return the concordance index of binned risks, those of one bin counted half.

    Pairs whose order within one interval would have to be known are left out.

    Returns:
        None where there is less than one comparable pair.
    """
    concordant, pairs = pairs_of(sums.reshape(NOISY_BINS, -1))
    return concordant / pairs if pairs >= 1 else None


def comparable_pairs_of(sums: "numpy.ndarray") -> float:
    """Return how many pairs :func:`c_index_of` compares."""
    return max(pairs_of(sums.reshape(NOISY_BINS, -1))[1], 0.0)


ENDS = Statistic(
    name=ends.ENDS,
    rows_fn=_ends,
    usable_fn=usable,
    counts_fn=_end_counts,
    exact_fn=_exact_ends,
)


SURVIVAL: dict[str, Metric] = table(
    Metric(
        name="c_index",
        direction="max",
        least=0.0,
        largest=1.0,
        score_fn=c_index,
        statistic=ENDS,
        estimate_fn=c_index_of,
        weighed_by="comparable_pairs",
    ),
    Metric(
        name="integrated_brier",
        direction="min",
        least=0.0,
        largest=math.inf,
        score_fn=integrated_brier,
    ),
    # So that concordant and comparable pairs add up: a centre's C-index counts by its pairs
    Metric(
        name="comparable_pairs",
        direction="max",
        least=0.0,
        largest=2.0**53,
        score_fn=comparable_pairs,
        pool_fn=total,
        statistic=ENDS,
        estimate_fn=comparable_pairs_of,
    ),
)
"""Metrics of survival, by name."""


__all__ = [
    "ENDS",
    "SURVIVAL",
    "c_index",
    "c_index_of",
    "comparable_pairs",
    "comparable_pairs_of",
    "concordance",
    "integrated_brier",
    "usable",
]
