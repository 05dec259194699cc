"""What has to hold before a ledger lets a run begin or go on, or a coordinator be believed."""

import logging
from dataclasses import asdict

from confide.client.ledger.event_log import EventLog
from confide.client.ledger.runs import RunTerms
from confide.client.ledger.state import PopulationAccount
from confide.client.ledger.with_peers import check_scores
from confide.config.privacy import BudgetConfig
from confide.errors import ProtocolError
from confide.privacy.budget import Budget
from confide.security.ledger_heads import Head

log = logging.getLogger(__name__)


def may_know(log: EventLog, head: Head, federation: str) -> bool:
    """Say whether a head is of an event that a federation's coordinator may have been told of.

    By its hash alone: whoever may try numbers would learn how many events there are. Nor of another
    federation: two coordinators could find out that they share people.
    """
    number = log.number_of(head.digest)
    if number is None:
        return False
    return log.events[number - 1].content.get("federation", "") in ("", federation)


def check_run(population: PopulationAccount, terms: RunTerms, policy: BudgetConfig) -> None:
    """Check that a new run is affordable, and that a known one has the same terms.

    Args:
        population: account of the population.
        terms: terms of the run.
        policy: budget that the policy allows.
    """
    known = population.runs.get(terms.name)
    if known is None:
        # The tighter of the declared and the policy's budget, at the declared order.
        declared, epsilon = population.budget, policy.epsilon
        bound = Budget(
            epsilon=min(declared.epsilon, epsilon if epsilon is not None else declared.epsilon),
            delta=min(declared.delta, policy.delta),
            order=declared.order,
        )
        population.check_affordable(terms, bound)
        check_scores(population, terms, policy)
        return
    then, today = asdict(known.terms), asdict(terms)
    changed = [name for name in then if then[name] != today[name]]
    if changed:
        changes = ", ".join(f"{name}={then[name]} then, {today[name]} now" for name in changed)
        raise ProtocolError(
            f"Job {terms.job} continues with other terms than it began with: {changes}. If it"
            " is another federation's, have its coordinator name the job otherwise.",
            code="plan_changed",
        )


def warn_of_new(population: PopulationAccount, new: int, *, of: int, elsewhere: int) -> None:
    """Say that units are new to a population that was charged before, or belong to another too."""
    if population.runs:
        log.warning(
            "%d of %d units are new to population %s; it was charged before.",
            new,
            of,
            population.name,
        )
    if elsewhere:
        log.warning(
            "%d units of population %s belong to another one too: they carry both.",
            elsewhere,
            population.name,
        )


__all__ = ["check_run", "may_know", "warn_of_new"]
