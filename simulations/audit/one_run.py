"""One run (Steinke, Nasr and Jagielski 2023, arXiv 2305.08846): many canaries, each by a coin.

All rounds of the plan are run once. The canaries that were added most, by the update, are guessed
to be in the records, those added least to be out; the rest is left open. How many are guessed is
fixed before, from what the claimed mechanism would give.
"""

import numpy
import torch

from confide.privacy.accounting import Schedule
from confide.simulations.audit.door import added
from confide.simulations.audit.findings import Finding, PartResult
from confide.simulations.audit.situation import Situation
from confide.simulations.audit.statistics import one_run_bound, one_run_cap
from confide.tasks.task import Examples

_SHARES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_REHEARSALS = 50
# Where few canaries give 0 whatever is guessed, there would be nothing to choose by.
_CHOOSING = 0.5


def audit_one_run(situation: Situation) -> PartResult:
    """Guess which canaries took part in one run."""
    if situation.mechanism is None:
        return PartResult(notes=[situation.untested])
    door, crafted = situation.mechanism.door, situation.mechanism.crafted
    canaries = min(len(crafted.canaries), door.num_units - len(crafted.companions))
    if canaries < 2:
        return PartResult(notes=[f"n={door.num_units} units leave no room for canaries."])
    generator = numpy.random.default_rng(situation.settings.seed)
    coins = generator.random(canaries) < 0.5
    claim = door.claim
    guesses = _number_of_guesses(claim.schedule, canaries, delta=claim.delta, doubt=situation.doubt)
    present = crafted.canaries.select(torch.from_numpy(coins.nonzero()[0]))
    records = Examples.concat([crafted.companions, present])
    for _ in situation.watch("one run", range(1)):
        sums = added(door.whole_run(records, crafted.start), crafted.weight)
    scores = crafted.decode(sums)[:canaries].numpy()
    right = _right(scores, coins, guesses)

    def bound(level: float) -> float:
        return one_run_bound(
            canaries=canaries, guesses=guesses, right=right, delta=claim.delta, level=level
        )

    return PartResult(
        findings=[
            Finding(
                name="one run",
                unit="epsilon",
                claim=claim.epsilon,
                found=bound(situation.doubt),
                cap=one_run_cap(canaries, delta=claim.delta, level=situation.doubt),
                trials=f"{canaries} canaries, {right} of {guesses} guesses right",
                fault=bound(situation.level) > claim.epsilon,
                meaning="updates tell who took part better than epsilon allows",
            )
        ]
    )


def _right(scores: numpy.ndarray, coins: numpy.ndarray, guesses: int) -> int:
    """Count right guesses: half of them at the highest scores, half at the lowest."""
    order = scores.argsort()
    low, high = order[: guesses // 2], order[len(order) - (guesses - guesses // 2) :]
    return int((~coins[low]).sum() + coins[high].sum())


def _number_of_guesses(schedule: Schedule, canaries: int, *, delta: float, doubt: float) -> int:
    """Rehearse the claimed mechanism, and return the number of guesses that gives the most."""
    generator = numpy.random.default_rng(0)
    rate, steps = schedule.sampling_rate, schedule.steps
    options = sorted({max(2, round(share * canaries)) for share in _SHARES})
    right = numpy.zeros((_REHEARSALS, len(options)))
    for rehearsal in range(_REHEARSALS):
        coins = generator.random(canaries) < 0.5
        noise = generator.normal(size=canaries) * schedule.noise_multiplier * steps**0.5
        scores = coins * generator.binomial(steps, rate, canaries) + noise
        right[rehearsal] = [_right(scores, coins, option) for option in options]
    typical = numpy.median(right, axis=0).astype(int)
    for level in (doubt, _CHOOSING):
        bounds = [
            one_run_bound(canaries=canaries, guesses=option, right=right, delta=delta, level=level)
            for option, right in zip(options, typical.tolist(), strict=True)
        ]
        if max(bounds) > 0:
            break
    return options[int(numpy.argmax(bounds))]


__all__ = ["audit_one_run"]
