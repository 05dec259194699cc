"""Metrics of labelled spans in sequences of words, such as named entities.

A predicted span is a hit where type, first and last word are those of a span that there is. Figures
are sums over records, so that metrics of all are those of the parts' sums (CoNLL 2003: Tjong Kim
Sang and De Meulder, "Introduction to the CoNLL-2003 Shared Task", 2003, section 2.3).
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from confide.metrics.metric import Metric, Statistic, table
from confide.metrics.sums import Figures, ratio, whole_sums, within_sums

# Configs hold tables of metrics, and need no numpy.
if TYPE_CHECKING:
    import numpy

    from confide.metrics.floor import Floor
    from confide.metrics.tally import ScoreTally

MICRO = ("hits", "predicted", "gold")
"""Figures of a record's spans: predicted rightly, predicted, and there."""
SPANS = "spans"
"""Name of the statistic that metrics of spans follow from."""
_OF_WORDS = ("records", "loss", "right", "words")
_LARGEST_LOSS = 10.0
_WORDS = 64.0


def figures_of(types: Sequence[str], most: int) -> Figures:
    """Return what a record adds: of its words, of its spans, and of its spans of each type.

    Args:
        types: of spans.
        most: spans of a record that count once sums leave with noise.
    """
    words = dict(zip(_OF_WORDS, (1.0, _LARGEST_LOSS, _WORDS, _WORDS), strict=True))
    spans = [*MICRO, *(f"{figure} {one}" for one in types for figure in MICRO)]
    return Figures(most={**words, **dict.fromkeys(spans, float(most))})


@functools.lru_cache(maxsize=16)
def span_metrics(types: tuple[str, ...], most: int) -> Mapping[str, Metric]:
    """Return metrics of tallies whose columns are those of :func:`figures_of`."""
    figures = figures_of(types, most)
    spans = _told_by_type(figures)
    ratios = {
        "entity_f1": ratio({"hits": 2}, {"predicted": 1, "gold": 1}),
        "entity_precision": ratio({"hits": 1}, {"predicted": 1}),
        "entity_recall": ratio({"hits": 1}, {"gold": 1}),
    }
    of_spans = [
        figures.metric(name, "max", value_fn, of=MICRO, statistic=SPANS)
        for name, value_fn in ratios.items()
    ]
    of_words = [
        figures.metric(
            "token_accuracy",
            "max",
            ratio({"right": 1}, {"words": 1}),
            of=("right", "words"),
            statistic="words",
        ),
        figures.metric(
            "token_loss",
            "min",
            ratio({"loss": 1}, {"records": 1}),
            of=("loss", "records"),
            statistic="loss",
            largest=math.inf,
        ),
    ]
    return table(
        *(replace(metric, statistic=spans, sums_fn=_of_all_types(metric)) for metric in of_spans),
        # Each statistic more is noise more in the others: these are for whoever names them.
        *(replace(metric, reported=False) for metric in of_words),
    )


def _of_all_types(
    metric: Metric,
) -> "Callable[[ScoreTally], numpy.ndarray | None]":
    """Return what makes a metric's sums of those that are told, of each type too if exact."""
    sums_fn = metric.sums_fn
    assert sums_fn is not None

    def sums(tally: "ScoreTally") -> "numpy.ndarray | None":
        told = list(tally.sums.get(SPANS, ()))
        return sums_fn(replace(tally, sums={SPANS: told[: 1 + len(MICRO)]}))

    return sums


def _told_by_type(figures: Figures) -> Statistic:
    """Return the statistic of spans; with noise it is of all types together, exact of each."""
    micro = figures.statistic(SPANS, MICRO)
    most = list(figures.most.values())
    first = len(_OF_WORDS) + len(MICRO)

    def usable(
        tallies: "numpy.ndarray", targets: "numpy.ndarray"
    ) -> tuple["numpy.ndarray", "numpy.ndarray"]:
        import numpy

        told = tallies.astype(numpy.float64)
        return numpy.where(numpy.isfinite(told), told.clip(min=0), most), targets

    def rows(tallies: "numpy.ndarray", targets: "numpy.ndarray") -> "numpy.ndarray":
        return micro.rows_fn(*micro.usable_fn(tallies, targets))

    def exact(
        tallies: "numpy.ndarray", targets: "numpy.ndarray", floor: "Floor"
    ) -> "numpy.ndarray | None":
        import numpy

        if not floor.enough(numpy.ones(len(tallies), dtype=bool)):
            return None
        sums = within_sums(tallies[:, len(_OF_WORDS) :]).sum(axis=0)
        by_type = tallies[:, first:].reshape(len(tallies), -1, len(MICRO))
        # Of fewer units a count would say what is in one of them.
        told = [floor.enough(by_type[:, place, -1] > 0) for place in range(by_type.shape[1])]
        sums[len(MICRO) :] *= numpy.repeat(told, len(MICRO))
        return whole_sums(numpy.concatenate([[len(tallies)], sums]))

    return replace(micro, usable_fn=usable, rows_fn=rows, exact_fn=exact)


def f1(hits: float, predicted: float, gold: float) -> float | None:
    """Return the F1 of counts; None where there is no span, predicted or there."""
    return 2 * hits / (predicted + gold) if predicted + gold > 0 else None


__all__ = ["MICRO", "SPANS", "f1", "figures_of", "span_metrics"]
