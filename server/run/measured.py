"""The scores of all test records where nobody has them together: from what institutions tell."""

from collections.abc import Mapping

from confide.metrics.metric import Metric
from confide.protocol.messages import Evaluation
from confide.server.rounds.outcome import Outcome
from confide.server.rounds.state import mean_metrics

_MEAN = "mean over institutions, by support"


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
    return {**mean_metrics(outcome.test), **summed}, how


__all__ = ["over_institutions"]
