"""What simulated institutions have spent, as far as no reply of theirs says it."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from confide.client.ledger.ledger import RoundsSpent
from confide.client.schedule import make_schedule
from confide.privacy.peers import PeerNoise
from confide.protocol.messages import OLD
from confide.protocol.plan import TrainingPlan
from confide.server.rounds.checkpoint import Checkpoint
from confide.server.rounds.outcome import Outcome
from confide.simulations.accounts.released_rounds import ReleasedRounds
from confide.simulations.federation import Federation

_SCORED = ("validation", "test")

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SpentBefore(Mapping[str, RoundsSpent]):
    """What institutions spent in earlier processes of a run; anybody may be asked for.

    Attributes:
        named: of those who are gone through.
        others: of everybody else.
    """

    named: Mapping[str, RoundsSpent] = field(default_factory=dict)
    others: RoundsSpent = field(default_factory=RoundsSpent)

    def __getitem__(self, name: str) -> RoundsSpent:
        """Return what one spent."""
        return self.named.get(name, self.others)

    def __iter__(self) -> Iterator[str]:
        """Go through those who are named."""
        return iter(self.named)

    def __len__(self) -> int:
        """Return how many are named."""
        return len(self.named)


def spent_before(
    checkpoint: Checkpoint | None,
    names: Iterable[str] | None,
    released: ReleasedRounds | None,
    *,
    answers: int = 1,
    own_models: bool = False,
    compares: bool = False,
) -> SpentBefore:
    """Return what institutions spent in earlier processes of a run.

    Args:
        checkpoint: knows what was spent until it was written; None for a new run.
        names: of the institutions; None where they are not listed.
        released: counts rounds that were released after it as well; None where they cost nothing.
        answers: of one institution that a round may hold, at most.
        own_models: whether test records are scored by institutions' own models too.
        compares: whether they are scored by the model that the run started from too.
    """
    before = checkpoint.extra if checkpoint else {}
    kept = {name: _from_json(one) for name, one in before.get("spent", {}).items()}
    others = _from_json(before["spent_others"]) if "spent_others" in before else RoundsSpent()
    # Rounds after the checkpoint will run again with other noise, and were paid for once already.
    lost = released.after(checkpoint) if released else 0
    if lost:
        log.warning(
            "%d rounds were released after this checkpoint; each institution is charged for them.",
            lost,
        )
    everybody, count = kept if names is None else names, lost * answers
    further = [*(["test"] if own_models else []), *(["test", OLD, OLD] if compares else [])]
    last = (released.scored if released else 0) * [*_SCORED, *further]
    return SpentBefore(
        named={name: _charged(kept.get(name, RoundsSpent()), count, last) for name in everybody},
        others=_charged(others, count, last),
    )


def _charged(spent: RoundsSpent, lost: int, last: Sequence[str]) -> RoundsSpent:
    """Charge an institution for what may have left: nobody knows who was asked.

    Args:
        spent: until the checkpoint.
        lost: answers after it.
        last: splits of which last scores were asked for, each as often as they were.
    """
    for number in range(lost):  # keys of their own: a round that is asked again counts too
        spent = spent.plus(f"released/{spent.count}/{number}")
        scores = (*spent.scores, ("validation", f"released/{len(spent.scores)}"))
        spent = replace(spent, scores=scores)
    asked = ((split, f"last/{number}") for number, split in enumerate(last))
    return replace(spent, scores=(*spent.scores, *asked))


def spent_as_json(spent: Mapping[str, RoundsSpent]) -> dict[str, Any]:
    """Write down what institutions spent, for a checkpoint, in the order of their names."""
    return {name: as_json(one) for name, one in sorted(spent.items())}


def asked_as_json(spent: Mapping[str, RoundsSpent]) -> dict[str, Any]:
    """Write down what those spent who were asked, of a population that is not listed.

    Only counts: identifiers of the last mechanisms would be most of the file, and without them the
    same round is counted once more at worst.
    """
    paid = {name: one for name, one in spent.items() if one.count or one.scores}
    return spent_as_json({name: replace(one, recent=()) for name, one in paid.items()})


def as_json(spent: RoundsSpent) -> list[Any]:
    """Write down what an institution spent, for a checkpoint."""
    plain: list[Any] = [spent.count, list(spent.recent)]
    splits = [split for split, _ in spent.scores]
    if spent.with_peers is not None:
        return [*plain, splits, asdict(spent.with_peers)]
    return [*plain, splits] if splits else plain


def _from_json(raw: Sequence[Any]) -> RoundsSpent:
    count, recent, *more = raw
    # Without what was scored: another process may draw other noise, and then a repeated question
    # is one more release.
    scores = enumerate(more[0] if more else ())
    return RoundsSpent(
        count,
        tuple(recent),
        tuple((split, f"earlier/{number}") for number, split in scores),
        PeerNoise(**more[1]) if more[1:] else None,
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


__all__ = [
    "SpentBefore",
    "as_json",
    "asked_as_json",
    "epsilon_unheard",
    "spent_as_json",
    "spent_before",
]
