"""Ledgers of simulated institutions: one file each, in a folder that outlives the run."""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from confide.client.ledger import PersistentLedger
from confide.client.ledger_cli import SUFFIX
from confide.client.state import folder_name
from confide.config import BudgetConfig, Config

_DEFAULT_JOB = "simulation"


@dataclass(frozen=True, kw_only=True)
class LedgerFolder:
    """Opens ledgers; can be sent to a worker process.

    Attributes:
        folder: where they lie.
        budget: of each institution's population.
        kept_replies: as many as rounds that the coordinator may go back.
    """

    folder: Path
    budget: BudgetConfig
    kept_replies: int

    def __call__(self, name: str) -> PersistentLedger:
        """Open an institution's ledger; its population is called like it, unless the policy names one."""
        path = self.folder / f"{folder_name(name)}{SUFFIX}"
        return PersistentLedger(path, population=self.budget.id or name, budget=self.budget, kept_replies=self.kept_replies)

    def totals(self, names: Iterable[str]) -> Mapping[str, Mapping[str, float]]:
        """Return what institutions have committed and spent of their lifetime budgets."""
        totals = {}
        for name in names:
            population = self(name).population
            totals[name] = {
                "epsilon": population.budget.epsilon,
                "delta": population.budget.delta,
                "committed": population.committed,
                "spent": population.spent,
            }
        return totals


def ledger_folder(config: Config) -> LedgerFolder | None:
    """Return where a run's ledgers lie; None for memory."""
    if config.client.ledger is None:
        return None
    return LedgerFolder(
        folder=Path(config.client.ledger).expanduser().resolve(),
        budget=config.policy.budget,
        kept_replies=config.server.checkpoints + 1,
    )


def job_name(config: Config) -> str:
    """Name a new run: a ledger that outlives it must not take it for one of the same name before."""
    if config.job is not None:
        return config.job
    return _DEFAULT_JOB if config.client.ledger is None else f"{_DEFAULT_JOB}-{secrets.token_hex(4)}"


__all__ = ["LedgerFolder", "job_name", "ledger_folder"]
