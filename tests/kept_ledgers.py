"""What the ledger of a deployed institution has to say after a run whose processes were killed."""

from deployment_run import Deployment

from confide.client.commands.ledger import main as ledger_command
from confide.client.deployment.kit import InstitutionKit, load_kit
from confide.client.deployment.kit_ledger import open_ledger
from confide.client.ledger.persistent import PersistentLedger
from confide.client.ledger.runs import run_name
from confide.privacy.accounting import epsilon


def kit_of(deployment: Deployment, name: str) -> InstitutionKit:
    return load_kit(deployment.kit(name), [*deployment.client_overrides, "data.path=unused"])


def check_ledger(deployment: Deployment, name: str, *, rounds: int) -> tuple[float, float]:
    """A ledger is whole, holds one reservation a question, and says no less than what was drawn.

    Returns:
        The epsilon that the ledger says was spent, and that of all rounds of the plan.
    """
    kit = kit_of(deployment, name)
    assert ledger_command(["verify", str(kit.ledger)]) == 0
    ledger = open_ledger(kit)
    assert isinstance(ledger, PersistentLedger)
    run = ledger.population.runs[run_name(name, deployment.job)]
    assert sorted(r.server_round for r in run.rounds.values()) == list(range(1, rounds + 1))
    assert all(r.is_settled for r in run.rounds.values())
    drawn = epsilon(run.terms.schedule(rounds), delta=kit.config.policy.budget.delta)
    assert ledger.population.spent >= drawn
    assert ledger.population.committed >= ledger.population.spent
    return ledger.population.spent, drawn
