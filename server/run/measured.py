"""The scores of all test records where nobody has them together: from what institutions tell."""

import math
import statistics
from collections.abc import Mapping
from typing import Any

from confide.config.tasks.table import known_metrics
from confide.metrics.intervals import Z
from confide.metrics.metric import Metric
from confide.protocol.messages import Evaluation
from confide.server.rounds.outcome import Outcome
from confide.server.rounds.state import mean_metrics

_MEAN = "mean over institutions, by support"
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
    from confide.metrics.release import from_sums

    tallies, summed = outcome.tallies.get("test", {}), dict[str, float]()
    for name, metric in metrics.items():
        told = [who for who, one in outcome.test.items() if name in one]
        if told and all(who in tallies for who in told):
            summed |= from_sums(metric, [tallies[who] for who in told])
    names = [name for name in summed if name in metrics]
    how = f"{_MEAN}; {', '.join(names)} from the sums of all" if names else _MEAN
    if outcome.is_sampled:
        how += f"; {outcome.num_scorers:,} of {outcome.num_clients:,}, drawn at random"
    return {**mean_metrics(outcome.test), **summed}, how


def over_sample(outcome: Outcome) -> dict[str, Any]:
    """Tell what institutions drawn at random say of all: mean and 95 % interval of each metric.

    Each institution counts once, whatever its size. Sampling without replacement, and the normal
    interval of a sample's mean with its finite population correction: Cochran, Sampling
    Techniques (3rd edition, 1977), sections 2.5 to 2.8.

    Args:
        outcome: of a run whose kept model some institutions scored.

    Returns:
        Plain values: numbers of institutions, and metric -> mean, ends of the interval (null from
        fewer than two), and the number of institutions that told it.
    """
    known = known_metrics()
    found: dict[str, Any] = {}
    for name, metric in known.items():
        told = [one[name] for one in outcome.test.values() if name in one]
        if not told:
            continue
        mean = statistics.fmean(told)
        ends: list[float] | None = None
        if len(told) >= _FEWEST:
            rest = 1 - len(told) / outcome.num_clients
            half = Z * math.sqrt(statistics.variance(told, mean) * rest / len(told))
            ends = [max(metric.least, mean - half), min(metric.largest, mean + half)]
        found[name] = {"mean": mean, "interval": ends, "institutions": len(told)}
    return {
        "institutions": outcome.num_clients,
        "asked": len(outcome.clients),
        "scored": outcome.num_scorers,
        "metrics": found,
    }


__all__ = ["over_institutions", "over_sample"]
