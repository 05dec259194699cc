"""What closing lines, report and card say of a run that went on from another one's model."""

from collections.abc import Mapping, Sequence
from typing import Any

from confide.metrics.metric import NOISE_QUANTILE, noise_name
from confide.server.run.going_on import ALL_RECORDS, BEFORE, NEW, NEW_RECORDS, OLD_RECORDS

RECORDS = {
    NEW_RECORDS: "new test records",
    OLD_RECORDS: "old test records",
    ALL_RECORDS: "all of them",
}
"""Whose test records -> in words."""


def parents_in(summary: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the earlier runs that a summary names, the oldest first; none where there are none."""
    parents: Sequence[Mapping[str, Any]] = summary.get("lineage", {}).get("parents", ())
    return parents


def cost_of(parent: Mapping[str, Any]) -> str:
    """Say what an earlier run claims to cost, as part of a sentence."""
    rounds = f"{parent['num_rounds']} rounds"
    if parent["epsilon"] is None:
        return f"{rounds} without privacy"
    return (
        f"{rounds}, at most epsilon {parent['epsilon']:g} at delta {parent['delta']:g} a"
        f" {parent['unit']}"
    )


def lineage_sentences(summary: Mapping[str, Any]) -> list[str]:
    """Say which models a model comes from, and what all runs claim to cost together."""
    parents = parents_in(summary)
    if not parents:
        return []
    newest, found = parents[-1], summary["lineage"]
    many = f", itself the last of {len(parents)} runs" if len(parents) > 1 else ""
    lines = [
        f"It went on from model {newest['model_sha256'][:12]} of job {newest['job']}"
        f" ({cost_of(newest)}){many}."
    ]
    if "claimed" in found:
        claimed = found["claimed"]
        lines.append(
            f"With this run at most epsilon {claimed['epsilon']:g} at delta {claimed['delta']:g} a"
            f" {claimed['unit']} of an institution that took part in all {len(parents) + 1}"
            " runs, as the coordinator claims; what each spent is in its own ledger."
        )
    else:
        without = ", ".join(dict.fromkeys(found["unprotected"]))
        lines.append(
            f"No epsilon covers the whole lineage: trained without privacy were {without}."
        )
    return lines


def with_earlier_runs(summary: Mapping[str, Any]) -> str:
    """Say how far a run's own guarantee reaches, with the runs before it; "" where there are none.

    For whoever reads one line of it alone: the model holds what all of them learnt.
    """
    parents = parents_in(summary)
    if not parents:
        return ""
    rounds = sum(parent["num_rounds"] for parent in parents)
    earlier = f"the {'run' if len(parents) == 1 else f'{len(parents)} runs'} that it went on from"
    claimed = summary["lineage"].get("claimed")
    if claimed is None:
        without = ", ".join(dict.fromkeys(summary["lineage"]["unprotected"]))
        return (
            "This speaks of this run alone, and no epsilon covers the model: trained without"
            f" privacy were {without}."
        )
    together = "both" if len(parents) == 1 else f"all {len(parents) + 1}"
    return (
        f"This speaks of this run alone; with {earlier} ({rounds} rounds) it is at most epsilon"
        f" {claimed['epsilon']:g} at delta {claimed['delta']:g} at an institution that took part"
        f" in {together}, as the coordinator claims."
    )


def release_sentences(summary: Mapping[str, Any]) -> list[str]:
    """Say how the model compares with the one it started from, and which of both was released."""
    found = summary.get("release")
    if not found:
        return []
    metric, scores = found["metric"], found["scores"]
    # Without old records all of them are the same
    sorts = RECORDS if OLD_RECORDS in scores[NEW] else {ALL_RECORDS: "test records"}
    both = {name: (scores[NEW].get(name, {}), scores[BEFORE].get(name, {})) for name in sorts}
    told = [
        f"{sorts[name]} {_score(new, metric)} (before {_score(old, metric)})"
        for name, (new, old) in both.items()
        if metric in new and metric in old
    ]
    lines = [f"{metric}, new model: {', '.join(told)}."] if told else []
    if not told:
        lines = ["Nobody told how the new model scores beside the one that it started from."]
    return [*lines, _verdict(found)]


def _verdict(found: Mapping[str, Any]) -> str:
    """Say which model was released, and why."""
    if found["rule"] == "always":
        how = "" if found["better"] else ", though it is not better"
        return f"Released: the new model{how} (server.release=always)."
    by = f" by more than {found['margin']:g}" if found["margin"] else ""
    noise = f"; noise moves the difference by ± {found['noise']:.3f}" if "noise" in found else ""
    if found["released"] == BEFORE:
        return (
            f"Released: the model that it started from, since the new one is not better{by} on"
            f" test records (server.release=if_better){noise}. What it cost in privacy is spent."
        )
    return (
        f"Released: the new model, which is better{by} on test records (server.release=if_better)"
        f"{noise}. Chosen by these records, its score on them is on average a little too good."
    )


def _score(scores: Mapping[str, float], metric: str) -> str:
    noise = scores.get(noise_name(metric))
    more = "" if noise is None else f" ± {NOISE_QUANTILE * noise:.3f}"
    return f"{scores[metric]:.3f}{more}"


__all__ = [
    "RECORDS",
    "cost_of",
    "lineage_sentences",
    "parents_in",
    "release_sentences",
    "with_earlier_runs",
]
