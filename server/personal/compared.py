"""Institutions' own models against the global one and those trained alone: ``summary.json``."""

import statistics
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from confide.config.strategies.strategy import ALGORITHMS, AlgorithmKind
from confide.config.tasks.table import known_metrics
from confide.metrics.metric import NOISE_QUANTILE, noise_name

PERSONAL, GLOBAL, LOCAL = "personal", "global", "local"
"""Whose scores: institutions' own tensors, the global ones, models that were trained alone."""


def compared(
    kind: AlgorithmKind,
    metric: str,
    summary: Mapping[str, Any],
    *,
    together: Mapping[str, float] = MappingProxyType({}),
) -> dict[str, Any]:
    """Compare models on each institution's own test records; every institution counts once.

    Args:
        kind: the algorithm's line.
        metric: primary metric.
        summary: with ``clients`` and ``baselines``.
        together: metrics of all personal models together, where a masked sum tells nobody's own.

    Returns:
        Plain values: ``model``, beside or within; ``mean`` of each sort of model that was scored
        over the ``institutions`` that told them all; and of how many the personal model was better
        or worse than each other sort; ``together``, the metric from a masked sum. {} where
        institutions predict with the global tensors.
    """
    if not kind.personal:
        return {}
    if metric in together:
        return _of_sum(kind, metric, together)
    clients, local = summary["clients"], summary["baselines"].get("local", {})
    sorts = {
        PERSONAL: {name: line.get("personal", {}) for name, line in clients.items()},
        GLOBAL: dict(clients) if kind.personal == "beside" else {},
        LOCAL: {name: line.get("own_test", {}) for name, line in local.items()},
    }
    told = {
        sort: {name: line[metric] for name, line in lines.items() if metric in line}
        for sort, lines in sorts.items()
    }
    told = {sort: values for sort, values in told.items() if values}
    if PERSONAL not in told:
        return {"model": kind.personal, "institutions": 0}
    names = sorted(set.intersection(*(set(values) for values in told.values())))
    sign = 1 if known_metrics()[metric].direction == "max" else -1
    found: dict[str, Any] = {"model": kind.personal, "institutions": len(names)}
    if names:
        own = [told[PERSONAL][name] for name in names]
        found["mean"] = {
            sort: statistics.fmean(values[name] for name in names) for sort, values in told.items()
        }
        found["against"] = {
            sort: _against(own, [values[name] for name in names], sign)
            for sort, values in told.items()
            if sort != PERSONAL
        }
    noise = {line.get(noise_name(metric)) for line in sorts[PERSONAL].values()} - {None}
    return found | ({"noise": max(noise)} if noise else {})


def _of_sum(kind: AlgorithmKind, metric: str, together: Mapping[str, float]) -> dict[str, Any]:
    found = {"model": kind.personal, "institutions": 0, "together": together[metric]}
    noise = together.get(noise_name(metric))
    return found if noise is None else found | {"noise": noise}


def _against(own: Sequence[float], others: Sequence[float], sign: int) -> dict[str, int]:
    differences = [sign * (one - other) for one, other in zip(own, others, strict=True)]
    return {
        "better": sum(one > 0 for one in differences),
        "worse": sum(one < 0 for one in differences),
    }


def closing_line(summary: Mapping[str, Any]) -> list[str]:
    """Return a line on personal models; none where there are none."""
    found, metric = summary.get("personal"), summary["primary_metric"]
    if not found:
        return []
    if "together" in found:
        return [f"Personal models, test records of all, summed: {metric} {_summed(found)}."]
    if not found.get("mean"):
        return ["Personal models: no institution lets metrics on its test records leave."]
    count, mean = found["institutions"], found["mean"]
    whose = "institution's" if count == 1 else f"mean over {count:,} institutions'"
    noise = f"; noise of each ± {NOISE_QUANTILE * found['noise']:.3f}" if "noise" in found else ""
    line = f"Personal models, {whose} own test records: {metric} {mean[PERSONAL]:.3f}{noise}."
    for sort, named in ((GLOBAL, "The global model"), (LOCAL, "Local models")):
        if sort in mean:
            told = found["against"][sort]
            line += (
                f" {named}: {mean[sort]:.3f}; the personal one is better at {told['better']:,} and"
                f" worse at {told['worse']:,}."
            )
    return [line]


def _summed(found: Mapping[str, Any]) -> str:
    noise = f" ± {NOISE_QUANTILE * found['noise']:.3f}" if "noise" in found else ""
    return f"{found['together']:.3f}{noise}"


def kind_of(strategy: object) -> AlgorithmKind | None:
    """Return the algorithm of a strategy, as a run's folder holds it; None where it names none."""
    objective = strategy.get("objective", {}) if isinstance(strategy, dict) else {}
    return ALGORITHMS.get(objective.get("kind", ""))


__all__ = ["GLOBAL", "LOCAL", "PERSONAL", "closing_line", "compared", "kind_of"]
