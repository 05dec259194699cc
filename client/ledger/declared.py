"""A population in a ledger's file: as it is declared there, or in a new one as it would be."""

from dataclasses import asdict

from confide.client.ledger.conditions import check_run
from confide.client.ledger.file import LedgerFile, Writing, check_unit, new_budget
from confide.client.ledger.runs import RunAccount, RunTerms
from confide.client.ledger.state import LedgerState, PopulationAccount
from confide.client.ledger.with_peers import new_promise
from confide.config.privacy import BudgetConfig
from confide.errors import DeniedError


class DeclaredPopulation:
    """One population's entry in a ledger.

    Args:
        file: opened file.
        name: of the population.
        budget: budget that the policy allows; declared in the ledger if that is new.

    Raises:
        DeniedError: if the file holds other populations but not this one, or declares another unit.
    """

    def __init__(self, file: LedgerFile, name: str, budget: BudgetConfig) -> None:
        self._file, self._name, self._budget = file, name, budget
        self._known(file.state)

    @property
    def account(self) -> PopulationAccount:
        """What is declared, or in a new ledger what would be."""
        declared = self._known(self._file.read_again())
        budget = new_budget(self._name, self._budget)  # whatever is declared, a policy sets one
        return declared or PopulationAccount(
            name=self._name,
            unit=self._budget.unit,
            budget=budget,
            budget_with_peers=new_promise(self._budget, None),
        )

    def written(self, writing: Writing) -> PopulationAccount:
        """Return the account in a transaction, declared by it if the ledger is new."""
        return self._known(writing.state) or writing.declare(self._name, self._budget)

    def begun_run(self, writing: Writing, terms: RunTerms) -> RunAccount:
        """Return a run's account in a transaction; a new run is charged whole."""
        population = self.written(writing)
        check_run(population, terms, self._budget)
        if terms.name not in population.runs:
            writing.append("run", {"population": self._name, **asdict(terms)})
        return population.runs[terms.name]

    def _known(self, state: LedgerState) -> PopulationAccount | None:
        """Return what is declared; None if it has yet to be.

        Raises:
            DeniedError: if only other populations are declared, or the unit differs.
        """
        declared = state.populations.get(self._name)
        if declared is None and state.populations:
            others = ", ".join(sorted(state.populations))
            raise DeniedError(
                f"Population {self._name} is not declared in {self._file.path}, which holds"
                f" {others}. If these are other people, declare them: confide ledger budget"
                f" {self._file.path} --declare {self._name} --epsilon E",
                code="undeclared_population",
            )
        if declared is not None:
            check_unit(declared, self._budget)
            if declared.unit != self._budget.unit:
                return None  # nothing was charged yet, so that it may be declared again
        return declared


__all__ = ["DeclaredPopulation"]
