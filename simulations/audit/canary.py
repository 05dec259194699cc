"""Canary in, canary out: two institutions that differ in one record are asked the same.

Nasr et al. 2021 (arXiv 2101.04535) with crafted tensors, bounds of Nasr et al. 2023 (arXiv
2302.07956) beside. The statistic is the update's projection on the canary's gradient. For the bound
that assumes nothing a quarter of the trials chooses a threshold, and the other three count what it
gets right and wrong; for the other one the threshold follows from the plan.

Two schedules are audited: the plan's promise in one step on all units (q = 1, many trials: the
strongest test of clipping and noise), and all rounds of the plan as it is.
"""

from collections.abc import Callable

import numpy
import torch
from scipy import stats

from confide.simulations.audit.door import Door, added
from confide.simulations.audit.findings import Finding, PartResult
from confide.simulations.audit.situation import Mechanism, Situation
from confide.simulations.audit.statistics import (
    Rates,
    Values,
    choose_threshold,
    count,
    free_bound,
    perfect,
    shape_bound,
)
from confide.tasks.task import Examples

_TO_CHOOSE = 4  # one in so many trials


def audit_canary(situation: Situation) -> PartResult:
    """Tell an institution with the canary from one without."""
    mechanism = situation.mechanism
    if mechanism is None:
        return PartResult(notes=[situation.untested])
    settings = situation.settings
    inside, outside = _trials(situation, mechanism, mechanism.once, "one step", settings.trials)
    findings = [
        *_bounds(situation, mechanism.once, inside, outside, "canary, one step on all units"),
        _sensitivity(situation, inside, outside),
    ]
    if mechanism.door.claim.schedule.steps > 1 or mechanism.door.claim.schedule.sampling_rate < 1:
        inside, outside = _trials(situation, mechanism, mechanism.door, "runs", settings.runs)
        findings += _bounds(situation, mechanism.door, inside, outside, "canary, the whole run")
    return PartResult(
        findings=findings,
        notes=[
            f"The canary's gradient is {mechanism.crafted.sharpness:.1f} times the clipping norm:"
            " a norm that is exceeded by less shows in full."
        ],
    )


def _trials(
    situation: Situation, mechanism: Mechanism, door: Door, title: str, number: int
) -> tuple[Values, Values]:
    """Return the statistic of trials with the canary, and of as many without."""
    crafted = mechanism.crafted
    canary = crafted.canaries.select(torch.tensor([0]))
    worlds = (Examples.concat([crafted.companions, canary]), crafted.companions)
    found: tuple[list[float], list[float]] = ([], [])
    for _ in situation.watch(f"canary, {title}", range(number // 2)):
        for records, values in zip(worlds, found, strict=True):
            sums = added(door.whole_run(records, crafted.start), crafted.weight)
            values.append(float(crafted.decode(sums, chosen=0)))
    return numpy.array(found[0]), numpy.array(found[1])


def _bounds(
    situation: Situation, door: Door, inside: Values, outside: Values, name: str
) -> list[Finding]:
    claim, chooses = door.claim, len(inside) // _TO_CHOOSE

    def free(rates: Rates, level: float) -> float:
        return free_bound(rates, delta=claim.delta, level=level)

    def shaped(rates: Rates, level: float) -> float:
        return shape_bound(rates, claim.schedule, delta=claim.delta, level=level)

    def finding(
        rates: Rates, bound: Callable[[Rates, float], float], kind: str, assumes: str
    ) -> Finding:
        best = perfect(rates.positives, rates.negatives)
        return Finding(
            name=f"{name}{kind}",
            unit="epsilon",
            claim=claim.epsilon,
            found=bound(rates, situation.doubt),
            cap=bound(best, situation.doubt),
            trials=(
                f"{rates.positives + rates.negatives:,} of {2 * len(inside):,} trials; TPR"
                f" {rates.true_positives / rates.positives:.3f}, FPR"
                f" {rates.false_positives / rates.negatives:.3f}"
            ),
            assumes=assumes,
            fault=bound(rates, situation.level) > claim.epsilon,
            meaning="an update tells whether one record is there better than epsilon allows",
        )

    chosen = choose_threshold(
        inside[:chooses], outside[:chooses], lambda rates: free(rates, situation.doubt)
    )
    # Halfway between the two means that the plan would give: known before, so that every trial
    # counts.
    halfway = claim.schedule.sampling_rate * claim.schedule.steps / 2
    shape = "a sampled Gaussian with the plan's q and steps"
    return [
        finding(count(inside[chooses:], outside[chooses:], chosen), free, "", ""),
        finding(count(inside, outside, halfway), shaped, ", by its shape", shape),
    ]


def _sensitivity(situation: Situation, inside: Values, outside: Values) -> Finding:
    """Measure by how much the canary moves a sum."""
    shift = float(inside.mean() - outside.mean())
    error = float(numpy.sqrt(inside.var(ddof=1) / len(inside) + outside.var(ddof=1) / len(outside)))
    reach = float(stats.norm.ppf(1 - situation.doubt / 2)) * error
    return Finding(
        name="by how much one record moves a sum, over C",
        unit="C",
        claim=1.0,
        found=shift,
        interval=(shift - reach, shift + reach),
        trials=f"{len(inside) + len(outside):,} trials",
        assumes="means of many trials are Gaussian",
        fault=shift - float(stats.norm.ppf(1 - situation.level)) * error > 1.0,
        meaning="a record is not clipped to the norm that the noise was computed for",
    )


__all__ = ["audit_canary"]
