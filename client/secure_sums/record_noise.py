"""How much noise a record has in the sum of a round, by what a cohort states and by own rules.

What is promised, and to whom, is said in :mod:`confide.privacy.peers`. An institution counts on as
many honest ones in a sum as its threshold and its own rules leave, whatever a plan says: as many
as open it, less those who may collude. Its own least number of survivors does not count: others
may open a sum without its help. All this rests on one set of survivors for all; a coordinator that
tells several is found out by signatures, a round later.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from confide.client.ledger.runs import RunTerms
from confide.client.reservation import RoundAccount
from confide.client.safeguards import Safeguards
from confide.client.schedule import LocalSchedule, plan_of_round
from confide.client.secure_sums.sum_rules import SumRules
from confide.errors import DeniedError, PrivacyError
from confide.privacy.peers import (
    LEAST_GRID,
    PeerNoise,
    grid_units,
    honest_in_each,
    multiplier_with_peers,
)
from confide.protocol.plan import TrainingPlan
from confide.protocol.refusals import Refusal
from confide.secure_aggregation.context import SumContext, most_colluding

_ROUNDING = 1e-9


class Stated(Protocol):
    """What an institution states of its steps, as in its advert."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def num_examples(self) -> int:
        """Declared number of training units."""

    @property
    def noise_multiplier(self) -> float:
        """Sigma of a step."""

    @property
    def sampling_rate(self) -> float:
        """Rate q of a step."""


@dataclass(frozen=True, kw_only=True)
class SumNoise:
    """Noise in a round's sum.

    Attributes:
        of_record: what a record has.
        grid: standard deviation of the institution's own noise, in units of the sum's grid.
    """

    of_record: PeerNoise
    grid: float

    @property
    def is_coarse(self) -> bool:
        """Whether the grid is too coarse for others' noise to count."""
        return self.grid < LEAST_GRID


def honest_by(rules: SumRules, *, cohort: int, threshold: int) -> int:
    """Return h, the honest institutions of any sum that can be opened.

    Args:
        rules: the institution's own.
        cohort: n, institutions that may be in the sum.
        threshold: t, shares that open it.
    """
    colluding = most_colluding(cohort) if rules.max_colluding is None else rules.max_colluding
    return honest_in_each(min(threshold, cohort), colluding)


def noise_in_sum(
    plan: TrainingPlan, name: str, cohort: Sequence[Stated], *, honest: int, scale_bits: int
) -> SumNoise:
    """Return the noise of an institution's record in a sum.

    Noise of others that the grid is too coarse for counts as none.

    Args:
        plan: of the round: with its learning rate, and with sums.
        name: of the institution.
        cohort: what all who may be in the sum state, this one included.
        honest: h, at most as many.
        scale_bits: of the sum.
    """
    is_weighted = plan.sums is not None and plan.sums.weighting == "num_examples"
    step = plan.client.optimizer.learning_rate * plan.privacy.clipping_norm
    noises, grids = dict[str, tuple[float, float]](), dict[str, float]()
    for it in cohort:
        rate = it.sampling_rate * (1 if is_weighted else it.num_examples)
        stated = it.noise_multiplier, rate
        grids[it.name] = grid_units(stated, step=step, scale_bits=scale_bits)
        is_fine = it.name == name or grids[it.name] >= LEAST_GRID
        noises[it.name] = stated if is_fine else (0.0, rate)
    own = noises.pop(name)
    multiplier = multiplier_with_peers(own, list(noises.values()), honest=honest)
    noise = PeerNoise(honest=honest, noise_multiplier=multiplier)
    return SumNoise(of_record=noise, grid=grids[name])


def stated_noise(safeguards: Safeguards, schedule: LocalSchedule) -> float:
    """Return the sigma that others may count on: none, where anybody with the seed removes it.

    In a simulation without ledgers all noise is seeded, and all figures are nominal.
    """
    if safeguards.reproducible and safeguards.ledger.keeps_account:
        return 0.0
    return schedule.noise_multiplier


