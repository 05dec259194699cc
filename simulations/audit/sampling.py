"""Sampling: how much of a unit, of norm C at most, a step holds on average: q, if all is right.

Many canaries of unlike directions are trained on in every round of the plan. How often each was
added, in units of C, is read off the update; its mean over steps is q, and more if units are
sampled more often or clipped less than the accounting believes.
"""

import numpy
import torch
from scipy import stats

from confide.simulations.audit.crafted import pick
from confide.simulations.audit.door import added
from confide.simulations.audit.findings import Finding, PartResult
from confide.simulations.audit.situation import WITHOUT_PRIVACY, Situation
from confide.tasks.task import Examples

_RUNS = 24


def audit_sampling(situation: Situation) -> PartResult:
    """Measure the rate at which units are sampled."""
    if situation.mechanism is None:
        return PartResult(notes=[WITHOUT_PRIVACY])
    door, crafted = situation.mechanism.door, situation.mechanism.crafted
    count = min(len(crafted.canaries), door.num_units - len(crafted.companions))
    if count < 1:
        return PartResult(notes=[f"n={door.num_units} units leave no room for canaries."])
    present = pick(crafted.canaries, torch.arange(count))
    records = Examples.concat([crafted.companions, present])
    steps, rate = door.claim.schedule.steps, door.claim.schedule.sampling_rate
    means = numpy.array(
        [
            float(
                crafted.decode(added(door.whole_run(records, crafted.start), crafted.weight))[
                    :count
                ].mean()
            )
            / steps
            for _ in situation.watch("sampling", range(_RUNS))
        ]
    )
    mean, error = float(means.mean()), float(means.std(ddof=1)) / _RUNS**0.5
    reach = float(stats.t.ppf(1 - situation.doubt / 2, _RUNS - 1)) * error
    lowest = mean - float(stats.t.ppf(1 - situation.level, _RUNS - 1)) * error
    return PartResult(
        findings=[
            Finding(
                name="what a step holds of a unit, over C",
                unit="q",
                claim=rate,
                found=mean,
                interval=(mean - reach, mean + reach),
                trials=f"{_RUNS} runs of {count} canaries",
                assumes="means of runs are Gaussian",
                fault=lowest > rate,
                meaning="units are sampled more often, or clipped less, than was accounted for",
            )
        ]
    )


__all__ = ["audit_sampling"]
