"""What a simulation's summary says of each institution."""

from confide.client.secure_sums.sum_rules import SumRules
from confide.protocol.plan import TrainingPlan
from confide.server.rounds.outcome import Outcome
from confide.server.run.summary import InstitutionResult
from confide.simulations.accounts.spent import epsilon_unheard
from confide.simulations.accounts.with_peers import told_with_peers
from confide.simulations.baselines.baselines import Alone
from confide.simulations.federation import Federation
from confide.simulations.populations.on_demand import RecordsOnDemand
from confide.tasks.outcomes.build import outcome_of


def lines(
    federation: Federation,
    plan: TrainingPlan,
    outcome: Outcome,
    baselines: Alone,
    *,
    rules: SumRules | None = None,
) -> dict[str, InstitutionResult]:
    """Return each institution's line of the summary; on demand, of those who were ever asked.

    Args:
        federation: the institutions.
        plan: what they were asked to do.
        outcome: how the run ended.
        baselines: of each institution that trained alone.
        rules: each one's of masked sums, where these are added up in the open; None otherwise.
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
    told, with_peers = outcome_of(plan.task), dict[str, dict[str, float]]()
    if rules is not None and plan.sums is not None:
        spent = federation.engine.spent(plan.job)
        with_peers = told_with_peers(plan, outcome, spent, rules)
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
            with_peers=with_peers.get(name, {}),
        )
    return found


__all__ = ["lines"]
