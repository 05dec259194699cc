"""What masked sums would hide of records, in a simulation that adds updates up in the open.

There no institution is told of a cohort, and so none tells its epsilon against a coordinator that
sees sums alone. It follows from what all have declared.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from confide.client.ledger.ledger import RoundsSpent
from confide.client.schedule import LocalSchedule, make_schedule, plan_of_round, score_schedules
from confide.client.secure_sums.record_noise import honest_by, noise_in_sum
from confide.client.secure_sums.sum_rules import SumRules
from confide.config.aggregation import MOST_INSTITUTIONS
from confide.privacy.accounting import epsilon
from confide.privacy.peers import PeerNoise, weakest
from confide.protocol.plan import TrainingPlan
from confide.secure_aggregation.context import least_threshold, most_colluding
from confide.server.rounds.outcome import Outcome
from confide.server.rounds.state import RoundRecord
from confide.server.rounds.tally import WITH_PEERS
from confide.strategies.aggregators import scale_of
from confide.strategies.masked_sums import weight_of
from confide.strategies.strategy import Bounds


@dataclass(frozen=True, kw_only=True)
class _Stated:
    """What an institution would state in an advert."""

    name: str
    num_examples: int
    noise_multiplier: float
    sampling_rate: float


def told_with_peers(
    plan: TrainingPlan, outcome: Outcome, spent: Mapping[str, RoundsSpent], rules: SumRules
) -> dict[str, dict[str, float]]:
    """Return what institutions would tell with their last replies, were sums masked.

    Args:
        plan: what they were asked to do.
        outcome: how the run ended.
        spent: name -> rounds and scores that it was charged for.
        rules: of each institution.

    Returns:
        Name -> figures, of those who took part in a sum and count on others' noise.
    """
    if plan.peers_problem is not None:
        return {}
    schedule_fn = functools.cache(lambda n: make_schedule(plan, num_examples=n))
    stated = {
        name: _Stated(
            name=name,
            num_examples=n,
            noise_multiplier=schedule_fn(n).noise_multiplier,
            sampling_rate=schedule_fn(n).sampling_rate,
        )
        for name, n in outcome.clients.items()
    }
    noises: dict[str, list[PeerNoise]] = {}
    for record in outcome.state.history:
        cohort = [stated[name] for name in _asked(record) if name in stated]
        for name, noise in _in_the_open(plan, record.server_round, cohort, rules).items():
            noises.setdefault(name, []).append(noise)
    told = {}
    for name, own in noises.items():
        least = weakest(own)
        if least is not None and least.honest > 1 and name in spent:
            schedule = schedule_fn(outcome.clients[name])
            value = _epsilon(plan, schedule, least, spent[name])
            told[name] = dict(zip(WITH_PEERS, (value, float(least.honest)), strict=True))
    return told


def _asked(record: RoundRecord) -> list[str]:
    return sorted({*record.accepted, *record.refused})


def _in_the_open(
    plan: TrainingPlan, server_round: int, cohort: Sequence[_Stated], rules: SumRules
) -> dict[str, PeerNoise]:
    """Return the noise of each institution's records in a round's sum."""
    sums, count = plan.sums, len(cohort)
    if sums is None or not rules.min_cohort <= count <= MOST_INSTITUTIONS:
        return {}
    weight = sum(weight_of(one.num_examples, sums) for one in cohort)
    bounds = Bounds(max_value=sums.max_value, max_total_weight=weight, sum_bits=sums.bits)
    threshold = sums.threshold or least_threshold(count, most_colluding(count))
    honest = min(count, honest_by(rules, cohort=count, threshold=threshold))
    found = {}
    for one in cohort:
        noise = noise_in_sum(
            plan_of_round(plan, server_round),
            one.name,
            cohort,
            honest=honest,
            scale_bits=scale_of(bounds),
        )
        alone = PeerNoise(honest=1, noise_multiplier=one.noise_multiplier)
        found[one.name] = alone if noise.is_coarse else noise.of_record
    return found


def _epsilon(
    plan: TrainingPlan, schedule: LocalSchedule, noise: PeerNoise, spent: RoundsSpent
) -> float:
    """Return what a unit has cost at most: it is read by training, or by one split's scores."""
    privacy = plan.privacy
    among = replace(schedule, noise_multiplier=noise.noise_multiplier)
    training = among.epsilon_after(spent.count, delta=privacy.delta, accountant=privacy.accountant)
    if not spent.scores:
        return training
    scores = [
        epsilon(
            replace(one, steps=spent.releases.get(split, 0)),
            delta=privacy.delta,
            accountant=privacy.accountant,
        )
        for split, one in score_schedules(plan).items()
    ]
    return max(training, *scores)


__all__ = ["told_with_peers"]
