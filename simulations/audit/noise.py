"""Noise: is it as large as the schedule says, and new in every round?

Where no record has a gradient an update is noise and nothing else. Its variance is compared with
sigma^2 C^2 (a chi-square test: exact for Gaussians), and updates of two rounds, of two requests for
one round, of two jobs and of two institutions are correlated: noise that comes twice cancels in
their difference. And epsilon is computed again from the sigma, q and steps that the institution
itself names.
"""

import itertools
import os
from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy
import torch
from scipy import stats
from torch import Tensor

from confide.client.institution import Institution
from confide.config.tunings.table import TUNINGS
from confide.privacy.accounting import epsilon
from confide.privacy.randomness import KEY_BYTES
from confide.protocol.tensors import Tensors
from confide.simulations.audit.door import Door
from confide.simulations.audit.findings import Finding, PartResult
from confide.simulations.audit.situation import WITHOUT_PRIVACY, Situation, Still

# PRV and PLD agree to much less; a wrong sigma shows as several per cent.
_ACCOUNTING_SLACK = 0.01
# float32 rounds the sum of a value and its noise, by this share of the value.
_FLOAT32_STEP = 2.0**-23
_MOST_ROUNDED = 0.01
"""Share of a step's noise that rounding may come to."""


def audit_noise(situation: Situation) -> PartResult:
    """Measure the noise of rounds in which no record has a gradient."""
    still = situation.still
    if still is None:
        return PartResult(notes=[WITHOUT_PRIVACY])
    return PartResult(
        findings=[_schedule(still.door), _variance(situation, still), _reuse(situation, still)]
    )


def _schedule(door: Door) -> Finding:
    """Account anew for the schedule that the institution names."""
    claim, schedule = door.claim, door.claim.schedule
    found = epsilon(schedule, delta=claim.delta)
    return Finding(
        name="epsilon of the schedule that the institution names",
        unit="epsilon",
        claim=claim.epsilon,
        found=found,
        trials=(
            f"sigma={schedule.noise_multiplier:.4g}, q={schedule.sampling_rate:.4g},"
            f" {schedule.steps} steps"
        ),
        fault=found > claim.epsilon * (1 + _ACCOUNTING_SLACK),
        meaning="the schedule costs more than the plan promises",
    )


def _quiet(still: Still, sums: Tensors) -> Tensors:
    """Return what is noise alone and hardly rounded, flat, by tensor."""
    start = still.start
    least = still.door.step_noise * _MOST_ROUNDED
    parts = {
        name: sums[name].flatten()[start[name].flatten().abs() * _FLOAT32_STEP < least]
        for name in start
    }
    return {name: part for name, part in parts.items() if len(part)}


def _variance(situation: Situation, still: Still) -> Finding:
    door, tuning = still.door, situation.plan.tuning
    turns = TUNINGS[tuning.kind].turns
    in_a_round = door.claim.schedule.steps / door.rounds
    sigma = door.claim.schedule.noise_multiplier
    a_run = door.rounds * sum(tensor.numel() for tensor in still.start.values())
    runs = -(-situation.settings.draws // a_run)
    squares: defaultdict[str, float] = defaultdict(float)
    draws: Counter[str] = Counter()
    for _ in situation.watch("noise", range(runs)):
        for number, sums in enumerate(door.whole_run(still.records, still.start)):
            # What has no turn in a round stays as it came, and has no noise.
            stays = turns[tuning.turn(number + 1, len(turns))] if turns else None
            quiet = _quiet(still, sums).items()
            for name, values in ((n, v) for n, v in quiet if stays is None or stays not in n):
                squares[name] += float(values.square().sum()) / in_a_round
                draws[name] += len(values)

    def ends(names: Iterable[str], doubt: float) -> tuple[float, float]:
        number, total = sum(draws[n] for n in names), sum(squares[n] for n in names)
        above, below = stats.chi2.ppf([1 - doubt / 2, doubt / 2], number)
        return float(numpy.sqrt(total / above)), float(numpy.sqrt(total / below))

    # All together, and each tensor by itself: one without noise is lost among many.
    tests = [list(draws), *([name] for name in draws)]
    level = situation.level / len(tests)
    wrong = [names for names in tests if not _holds(ends(names, level), sigma)]
    where = f"; wrong in {wrong[-1][0]}" if wrong and wrong[-1] != tests[0] else ""
    return Finding(
        name="noise of a step",
        unit="sigma",
        claim=sigma,
        found=float(numpy.sqrt(sum(squares.values()) / draws.total())),
        interval=ends(draws, situation.doubt),
        trials=f"{draws.total():,} values of {runs} runs, in all and by tensor{where}",
        assumes="Gaussian noise",
        fault=bool(wrong),
        meaning="noise is not what epsilon was computed from, or steps of a round share it",
    )


def _holds(interval: tuple[float, float], value: float) -> bool:
    return interval[0] <= value <= interval[1]


def _reuse(situation: Situation, still: Still) -> Finding:
    """Correlate the noise of requests that must not share any."""
    door, start, other = still.door, still.start, still.other
    secret = os.urandom(KEY_BYTES)  # of one machine: names and requests have to tell noise apart

    def ask(tensors: Tensors, server_round: int, *, job: str = "", name: str = "one") -> Tensor:
        institution = institutions.setdefault(
            name, door.open(still.records, name=name, secret=secret)
        )
        request = door.request(tensors, server_round, job=job)
        return torch.cat(list(_quiet(still, door.sums(institution, request)).values()))

    institutions: dict[str, Institution] = {}
    asked = {
        "a round": ask(start, 1),
        "another institution's": ask(start, 1, name="two"),
        "another job's": ask(start, 1, job="audit again"),
    }
    if door.rounds > 1:  # otherwise the institution rightly declines them
        asked["other tensors'"] = ask(other, 1)
    if door.rounds > 2:
        asked["the next round's"] = ask(other, 2)
    pairs = {
        (first, second): float(numpy.corrcoef(asked[first], asked[second])[0, 1])
        for first, second in itertools.combinations(asked, 2)
    }
    (first, second), worst = max(pairs.items(), key=lambda pair: abs(pair[1]))
    free = len(asked["a round"]) - 2
    statistic = abs(worst) * numpy.sqrt(free / max(1e-300, 1 - worst**2))
    probability = 2 * float(stats.t.sf(statistic, free))
    return Finding(
        name="noise of two requests",
        unit="correlation",
        claim=0.0,
        found=worst,
        trials=f"{len(pairs)} pairs of {free + 2:,} values; largest: {first} and {second}",
        fault=probability < situation.level / len(pairs),
        meaning="noise that comes twice cancels in the difference of two updates",
    )


__all__ = ["audit_noise"]
