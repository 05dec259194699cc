"""What simulated institutions have spent, as far as no reply of theirs says it."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from confide.client.ledger.ledger import RoundsSpent
from confide.client.schedule import make_schedule
from confide.protocol.plan import TrainingPlan
from confide.server.rounds.checkpoint import Checkpoint
from confide.server.rounds.outcome import Outcome
from confide.simulations.accounts.released_rounds import ReleasedRounds
from confide.simulations.federation import Federation

log = logging.getLogger(__name__)


def spent_before(
    checkpoint: Checkpoint | None,
    names: Sequence[str],
    released: ReleasedRounds | None,
    *,
    answers: int = 1,
) -> dict[str, RoundsSpent]:
    """Return what institutions spent in earlier processes of a run.

    Args:
        checkpoint: knows what was spent until it was written; None for a new run.
        names: of the institutions.
        released: counts rounds that were released after it as well; None where they cost nothing.
        answers: of one institution that a round may hold, at most.
    """
    kept = checkpoint.extra.get("spent", {}) if checkpoint else {}
    spent = {name: _from_json(one) for name, one in kept.items()}
    # Rounds after the checkpoint will run again with other noise, and were paid for once already.
    lost = released.after(checkpoint) if released else 0
    if lost:
        log.warning(
            "%d rounds were released after this checkpoint; each institution is charged for them.",
            lost,
        )
    charged = {}
    for name in names:
        one = spent.get(name, RoundsSpent())
        for number in range(
            lost * answers
        ):  # keys of their own: a round that is asked again counts too
            one = one.plus(f"released/{one.count}/{number}")
            scores = (*one.scores, ("validation", f"released/{len(one.scores)}"))
            one = replace(one, scores=scores)
        charged[name] = one
    return charged


def as_json(spent: RoundsSpent) -> list[Any]:
    """Write down what an institution spent, for a checkpoint."""
    plain: list[Any] = [spent.count, list(spent.recent)]
    return [*plain, [split for split, _ in spent.scores]] if spent.scores else plain


def _from_json(raw: Sequence[Any]) -> RoundsSpent:
    count, recent, *splits = raw
    # Without what was scored: another process may draw other noise, and then a repeated question
    # is one more release.
    scores = enumerate(splits[0] if splits else ())
    return RoundsSpent(
        count, tuple(recent), tuple((split, f"earlier/{number}") for number, split in scores)
    )


def epsilon_unheard(
    federation: Federation, plan: TrainingPlan, outcome: Outcome
) -> dict[str, float]:
    """Work out the epsilon of institutions that trained in rounds whose answer never came."""
    if not plan.private:
        return {}
    heard = Counter(name for record in outcome.state.history for name in record.epsilon)
    epsilon = {}
    for name, spent in federation.engine.spent(plan.job).items():
        if spent.count <= heard[name]:  # its last reply told
            continue
        n = outcome.clients.get(name, federation.data[name].num_units(plan.privacy.unit))
        schedule = make_schedule(plan, num_examples=n)
        epsilon[name] = schedule.epsilon_after(
            spent.count, delta=plan.privacy.delta, accountant=plan.privacy.accountant
        )
    return epsilon


__all__ = ["as_json", "epsilon_unheard", "spent_before"]