class PeerNoises:
    """Says how much noise a record has in a round's sum; refuses a round with less than promised.

    Args:
        safeguards: what the institution decides and remembers by itself.
        account: counts its rounds.
    """

    def __init__(self, safeguards: Safeguards, account: RoundAccount) -> None:
        self._safeguards, self._account = safeguards, account

    def of_round(
        self,
        plan: TrainingPlan,
        schedule: LocalSchedule,
        server_round: int,
        context: SumContext | None,
    ) -> PeerNoise | None:
        """Return the noise of a record in a round's sum, before anything is spent for the round.

        Args:
            plan: the request's plan.
            schedule: the work that it comes to here.
            server_round: number of the round.
            context: of the sum, checked; None where updates leave as they are.

        Returns:
            None where no other's noise counts, in this round and any other of the run.

        Raises:
            DeniedError: if the plan, the policy or a budget promises more than there is.
            PrivacyError: if the plan counts on noise that a seed gives away.
        """
        if not plan.private:
            return None
        found = self._in_sum(plan_of_round(plan, server_round), context)
        if plan.privacy.trust == "peers" and not self._safeguards.emulates_sums:
            _check_needed(plan, schedule, found)
        noise = None
        if found is not None:
            alone = PeerNoise(honest=1, noise_multiplier=schedule.noise_multiplier)
            noise = alone if found.is_coarse else found.of_record
        terms = self._account.terms(plan, schedule)
        self._check_policy(terms, noise)
        self._safeguards.ledger.admit_round(terms, noise)
        return noise

    def _in_sum(self, plan: TrainingPlan, context: SumContext | None) -> SumNoise | None:
        taking_part, ledger = self._safeguards.sums, self._safeguards.ledger
        if context is None or taking_part is None or plan.peers_problem is not None:
            return None
        if self._safeguards.reproducible and ledger.keeps_account:
            return None
        cohort = len(context.cohort)
        honest = honest_by(taking_part.rules, cohort=cohort, threshold=context.threshold)
        return noise_in_sum(
            plan,
            self._account.name,
            context.cohort,
            honest=min(honest, cohort),
            scale_bits=context.scale_bits,
        )

    def _check_policy(self, terms: RunTerms, noise: PeerNoise | None) -> None:
        """Hold what a whole run costs at most, with this noise in every round, against the policy.

        Raises:
            DeniedError: if that is more than it allows.
        """
        allowed = self._safeguards.policy.config.max_epsilon_with_peers
        if allowed is None:
            return
        sigma = terms.noise_multiplier if noise is None else noise.noise_multiplier
        asked = replace(terms, noise_multiplier=sigma).epsilon_planned
        if asked > allowed:
            raise DeniedError(
                f"policy.max_epsilon_with_peers: asked {asked:.4g}, allowed {allowed:g}; a larger"
                " cohort, or one that fewer may leave, has more noise.",
                code=Refusal.POLICY_MAX_EPSILON_WITH_PEERS,
                figures={"asked": asked, "allowed": allowed},
            )


def _check_needed(plan: TrainingPlan, schedule: LocalSchedule, found: SumNoise | None) -> None:
    """Check that a sum has the noise that keeps the epsilon of a plan that counts on others."""
    needed, counted = schedule.noise_with_peers, plan.privacy.honest
    if found is None:
        raise PrivacyError(
            "privacy.trust=peers: noise here derives from a seed, and no other's would hide a"
            " record whose own is known; leave the seed out."
        )
    if found.is_coarse:
        raise DeniedError(
            f"privacy.trust=peers: noise of {found.grid:.3g} units of the sum's grid, needed at"
            f" least {LEAST_GRID:g} for noise to add up; set aggregation.sum_bits=64, or a lower"
            " server.max_update_value.",
            code=Refusal.SUM_GRID,
            figures={"asked": found.grid, "allowed": LEAST_GRID},
        )
    there = found.of_record
    if there.noise_multiplier * (1 + _ROUNDING) < needed:
        raise DeniedError(
            f"privacy.honest_peers={counted}: this cohort and the rules here leave {there.honest}"
            f" honest institutions, with a noise multiplier of {there.noise_multiplier:.4g}; needed"
            f" at least {needed:.4g}. A higher aggregation.threshold, one client.sampling_rate for"
            " all, or fewer honest_peers keep it.",
            code=Refusal.SUM_COHORT,
            figures={"asked": there.noise_multiplier, "allowed": needed},
        )


__all__ = [
    "PeerNoises",
    "Stated",
    "SumNoise",
    "honest_by",
    "noise_in_sum",
    "stated_noise",
]
