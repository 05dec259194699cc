"""Ledgers of simulated institutions: one file for each population, in a folder that outlives runs.

Institutions of a simulation are made up: partitioning the same records under other names would give
the same people a second budget. Unit ids of all ledgers in a folder are therefore hashed with one
key, and a new population that holds units of another one is refused.
"""

import secrets
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from confide.client.ledger.file import LedgerFile
from confide.client.ledger.folder import second_budget
from confide.client.ledger.names import SHARED_KEYS, SUFFIX
from confide.client.ledger.persistent import PersistentLedger
from confide.config.privacy import BudgetConfig
from confide.config.run import Config
from confide.config.strategies.strategy import timing_of
from confide.errors import DataError
from confide.storage.files import folder_name

_DEFAULT_JOB = "simulation"


@dataclass(frozen=True, kw_only=True)
class LedgerFolder:
    """A folder of ledgers, which opens them; it can be sent to a worker process.

    Attributes:
        folder: folder of the ledgers.
        anchors: folder of their anchors: the same folder, or one on another disk.
        budget: budget of each population.
        kept_replies: number of replies kept for each run: as many as the coordinator may go back
            rounds when it resumes from an older checkpoint.
    """

    folder: Path
    anchors: Path
    budget: BudgetConfig
    kept_replies: int

    @property
    def folders(self) -> Mapping[str, Path]:
        """The setting that names it -> each folder that is written to."""
        apart = {} if self.anchors == self.folder else {"client.ledger_anchors": self.anchors}
        return {"client.ledger": self.folder, **apart}

    def __call__(self, name: str) -> PersistentLedger:
        """Open an institution's ledger; the population has its name, unless the policy sets one."""
        population = self.budget.id or name
        return PersistentLedger(
            self._file(self._path(population)),
            population=population,
            budget=self.budget,
            kept_replies=self.kept_replies,
        )

    def know_units(self, units: Mapping[str, Iterable[str]]) -> None:
        """Store the units that are about to be trained on.

        Args:
            units: institution -> ids of its units.

        Raises:
            DataError: if a population that is new here holds units of another one.
        """
        # All are checked before any is stored: a refused run leaves the folder unchanged, but for
        # the shared key
        there = {path: self._file(path) for path in sorted(self.folder.glob(f"*{SUFFIX}"))}
        known = {mac: population for file in there.values() for population, mac in file.units()}
        for name, ids in units.items():
            path = self._path(self.budget.id or name)
            if path not in there:
                keys = self._file(path).keys
                keys.create()
                others = [known[mac] for mac in map(keys.mac, ids) if mac in known]
                if others:
                    raise DataError(
                        second_budget(f"Institution {name}", path, Counter(others))
                        + " Keep names, numbers and data.partition_seed; or account for all of them"
                        " as one population with policy.budget.id=NAME; or, if each may spend its"
                        f" own budget: confide ledger budget {path} --declare {name} --epsilon E"
                    )
        for name, ids in units.items():
            self(name).know_units(ids)

    def totals(self, names: Iterable[str]) -> Mapping[str, Mapping[str, float]]:
        """Return what each institution has committed and spent of its lifetime budget."""
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


def ledger_folder(config: Config) -> LedgerFolder | None:
    """Return the folder of a run's ledgers; None if they are in memory."""
    if config.client.ledger is None:
        return None
    folder = Path(config.client.ledger).expanduser().resolve()
    anchors = config.client.ledger_anchors
    return LedgerFolder(
        folder=folder,
        anchors=folder if anchors is None else Path(anchors).expanduser().resolve(),
        budget=config.policy.budget,
        # Of an asynchronous step one institution may give several
        kept_replies=(config.server.checkpoints + 1) * timing_of(config.strategy).answers_a_step,
    )


def job_name(config: Config) -> str:
    """Return the name of a new run."""
    if config.job is not None:
        return config.job
    # A ledger takes a run with the name of an earlier one for a continuation, and counts nothing
    # that it has counted already
    return (
        _DEFAULT_JOB if config.client.ledger is None else f"{_DEFAULT_JOB}-{secrets.token_hex(4)}"
    )


__all__ = ["LedgerFolder", "job_name", "ledger_folder"]
