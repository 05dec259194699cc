"""The lifetime budget of a population: a Renyi filter across runs decides when it is spent.

Protected: one unit of a population, over every run that trains on it. Neighbouring relation:
zero-out, numbers of units public. Plans of later runs may depend on what earlier ones released, so
that composing them as if all had been fixed beforehand (by PLD, or by the best of many Renyi
orders) would not be sound. The stop rule is a privacy filter instead:

* **Renyi filter** (Feldman and Zrnic, "Individual Privacy Accounting via a Renyi Filter", NeurIPS
  2021, arXiv 2008.11193). With one order alpha fixed when the budget is declared, costs of
  adaptively chosen runs add up, and everything together is (epsilon, delta)-DP as long as the sum
  stays within the capacity B = epsilon - conversion(alpha, delta).
* **The first run** may instead be admitted by its own epsilon at the lifetime delta: its schedule
  is fixed before anything was released. Where it fits the filter too, both rules hold; where it
  does not, the filter's capacity is passed and no further run is ever admitted. Which of the two is
  the case follows from the first plan alone, so no outcome chooses the rule.

**Scores.** A run may release noisy scores of validation and test records beside its updates. A unit
is in exactly one of training, validation and test, by a keyed hash of its id alone, and zeroing it
out moves neither itself nor another unit. So within a run it is read either by the training
mechanism or by the scores of one split; given what was released so far, everything else has the
same distribution with it as without it. By adaptive composition the run costs that unit at most
the largest of the divergences of its mechanisms, and not their sum (parallel composition, McSherry
2009, per unit; docs/design/0024-noisy-metrics.md has the proof). Across runs these maxima add up,
so that a unit may be in another split in another run. A score is a Gaussian mechanism without
sampling: a schedule with q = 1.

A group event under a record budget: zeroing one record of a group moves the group's clipped
gradient by up to 2 C, from one vector of norm C to another, as if noise were half as large: sigma /
2. With sampling that alone is not a proof, since both neighbours stay in the sample. By way of the
data set without the group it is two zero-out steps, and the triangle inequality of Renyi divergence
(Mironov 2017, arXiv 1702.07476, Proposition 11 with p = 2) proves

    D_alpha <= (alpha - 1/2) / (alpha - 1) * rho(2 alpha) + rho(2 alpha - 1),

rho being the group-level cost. The larger of the two is charged. A record event under a group
budget is refused: how many records of a group are sampled at once has no bound but their number.

Delta is below 1 / n, n being the population's number of units: a mechanism that publishes one unit
chosen at random, outright, has delta 1 / n.

What voids all this: outputs of the same units that this budget does not know of, and an order
chosen after the fact.

The conversion from (alpha, rho)-RDP is that of Balle et al. 2020 (arXiv 1905.09982, Theorem 21).
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from confide.errors import DeniedError
from confide.privacy.accounting import Schedule, epsilon, renyi

# 1.05, 1.1, ..., 10.95, 11, 12, ..., 64, 72, 80, ..., 512. Small budgets need large ones: without,
# conversion alone takes more than epsilon=0.1 at delta=1e-5. Beyond 1,029, and a group under a
# record budget is charged at twice the order, costs overflow.
_ORDERS = [1 + x / 20 for x in range(1, 200)] + [
    float(x) for x in (*range(11, 65), *range(72, 513, 8))
]


@dataclass(frozen=True, kw_only=True)
class Charge:
    """The cost of a run to a population.

    Attributes:
        schedule: schedule of the run's steps, in the unit that the run protects.
        scores: schedules of its releases of scores, one for each split that is scored.
        group_under_record_budget: whether the run protects groups and the budget promises records,
            so that neighbours for the budget are two zero-out steps apart for the run.
    """

    schedule: Schedule
    scores: tuple[Schedule, ...] = ()
    group_under_record_budget: bool = False

    @property
    def mechanisms(self) -> tuple[Schedule, ...]:
        """What reads units, each unit being read by one of them; without those of no steps."""
        return tuple(one for one in (self.schedule, *self.scores) if one.steps)

    @staticmethod
    def of(
        schedule: Schedule, *, unit: str, budget_unit: str, scores: Sequence[Schedule] = ()
    ) -> "Charge":
        """Return the charge of a run on a budget, whose units may differ.

        Args:
            schedule: schedule of the run's steps.
            unit: unit that the run protects.
            budget_unit: unit that the budget promises to protect.
            scores: schedules of its releases of scores, one for each split.

        Raises:
            DeniedError: if there is no sound conversion.
        """
        if unit == "record" and budget_unit == "group":
            raise DeniedError(
                "privacy.unit=record does not protect a group, which budget.unit=group promises;"
                " ask for privacy.unit=group.",
                code="budget_unit",
            )
        return Charge(
            schedule=schedule,
            scores=tuple(scores),
            group_under_record_budget=unit == "group" and budget_unit == "record",
        )


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The privacy loss that a population may spend in its lifetime.

    Attributes:
        epsilon: bound for all runs together, > 0.
        delta: probability that the bound fails, in (0, 1), for all runs together.
        order: Renyi order alpha > 1, fixed when the budget was declared.
    """

    epsilon: float
    delta: float
    order: float

    @staticmethod
    @functools.cache
    def declare(epsilon: float, delta: float) -> "Budget":
        """Return a budget with the order at which the most Gaussian mechanisms fit into it."""
        # The cost of a Gaussian mechanism is linear in the order. The choice depends on the budget
        # alone: an order chosen after outputs were seen would void the filter.
        order = max(_ORDERS, key=lambda alpha: (epsilon - conversion(alpha, delta)) / alpha)
        return Budget(epsilon=epsilon, delta=delta, order=order)

    @property
    def capacity(self) -> float:
        """Largest sum of Renyi divergences that the budget covers."""
        return self.epsilon - conversion(self.order, self.delta)

    def cost(self, charge: Charge) -> float:
        """Return the Renyi divergence of a charge at this budget's order."""
        far = charge.group_under_record_budget
        return max((self._cost(one, far=far) for one in charge.mechanisms), default=0.0)

    def _cost(self, schedule: Schedule, *, far: bool) -> float:
        """Return the divergence of one mechanism.

        Args:
            schedule: of the mechanism.
            far: whether neighbours are two zero-out steps of the mechanism apart.
        """
        alpha = self.order
        if not far:
            return renyi(schedule, order=alpha)
        # The two costs of the module's docstring: by the triangle inequality, which is proved with
        # sampling too, and at half the noise, which is what people expect
        there = renyi(schedule, order=2 * alpha)
        back = renyi(schedule, order=2 * alpha - 1)
        by_triangle = (alpha - 0.5) / (alpha - 1) * there + back
        halved = replace(schedule, noise_multiplier=schedule.noise_multiplier / 2)
        return max(by_triangle, renyi(halved, order=alpha))

    def spent(self, charges: Sequence[Charge]) -> float:
        """Return an epsilon that covers runs at the lifetime delta.

        Args:
            charges: charges of the runs, in the order in which they began; one without steps costs
                nothing.
        """
        done = [charge for charge in charges if charge.mechanisms]
        if not done:
            return 0.0
        together = max(0.0, sum(map(self.cost, done)) + conversion(self.order, self.delta))
        return min(together, self._alone(done[0])) if len(done) == 1 else together

    def admits(self, history: Sequence[Charge], new: Charge) -> bool:
        """Say whether a whole run, spare rounds included, may begin after those admitted before.

        Args:
            history: charges of the runs admitted so far, each of the whole run.
            new: charge of the run that asks.
        """
        if self.holds([*history, new]):
            return True
        # The rule for the first run. If it fits only by this rule, the filter is over its capacity
        # and admits nothing more, so that the first plan alone decides which rule holds
        return not history and self._alone(new) <= self.epsilon

    def holds(self, charges: Sequence[Charge]) -> bool:
        """Say whether runs are within the filter's capacity."""
        return sum(map(self.cost, charges)) <= self.capacity

    def _alone(self, charge: Charge) -> float:
        """Return the epsilon of a run that is the only one; infinite if only the filter applies."""
        if charge.group_under_record_budget:
            return math.inf
        return max((epsilon(one, delta=self.delta) for one in charge.mechanisms), default=0.0)


def suits(delta: float, units: int) -> bool:
    """Say whether a delta is below 1 / n.

    Args:
        delta: probability that a bound fails.
        units: n, the number of units that it protects; 0 if none is known yet.
    """
    return delta * units < 1


def suitable_delta(units: int) -> float:
    """Return the largest power of ten below 1 / n.

    Args:
        units: n >= 1.
    """
    return float(f"1e-{len(str(units))}")


def conversion(order: float, delta: float) -> float:
    """Return the difference between epsilon at a delta and the Renyi divergence of an order."""
    return math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1)


__all__ = ["Budget", "Charge", "conversion", "suitable_delta", "suits"]
