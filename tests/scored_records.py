"""Records with scores that know something of their labels, and tallies of them."""

import numpy
from numpy.typing import NDArray

from confide.metrics.floor import Floor
from confide.metrics.outcomes.classification import CLASSIFICATION
from confide.metrics.release import add_noise, exact_sums, named_sums, statistics_of, unit_sums
from confide.metrics.tally import ScoreTally

Floats = NDArray[numpy.float64]
Integers = NDArray[numpy.int64]


def records(
    count: int, classes: int = 2, seed: int = 0, base: float = -1.0
) -> tuple[Floats, Integers]:
    """Draw scores, shape [n, c], and labels."""
    rng = numpy.random.default_rng(seed)
    if classes > 2:
        labels = rng.integers(0, classes, size=count)
        logits = 1.5 * numpy.eye(classes)[labels] + rng.normal(size=(count, classes))
        shares = numpy.exp(logits)
        return shares / shares.sum(axis=1, keepdims=True), labels
    labels = (rng.random(count) < 0.3).astype(int)
    scores = 1 / (1 + numpy.exp(-(base + 1.5 * labels + 1.2 * rng.normal(size=count))))
    return numpy.stack([1 - scores, scores], axis=1), labels


def exact(scores: Floats, labels: Integers, least: int = 1) -> ScoreTally:
    """Count records as an institution does whose policy lets exact metrics out."""
    statistics = statistics_of(list(CLASSIFICATION), CLASSIFICATION)
    return ScoreTally(sums=exact_sums(statistics, scores, labels, Floor(least=least)))


def noisy(scores: Floats, labels: Integers, std: float, rng: numpy.random.Generator) -> ScoreTally:
    """Release sums as an institution does whose metrics are noisy."""
    statistics = statistics_of(["auc", "macro_f1"], CLASSIFICATION)
    sums = unit_sums(statistics, scores, labels)
    released = add_noise(sums, rng.normal(0, std, size=len(sums)))
    return ScoreTally(sums=named_sums(released, statistics, scores.shape[1]), std=std)


__all__ = ["Floats", "Integers", "exact", "noisy", "records"]
