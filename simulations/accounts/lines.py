"""What a simulation's summary says of each institution."""

from confide.protocol.plan import TrainingPlan
from confide.server.rounds.outcome import Outcome
from confide.server.run.summary import InstitutionResult
from confide.simulations.accounts.spent import epsilon_unheard
from confide.simulations.baselines.baselines import Alone
from confide.simulations.federation import Federation
from confide.simulations.populations.on_demand import RecordsOnDemand
from confide.tasks.outcomes.build import outcome_of


def lines(
    federation: Federation, plan: TrainingPlan, outcome: Outcome, baselines: Alone
) -> dict[str, InstitutionResult]:
    """Return each institution's line of the summary; on demand, of those who were ever asked.

    Args:
        federation: the institutions.
        plan: what they were asked to do.
        outcome: how the run ended.
        baselines: of each institution that trained alone.
    """
    data, epsilon = federation.data, epsilon_unheard(federation, plan, outcome)
    if isinstance(data, RecordsOnDemand):
        return {
            name: InstitutionResult(
                num_examples=count,
                records=data.num_records(name),
                test=outcome.test.get(name, {}),
                epsilon=epsilon.get(name),
            )
            for name, count in sorted(outcome.clients.items())
        }
    told = outcome_of(plan.task)
    found = {}
    for name, one in data.items():
        pooled, own = baselines.get(name, (None, None))
        found[name] = InstitutionResult(
            # Who never enrolled has declared no number
            num_examples=outcome.clients.get(name, len(one.train)),
            records=one.num_records,
            labels=one.label_counts(told),
            test=outcome.test.get(name, {}),
            local=pooled,
            local_own=own,
            epsilon=epsilon.get(name),
        )
    return found


__all__ = ["lines"]
