"""Ledgers of simulated institutions: one file a population, in a folder that outlives the run.

Institutions of a simulation are made up: dealing the same records out under other names would give
the same people a second budget. Unit ids of all ledgers of a folder are therefore hashed with one
key, and a new population that holds units of another is refused.
"""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from confide.client.ledger.file import SHARED_KEYS, SUFFIX, LedgerFile
from confide.client.ledger.persistent import PersistentLedger
from confide.config.privacy import BudgetConfig
from confide.config.run import Config
from confide.errors import DataError
from confide.storage.files import folder_name

_DEFAULT_JOB = "simulation"


@dataclass(frozen=True, kw_only=True)
class LedgerFolder:
    """Opens ledgers; can be sent to a worker process.

    Attributes:
        folder: where they lie.
        anchors: where their anchors lie; the same folder, or another disk.
        budget: of each population.
        kept_replies: as many as rounds that the coordinator may go back.
    """

    folder: Path
    anchors: Path
    budget: BudgetConfig
    kept_replies: int

    def __call__(self, name: str) -> PersistentLedger:
        """Open an institution's ledger; its population is called like it, unless the policy names one for all."""
        population = self.budget.id or name
        return PersistentLedger(
            self._file(self._path(population)),
            population=population,
            budget=self.budget,
            kept_replies=self.kept_replies,
        )

    def know_units(self, units: Mapping[str, Iterable[str]]) -> None:
        """Remember whose units are about to be trained on.

        Args:
            units: institution -> ids of its units.

        Raises:
            DataError: if a population that is new here holds units of another one.
        """
        there = {path: self._file(path) for path in sorted(self.folder.glob(f"*{SUFFIX}"))}
        known = {mac: population for file in there.values() for population, mac in file.units()}
        for name, ids in units.items():
            path = self._path(self.budget.id or name)
            if path not in there:
                keys = self._file(path).keys
                keys.create()
                others = [known[mac] for mac in map(keys.mac, ids) if mac in known]
                if others:
                    raise DataError(_refusal(name, path, others))
        for name, ids in units.items():
            self(name).know_units(ids)

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

    def _path(self, population: str) -> Path:
        return self.folder / f"{folder_name(population)}{SUFFIX}"

    def _file(self, path: Path) -> LedgerFile:
        return LedgerFile(
            path, anchor=self.anchors / f"{path.name}.anchor", keys=self.folder / SHARED_KEYS
        )


def _refusal(name: str, path: Path, others: list[str]) -> str:
    return (
        f"Institution {name} is new to {path.parent}, and {len(others)} of its units are in"
        f" {', '.join(sorted(set(others)))} already: dealt out under another name, the same people"
        " would get a second budget. Keep names, numbers and data.partition_seed; or account for"
        " all of them as one population with policy.budget.id=NAME; or, if both may spend a budget"
        f" of their own: confide ledger budget {path} --declare {name} --epsilon E"
    )


def ledger_folder(config: Config) -> LedgerFolder | None:
    """Return where a run's ledgers lie; None for memory."""
    if config.client.ledger is None:
        return None
    folder = Path(config.client.ledger).expanduser().resolve()
    anchors = config.client.ledger_anchors
    return LedgerFolder(
        folder=folder,
        anchors=folder if anchors is None else Path(anchors).expanduser().resolve(),
        budget=config.policy.budget,
        kept_replies=config.server.checkpoints + 1,
    )


def job_name(config: Config) -> str:
    """Name a new run: a ledger that outlives it must not take it for one of the same name before."""
    if config.job is not None:
        return config.job
    return (
        _DEFAULT_JOB if config.client.ledger is None else f"{_DEFAULT_JOB}-{secrets.token_hex(4)}"
    )


__all__ = ["LedgerFolder", "job_name", "ledger_folder"]
