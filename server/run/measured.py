"""The scores of all test records where nobody has them together: from what institutions tell."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from confide.config.tasks.table import known_metrics
from confide.metrics.intervals import Z
from confide.metrics.metric import Metric
from confide.metrics.pooling import mean_by_support
from confide.metrics.tally import ScoreTally
from confide.protocol.masked_sums import EVERYBODY
from confide.protocol.messages import Evaluation
from confide.server.rounds.outcome import Outcome
from confide.server.rounds.state import mean_metrics

_MEAN = "mean over institutions, by support"
_SUMMED = "mean over institutions, by support, from a masked sum"
_FEWEST = 2
"""Institutions without which nothing is known of how they vary."""


def over_institutions(outcome: Outcome, metrics: Mapping[str, Metric]) -> tuple[Evaluation, str]:
    """Put the test metrics of institutions together.

    Args:
        outcome: how the run ended.
        metrics: the task's table.

    Returns:
        Metrics of all, and how they were put together: means by support, except those that follow
        from sums which every institution tells.
    """
    together, summed = pooled(outcome.test, outcome.tallies.get("test", {}), metrics)
    names = [name for name in summed if name in metrics]
    mean = _SUMMED if EVERYBODY in outcome.test else _MEAN
    how = f"{mean}; {', '.join(names)} from the sums of all" if names else mean
    if outcome.is_sampled:
        how += f"; {outcome.num_scorers:,} of {outcome.num_clients:,}, drawn at random"
    return together, how


def pooled(
    scores: Mapping[str, Evaluation],
    tallies: Mapping[str, ScoreTally],
    metrics: Mapping[str, Metric],
) -> tuple[Evaluation, Evaluation]:
    """Put metrics of institutions together, from the sums of all where each tells them.

    Args:
        scores: name -> metrics.
        tallies: name -> sums.
        metrics: the task's table.

    Returns:
        All metrics, and those of them that follow from sums.
    """
    from confide.metrics.release import from_sums

    summed: dict[str, float] = {}
    for name, metric in metrics.items():
        told = [who for who, one in scores.items() if name in one]
        if told and all(who in tallies for who in told):
            summed |= from_sums(metric, [tallies[who] for who in told])
    return {**mean_metrics(scores), **summed}, summed


def over_sample(outcome: Outcome) -> dict[str, Any]:
    """Tell what institutions drawn at random say of all: mean and 95 % interval of each metric.

    Each institution counts once, whatever its size. Sampling without replacement, and the normal
    interval of a sample's mean with its finite population correction: Cochran, Sampling
    Techniques (3rd edition, 1977), sections 2.5 to 2.8.

    Args:
        outcome: of a run whose kept model some institutions scored.

    Returns:
        Plain values: numbers of institutions, and metric -> mean, ends of the interval (null from
        fewer than two), and the number of institutions that told it; no metric from a masked sum.
    """
    found: dict[str, Any] = {}
    each = [one for who, one in outcome.test.items() if who != EVERYBODY]
    for name, metric in known_metrics().items():
        told = [one[name] for one in each if name in one]
        if not told:
            continue
        mean = statistics.fmean(told)
        ends = _ends(metric, mean, [value - mean for value in told], outcome)
        found[name] = {"mean": mean, "interval": ends, "institutions": len(told)}
    trained = {name for record in outcome.state.history for name in record.accepted}
    return {
        "institutions": outcome.num_clients,
        "asked": len(outcome.clients),
        "trained": len(trained),
        "training_examples": sum(outcome.clients.get(name, 0) for name in trained),
        "scored": outcome.num_scorers,
        "metrics": found,
    }


def by_support(outcome: Outcome, name: str) -> list[float] | None:
    """Return the 95 % interval of a metric's mean by support over institutions that were drawn.

    Records of one institution are alike, so that their number says too much. A ratio of two sums:
    Cochran, section 6.3.

    Args:
        outcome: of a run whose kept model some institutions scored.
        name: of the metric.

    Returns:
        Its ends; None where the metric is no mean by support, or fewer than two told it.
    """
    metric = known_metrics().get(name)
    if metric is None or metric.pool_fn is not mean_by_support:
        return None
    weight = metric.weighed_by or "num_examples"
    told = [one for one in outcome.test.values() if name in one]
    if not told or not all(one.get(weight, 0) > 0 for one in told):
        return None
    parts = [(one[name], one[weight]) for one in told]
    mean, typical = mean_by_support(parts), statistics.fmean(n for _, n in parts)
    return _ends(metric, mean, [(value - mean) * n / typical for value, n in parts], outcome)


def _ends(
    metric: Metric, mean: float, residuals: Sequence[float], outcome: Outcome
) -> list[float] | None:
    """Return the interval of a sample's mean; None from fewer than two institutions.

    Args:
        metric: bounds it.
        mean: of the sample.
        residuals: of each institution, which add up to 0.
        outcome: knows how many institutions were drawn from.
    """
    if len(residuals) < _FEWEST:
        return None
    variance = sum(one**2 for one in residuals) / (len(residuals) - 1)
    rest = 1 - len(residuals) / outcome.num_clients
    half = Z * math.sqrt(variance * rest / len(residuals))
    return [max(metric.least, mean - half), min(metric.largest, mean + half)]


__all__ = ["by_support", "over_institutions", "over_sample", "pooled"]
