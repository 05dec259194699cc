"""What a summary says of how updates and scores were added up: nothing where each was seen."""

from collections.abc import Mapping
from typing import Any

from confide.protocol.masked_sums import EVERYBODY, MaskedSums
from confide.server.rounds.outcome import Outcome

UNKNOWN = "Scores were summed under masks: no institution's own are known."


def sums_statement(
    sums: MaskedSums | None, outcome: Outcome, *, emulated: bool, lost_rounds: int
) -> dict[str, Any]:
    """Say what the coordinator saw of updates and scores.

    Args:
        sums: of the plan.
        outcome: how the run ended.
        emulated: whether a simulation added updates up in the open, to the same bits.
        lost_rounds: masked sums that were not opened, and were done again.

    Returns:
        Plain values: ``kind``, ``emulated``, ``bits``, ``fewest`` institutions in one sum,
        ``lost_rounds``, and whether ``scores`` are known of all together alone (``together``) or of
        each institution (``each``). {} for plain sums.
    """
    if sums is None:
        return {}
    sizes = [len(record.accepted) for record in outcome.state.history if record.accepted]
    return {
        "kind": "secure",
        "emulated": emulated,
        "bits": sums.bits,
        "fewest": min(sizes, default=0),
        "lost_rounds": lost_rounds,
        "scores": "together" if scores_are_summed(outcome) else "each",
    }


def scores_are_summed(outcome: Outcome) -> bool:
    """Tell whether scores of all institutions together are known, and nobody's own."""
    rounds = (record.validation for record in outcome.state.history)
    parts = (*rounds, outcome.validation, outcome.test, outcome.personal)
    return any(EVERYBODY in part for part in parts)


def known_together(summary: Mapping[str, Any]) -> bool:
    """Tell whether a summary knows scores of all institutions together alone."""
    together: bool = summary.get("aggregation", {}).get("scores") == "together"
    return together


def sums_sentences(summary: Mapping[str, Any]) -> list[str]:
    """Return sentences on how updates and scores were added up; none where each was seen."""
    told = summary.get("aggregation")
    if not told:
        return []
    sentences = []
    if told["emulated"]:
        sentences.append(
            "This simulation added updates up in the open; a deployment's masked sums have the same"
            " bits."
        )
    elif told["fewest"]:
        sentences.append(
            f"The coordinator saw sums of at least {told['fewest']:,} institutions, never one's"
            " update."
        )
    if told["lost_rounds"]:
        lost = told["lost_rounds"]
        sentences.append(
            f"{lost:,} {'sum was' if lost == 1 else 'sums were'} not opened, for want of answers,"
            " and done again."
        )
    return [*sentences, *([UNKNOWN] if known_together(summary) else [])]


__all__ = ["UNKNOWN", "known_together", "scores_are_summed", "sums_sentences", "sums_statement"]
