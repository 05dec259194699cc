"""A population's second budget: what coordinators learn that see sums alone.

Beside the budget of :mod:`confide.privacy.budget`, never in place of it. A run is charged whole, at
the least noise that a record had in one of its sums so far: a round is held against the budget
before it is reserved, and one whose cohort gives less noise than those before raises the run's
charge. What no other's noise hides, scores and runs without sums, is charged as in the first
budget. How weak a round may be follows from the budget, the order that was declared with it, and
the runs before; no output changes it.
"""

import shlex
from collections.abc import Iterable
from dataclasses import replace

from confide.client.ledger.runs import RunAccount, RunTerms
from confide.client.ledger.state import PopulationAccount
from confide.config.privacy import BudgetConfig
from confide.errors import DeniedError
from confide.privacy.budget import Budget, Charge
from confide.privacy.peers import PeerNoise, weakest
from confide.protocol.refusals import Refusal


def new_promise(config: BudgetConfig, known: PopulationAccount | None) -> Budget | None:
    """Return the budget against coordinators that see sums alone, as a policy sets it.

    Args:
        config: the policy's.
        known: the population, if it is declared already.

    Returns:
        None where none is promised.

    Raises:
        DeniedError: if it would be promised after a run has begun.
    """
    if config.epsilon_with_peers is None:
        return None
    promised = Budget.declare(config.epsilon_with_peers, config.delta)
    before = known.budget_with_peers if known else None
    if before is not None:
        return replace(promised, order=before.order)
    if known is not None and known.runs:
        raise _undeclared(known)
    return promised


def _undeclared(population: PopulationAccount) -> DeniedError:
    # An order that is chosen after outputs were seen would void the filter
    fix = (
        "it was charged before, so that none can be promised any more; leave it out"
        if population.runs
        else "declare it: confide ledger budget LEDGER --declare"
        f" {shlex.quote(population.name)} --epsilon {population.budget.epsilon:g}"
        " --epsilon-with-peers E"
    )
    return DeniedError(
        f"policy.budget.epsilon_with_peers: population {population.name} was declared without such"
        f" a budget; {fix}.",
        code=Refusal.BUDGET_WITH_PEERS,
    )


def noise_with_peers(run: RunAccount) -> PeerNoise | None:
    """Return noise that stands for that of a record in each of a run's sums.

    Returns:
        None before the first round, or where no other's noise counts in one of them.
    """
    noises = [one.with_peers for one in run.rounds.values()]
    known = [one for one in noises if one is not None]
    return weakest(known) if len(known) == len(noises) else None


def charge_with_peers(population: PopulationAccount, run: RunAccount) -> Charge:
    """Return a run's charge on the second budget: the whole run, once a round was reserved."""
    if not run.rounds:
        return population.charge(run.terms, rounds=0)
    return _charge(population, run.terms, noise_with_peers(run))


def committed_with_peers(population: PopulationAccount) -> float | None:
    """Return epsilon of all runs against coordinators that see sums; None if not promised."""
    promised = population.budget_with_peers
    if promised is None:
        return None
    return promised.spent([charge_with_peers(population, run) for run in population.runs.values()])


def check_scores(population: PopulationAccount, terms: RunTerms, policy: BudgetConfig) -> None:
    """Check that the second budget covers the scores of a run that begins.

    Raises:
        DeniedError: if it does not, or was declared too late.
    """
    promised = _bound(population, policy)
    if promised is None:
        return
    scores = population.charge(terms, rounds=0)
    before = _others(population, terms.name)
    if scores.mechanisms and not promised.admits(before, scores):
        raise _denial(population, terms, promised, [*before, scores])


def check_promise(
    population: PopulationAccount,
    terms: RunTerms,
    with_peers: PeerNoise | None,
    policy: BudgetConfig,
) -> None:
    """Check that the second budget covers a run with one more round.

    Args:
        population: account of the population.
        terms: terms of the run.
        with_peers: noise of a record in the round's sum; None where no other's noise counts.
        policy: budget that the policy allows.

    Raises:
        DeniedError: if it does not, with what would be committed and what is allowed; or if it was
            declared too late.
    """
    promised = _bound(population, policy)
    if promised is None:
        return
    run, noises = population.runs.get(terms.name), [with_peers]
    first = with_peers
    if run is not None and run.rounds:
        noises.append(noise_with_peers(run))
        first = next(iter(run.rounds.values())).with_peers
    known = [noise for noise in noises if noise is not None]
    least = weakest(known) if len(known) == len(noises) else None
    charge, before = _charge(population, terms, least), _others(population, terms.name)
    # Its first round fixes which rule admits a first run: a later cohort must not choose another
    by_filter = promised.holds([*before, _charge(population, terms, first)])
    admits = promised.holds([*before, charge]) if by_filter else promised.admits(before, charge)
    if not admits:
        raise _denial(population, terms, promised, [*before, charge])


def _bound(population: PopulationAccount, policy: BudgetConfig) -> Budget | None:
    """Return the tighter of the declared and the policy's budget, at the declared order."""
    declared, asked = population.budget_with_peers, policy.epsilon_with_peers
    if declared is None:
        if asked is not None:
            raise _undeclared(population)
        return None
    return replace(
        declared,
        epsilon=declared.epsilon if asked is None else min(declared.epsilon, asked),
        delta=min(declared.delta, policy.delta),
    )


def _others(population: PopulationAccount, but: str) -> list[Charge]:
    runs = (run for name, run in population.runs.items() if name != but)
    return [charge_with_peers(population, run) for run in runs]


def _charge(population: PopulationAccount, terms: RunTerms, noise: PeerNoise | None) -> Charge:
    """Return the charge of a whole run whose records have this noise; None for its own alone."""
    sigma = terms.noise_multiplier if noise is None else noise.noise_multiplier
    return population.charge(replace(terms, noise_multiplier=sigma))


def _denial(
    population: PopulationAccount, terms: RunTerms, promised: Budget, charges: Iterable[Charge]
) -> DeniedError:
    after = promised.spent(list(charges))
    return DeniedError(
        f"Population {population.name} promises epsilon {promised.epsilon:g} at delta"
        f" {promised.delta:g} against coordinators that see sums alone; with job {terms.job} it"
        f" would be {after:.4g}. Ask for a smaller epsilon, fewer rounds or a larger cohort.",
        code=Refusal.BUDGET_WITH_PEERS,
        figures={"asked": after, "allowed": promised.epsilon},
    )


__all__ = [
    "charge_with_peers",
    "check_promise",
    "check_scores",
    "committed_with_peers",
    "new_promise",
    "noise_with_peers",
]
