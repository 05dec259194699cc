"""When a population's budget is spent: a Renyi filter across runs.

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

A group event under a record budget: zeroing one record of a group moves the group's clipped
gradient by up to 2 C, from one vector of norm C to another, as if noise were half as large: sigma /
2. With sampling that alone is not a proof, since both neighbours stay in the sample. By way of the
data set without the group it is two zero-out steps, and the triangle inequality of Renyi divergence
(Mironov 2017, arXiv 1702.07476, Proposition 11 with p = 2) proves

    D_alpha <= (alpha - 1/2) / (alpha - 1) * rho(2 alpha) + rho(2 alpha - 1),

rho being the group-level cost. The larger of the two is charged. A record event under a group
budget is refused: how many records of a group are sampled at once has no bound but their number.

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
    """What a run costs a population.

    Attributes:
        schedule: of its steps, in the unit that it protects itself.
        group_under_record_budget: whether a neighbour in the budget's unit is two zero-out steps away in the run's
            own.
    """

    schedule: Schedule
    group_under_record_budget: bool = False

    @staticmethod
    def of(schedule: Schedule, *, unit: str, budget_unit: str) -> "Charge":
        """Convert a schedule that protects ``unit`` into a charge on a budget that promises ``budget_unit``.

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
            schedule=schedule, group_under_record_budget=unit == "group" and budget_unit == "record"
        )


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a population may spend in its lifetime.

    Attributes:
        epsilon: > 0.
        delta: in (0, 1), for all runs together.
        order: alpha > 1, fixed when the budget was declared.
    """

    epsilon: float
    delta: float
    order: float

    @staticmethod
    @functools.cache
    def declare(epsilon: float, delta: float) -> "Budget":
        """Declare a budget, with the order at which most Gaussian mechanisms, whose cost is linear in it, fit in."""
        order = max(_ORDERS, key=lambda alpha: (epsilon - conversion(alpha, delta)) / alpha)
        return Budget(epsilon=epsilon, delta=delta, order=order)

    @property
    def capacity(self) -> float:
        """Renyi divergence that fits in."""
        return self.epsilon - conversion(self.order, self.delta)

    def cost(self, charge: Charge) -> float:
        """Return the Renyi divergence of a charge at this budget's order."""
        alpha, schedule = self.order, charge.schedule
        if not charge.group_under_record_budget:
            return renyi(schedule, order=alpha)
        there, back = renyi(schedule, order=2 * alpha), renyi(schedule, order=2 * alpha - 1)
        halved = replace(schedule, noise_multiplier=schedule.noise_multiplier / 2)
        return max((alpha - 0.5) / (alpha - 1) * there + back, renyi(halved, order=alpha))

    def spent(self, charges: Sequence[Charge]) -> float:
        """Return an epsilon that covers runs at the lifetime delta.

        Args:
            charges: one a run, in the order in which they began; those of no steps cost nothing.
        """
        done = [charge for charge in charges if charge.schedule.steps]
        if not done:
            return 0.0
        together = max(0.0, sum(map(self.cost, done)) + conversion(self.order, self.delta))
        return min(together, self._alone(done[0])) if len(done) == 1 else together

    def admits(self, history: Sequence[Charge], new: Charge) -> bool:
        """Say whether a run may begin: whole, its spare rounds included, after all that was admitted before.

        Args:
            history: of the runs admitted so far, whole.
            new: of the run that asks.
        """
        if sum(map(self.cost, [*history, new])) <= self.capacity:
            return True
        return not history and self._alone(new) <= self.epsilon

    def _alone(self, charge: Charge) -> float:
        """Return the epsilon of a run that is the only one.

        Infinite where only the filter applies.
        """
        return (
            math.inf
            if charge.group_under_record_budget
            else epsilon(charge.schedule, delta=self.delta)
        )


def conversion(order: float, delta: float) -> float:
    """Return what must be added to a Renyi divergence of an order to give epsilon at a delta."""
    return math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1)


__all__ = ["Budget", "Charge", "conversion"]
