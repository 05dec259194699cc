"""Sampling: how much of a unit, of norm C at most, a step holds on average: q, if all is right.

Many canaries of unlike directions are trained on in every round of the plan. How often each was
added, in units of C, is read off the update; its mean over steps is q, and more if units are
sampled more often or clipped less than the accounting believes. Rounds have to sample anew: what
two of them hold of a canary must not go together.
"""

import torch
from scipy import stats

from confide.simulations.audit.door import Door
from confide.simulations.audit.findings import Finding, PartResult
from confide.simulations.audit.situation import Situation
from confide.simulations.audit.statistics import Values
from confide.tasks.task import Examples

_RUNS = 24


def audit_sampling(situation: Situation) -> PartResult:
    """Measure the rate at which units are sampled."""
    if situation.mechanism is None:
        return PartResult(notes=[situation.untested])
    door, crafted = situation.mechanism.door, situation.mechanism.crafted
    count = min(len(crafted.canaries), door.num_units - len(crafted.companions))
    if count < 1:
        return PartResult(notes=[f"n={door.num_units} units leave no room for canaries."])
    present = crafted.canaries.select(torch.arange(count))
    records = Examples.concat([crafted.companions, present])
    runs = torch.stack(
        [
            torch.stack(
                [
                    crafted.decode(sums[crafted.weight].flatten())[:count]
                    for sums in door.whole_run(records, crafted.start)
                ]
            )
            for _ in situation.watch("sampling", range(_RUNS))
        ]
    ).numpy()
    findings = [_rate(situation, door, runs)]
    if door.rounds > 1 and door.claim.schedule.sampling_rate < 1:
        findings.append(_repetition(situation, door, runs))
    return PartResult(findings=findings)


def _rate(situation: Situation, door: Door, runs: Values) -> Finding:
    """Hold the mean of what steps hold against q."""
    claim = door.claim.schedule
    low, mean, high, lowest = _interval(situation, runs.sum(axis=1).mean(axis=1) / claim.steps)
    return Finding(
        name="what a step holds of a unit, over C",
        unit="q",
        claim=claim.sampling_rate,
        found=mean,
        interval=(low, high),
        trials=f"{len(runs)} runs of {runs.shape[2]} canaries",
        assumes="means of runs are Gaussian",
        fault=lowest > claim.sampling_rate,
        meaning="units are sampled more often, or clipped less, than was accounted for",
    )


def _repetition(situation: Situation, door: Door, runs: Values) -> Finding:
    """Correlate the samples of two rounds: 1 if each round samples the same units."""
    claim, rounds = door.claim.schedule, door.rounds
    centred = runs - runs.mean()
    pairs = centred.sum(axis=1) ** 2 - (centred**2).sum(axis=1)
    spread = claim.steps / rounds * claim.sampling_rate * (1 - claim.sampling_rate)
    shares = pairs.mean(axis=1) / (rounds * (rounds - 1)) / spread
    low, mean, high, lowest = _interval(situation, shares)
    return Finding(
        name="samples of two rounds",
        unit="correlation",
        claim=0.0,
        found=mean,
        interval=(low, high),
        trials=f"{len(runs)} runs of {runs.shape[2]} canaries, {rounds} rounds each",
        assumes="means of runs are Gaussian",
        fault=lowest > 0.0,
        meaning="rounds sample the same units, and epsilon is computed for samples drawn anew",
    )


def _interval(situation: Situation, means: Values) -> tuple[float, float, float, float]:
    """Return an interval's ends around the mean, and the lower limit that proves a fault."""
    mean, error = float(means.mean()), float(means.std(ddof=1)) / len(means) ** 0.5
    reach = float(stats.t.ppf(1 - situation.doubt / 2, len(means) - 1)) * error
    lowest = mean - float(stats.t.ppf(1 - situation.level, len(means) - 1)) * error
    return mean - reach, mean, mean + reach, lowest


__all__ = ["audit_sampling"]
