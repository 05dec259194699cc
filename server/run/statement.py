"""What a summary promises: of the privacy that was asked for, to whom, and what is not covered."""

from collections.abc import Mapping, Sequence
from typing import Any

from confide.config.privacy import PrivacyConfig
from confide.metrics.metric import is_noisy
from confide.protocol.plan import TrainingPlan
from confide.protocol.released_edges import ReleasedEdges
from confide.protocol.released_gram import ReleasedGram
from confide.server.rounds.outcome import Outcome
from confide.server.run.sums import scores_are_summed

_UNPROTECTED_SCORES = {
    "exact": ["validation and test metrics"],
    "summed": ["validation and test metrics of all institutions together"],
    "mixed": ["exact validation and test metrics of some institutions"],
}
_TRAINED_BESIDES = {
    "local": "each institution's training alone",
    "pooled": "training on all records in one place",
}


def _scores_statement(privacy: PrivacyConfig) -> str:
    target = privacy.epsilon if privacy.metrics_epsilon is None else privacy.metrics_epsilon
    return (
        f"released with noise, at epsilon {target:g} for validation records over all rounds and"
        f" {target:g} for test records; a unit is in one split, so that the run costs it the"
        " largest of training and either, and not the sum"
    )


def _edges_statement(edges: ReleasedEdges, epsilon: float) -> str:
    return (
        f"edges of {len(edges.columns)} columns are quantiles that institutions released before the"
        f" run as job {edges.job}, at epsilon {edges.epsilon:g} of the {epsilon:g}; each ledger was"
        f" charged for them once, whichever runs use them (SHA-256 {edges.sha256[:12]})"
    )


def _gram_statement(gram: ReleasedGram, epsilon: float) -> str:
    return (
        f"steps are scaled by a Gram matrix that institutions released before the run as job"
        f" {gram.job}, at epsilon {gram.epsilon:g} of the {epsilon:g}; each ledger was charged for"
        f" it once, whichever runs use it (SHA-256 {gram.sha256[:12]})"
    )


def _baselines_statement(baselines: Sequence[str]) -> str:
    trained = [_TRAINED_BESIDES[name] for name in baselines]
    cost = "costs the same epsilon once more"
    if len(trained) > 1:
        cost = "cost the same epsilon once more each"
    return f"{' and '.join(trained)} {cost}"


def with_peers_statement(
    plan: TrainingPlan, clients: Mapping[str, Mapping[str, Any]], *, reproducible: bool
) -> dict[str, Any]:
    """Say what masked sums hide of a record beside an institution's own noise.

    Args:
        plan: what was asked for.
        clients: each institution's line of the summary.
        reproducible: whether a seed decided the noise.

    Returns:
        A sentence with the figures that it is about; {} for a plan without noise or masked sums.
    """
    if not plan.private or plan.sums is None:
        return {}
    problem = plan.peers_problem
    told = [line for line in clients.values() if "epsilon_with_peers" in line]
    if problem is not None:
        said = f"others' noise hides no record, and epsilon is as without sums: {problem}"
        return {"with_peers": {"sentence": said}}
    if not told:
        why = (
            "whoever has the seed can remove it"
            if reproducible
            else "cohorts were too small, or their sums too coarse"
        )
        return {"with_peers": {"sentence": f"others' noise counts nowhere: {why}"}}
    alone = max(float(line["epsilon"]) for line in told)
    # Who does not count on others is protected by its own noise alone
    among = max(float(line.get("epsilon_with_peers", line["epsilon"])) for line in clients.values())
    honest = max(int(line["honest_peers"]) for line in told)
    nominal = ", nominally" if reproducible else ""
    said = (
        f"epsilon {alone:.3g} against anybody; {among:.3g} against the coordinator if"
        f" {honest} of the institutions in each sum are honest{nominal}"
    )
    return {"with_peers": {"sentence": said, "epsilon": among, "honest_peers": honest}}


def privacy_statement(
    plan: TrainingPlan,
    *,
    reproducible: bool,
    baselines: Sequence[str] = (),
    scores: str = "exact",
) -> dict[str, Any]:
    """Say what is promised, to whom, and what is not.

    Args:
        plan: what was asked for.
        reproducible: whether a seed decided the noise.
        baselines: what was trained besides, each at the same price once more: local, pooled.
        scores: how metrics left, by :func:`how_protected`.
    """
    if not plan.private:
        return {"unit": "none", "guarantee": "none"}
    privacy = plan.privacy
    seeded = (
        "nominal: simulation.seed makes noise and sampling repeat, so whoever knows the seed can"
        " remove them"
    )
    what = "updates and scores" if scores == "noisy" else "updates"
    secure = (
        f"holds for the {what}: noise and sampling masks come from a cryptographic generator keyed"
        " by the operating system"
    )
    statement: dict[str, Any] = {
        "unit": privacy.unit,
        "relation": plan.relation,
        "epsilon": privacy.epsilon,
        "delta": privacy.delta,
        "clipping_norm": privacy.clipping_norm,
        "accountant": privacy.accountant,
        "noise": "reproducible" if reproducible else "secure",
        "guarantee": (seeded if reproducible else secure)
        + (f"; epsilon is{privacy.condition}" if privacy.condition else ""),
        "not_protected": [
            *_UNPROTECTED_SCORES.get(scores, []),
            "timing",
            "participation",
            f"number of {privacy.unit}s",
            "label counts, which only a simulation's summary has",
        ],
    }
    flatters = plan.task.unit_note(privacy.unit)
    if flatters:
        statement["flatters"] = flatters
    if scores in ("noisy", "mixed"):
        statement["scores"] = _scores_statement(privacy)
    if plan.edges is not None:
        statement["edges"] = _edges_statement(plan.edges, privacy.epsilon)
    if plan.gram is not None:
        statement["gram"] = _gram_statement(plan.gram, privacy.epsilon)
    if baselines:
        statement["baselines"] = _baselines_statement(baselines)
    return statement


def how_protected(outcome: Outcome) -> str:
    """Say how metrics left: ``exact``, ``summed``, ``noisy``, ``none``, or ``mixed``.

    In a masked sum they are exact, but for all institutions together.
    """
    rounds = (record.validation for record in outcome.state.history)
    told = [one for part in (*rounds, outcome.validation, outcome.test) for one in part.values()]
    ways = {"noisy" if is_noisy(one) else "exact" for one in told}
    if not ways:
        return "none"
    if ways == {"exact"} and scores_are_summed(outcome):
        return "summed"
    return "mixed" if len(ways) > 1 else ways.pop()


__all__ = ["how_protected", "privacy_statement", "with_peers_statement"]
