"""A ledger's file, opened: its events, the state that follows from them, and its keys."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from confide.client.ledger.database import FORMAT
from confide.client.ledger.event_log import EventLog
from confide.client.ledger.heads import COUNTERSIGNED
from confide.client.ledger.keys import LedgerKeys
from confide.client.ledger.names import keys_beside
from confide.client.ledger.state import LedgerState, PopulationAccount
from confide.client.ledger.transaction import CLOCK_SLACK_S, Transaction
from confide.client.ledger.with_peers import new_promise
from confide.config.privacy import BudgetConfig
from confide.errors import DeniedError, LedgerError
from confide.privacy.budget import Budget
from confide.security.chain import CLOCK, Event
from confide.security.ec_keys import PublicKey, key_fingerprint, public_line
from confide.security.ledger_heads import Head, is_countersigned

log = logging.getLogger(__name__)


class LedgerFile:
    """One institution's ledger, with all its populations.

    Args:
        path: path of the file; keys, anchor and replies are next to it.
        anchor: file that holds the head; None for ``PATH.anchor``.
        keys: file that holds the keys; None for ``PATH.key``, or for the keys that the ledgers of
            its folder share where there is no such file.
        now_fn: clock; seconds since 1970.

    Raises:
        LedgerError: if it is damaged, older than its anchor, or of a newer release.
    """

    def __init__(
        self,
        path: Path,
        *,
        anchor: Path | None = None,
        keys: Path | None = None,
        now_fn: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self.log = EventLog(path, anchor=anchor, now_fn=now_fn)
        self.keys = LedgerKeys(keys or keys_beside(path))
        self._state = LedgerState()

    @property
    def state(self) -> LedgerState:
        """State that follows from the events read so far."""
        # A transaction that failed was applied to the state already: fold from the beginning again
        if not self.log.contains(self._state.number, self._state.hash):
            self._state = LedgerState()
        for event in self.log.events[self._state.number :]:
            self._state.apply(event)
        return self._state

    def made_keys(self) -> LedgerKeys:
        """Return the keys, made if this is a new ledger whose first event is not written."""
        if self.state.public_key is None:
            self.keys.create()
        return self.keys

    def read_again(self) -> LedgerState:
        """Read what other processes appended, and return the state after it."""
        self.log.read_again()
        return self.state

    @contextlib.contextmanager
    def transaction(self) -> Iterator["Writing"]:
        """Append events, all or none; a new ledger first records its format and public key.

        Raises:
            LedgerError: if they cannot be written, or the key is another ledger's.
        """
        with self.log.transaction() as transaction:
            writing = Writing(transaction, self.state)
            if writing.state.public_key is None:
                writing.append("ledger", {"format": FORMAT, "public_key": self.keys.create()})
            elif writing.state.public_key != self.keys.public_key:
                raise LedgerError(
                    f"{self.keys.path} is not the key of {self.path}; bring the right one back."
                )
            yield writing
            if transaction.appended:
                transaction.seal(self.keys.sign(transaction.appended[-1].hash))

    def units(self) -> list[tuple[str, bytes]]:
        """Return the population and the keyed hash of each unit that was seen."""
        return self.log.units()

    def declare(self, name: str, config: BudgetConfig, *, is_separate: bool = False) -> None:
        """Declare a population, or change the epsilon and delta of its budget.

        The budget's order and unit do not change.

        Args:
            name: name of the population.
            config: budget and unit.
            is_separate: whether members may spend this budget beside those of other populations
                that they belong to.

        Raises:
            DeniedError: if the unit differs from the declared one, there is no epsilon, or delta is
                not below 1 / n for the units that runs were charged for.
        """
        with self.transaction() as writing:
            writing.declare(name, config, is_separate=is_separate)

    def keep_countersignature(self, head: Head, key: PublicKey) -> None:
        """Keep a coordinator's countersignature of a head, once.

        Args:
            head: a head that left and is in the log, with the countersignature.
            key: public key of the coordinator; what is not by it is not kept.
        """
        # By its hash: whoever has the key could countersign one head in any number of forms
        if head.digest in self.state.countersigned:
            return
        if not is_countersigned(head.text, head.countersignature, key):
            log.warning(
                "A countersignature is not by the key %s; ask the coordinator for its heads.pub.",
                key_fingerprint(key),
            )
            return
        kept = {"head": head.text, "signature": head.countersignature}
        with self.transaction() as writing:
            writing.append(COUNTERSIGNED, {**kept, "key": public_line(key).strip()})

    def repair_clock(self, *, by: str, reason: str) -> float:
        """Let time go on from the present, after an event was written while the clock was ahead.

        Args:
            by: name of whoever repairs it.
            reason: what was wrong.

        Returns:
            By how many seconds the clock was ahead.

        Raises:
            LedgerError: if the newest event is not in the future.
        """
        with self.transaction() as writing:
            ahead = writing.transaction.seconds_ahead
            if ahead <= CLOCK_SLACK_S:
                raise LedgerError(
                    f"{self.path}: its newest event is not in the future, so that there is nothing"
                    " to repair; is this machine's clock right?"
                )
            writing.append(CLOCK, {"by": by, "reason": reason, "ahead_s": round(ahead, 3)})
        return ahead

    def approve(self, job: str, plan_sha256: str) -> None:
        """Record that the institution's people approved a plan."""
        with self.transaction() as writing:
            writing.append("approve", {"job": job, "plan": plan_sha256})


class Writing:
    """A transaction on a ledger, and the state after what it has appended so far.

    Args:
        transaction: transaction of the log.
        state: state before it; each event is applied as it is appended.
    """

    def __init__(self, transaction: Transaction, state: LedgerState) -> None:
        self.transaction = transaction
        self.state = state

    def append(self, kind: str, content: Mapping[str, object]) -> Event:
        """Append an event."""
        event = self.transaction.append(kind, content)
        self.state.apply(event)
        return event

    def declare(
        self, name: str, config: BudgetConfig, *, is_separate: bool = False
    ) -> PopulationAccount:
        """Declare a population, or change its budget.

        Args:
            name: name of the population.
            config: budget and unit.
            is_separate: whether members may spend this budget beside others'.
        """
        known = self.state.populations.get(name)
        if known is not None:
            check_unit(known, config)
            known.check_delta(config.delta)
        budget, promised = new_budget(name, config), new_promise(config, known)
        # The order stays even where the new budget would suit another one: it must not be chosen
        # after outputs were seen
        order = known.budget.order if known else budget.order
        content = {"population": name, "unit": config.unit, **asdict(budget), "order": order}
        content |= {"with_peers": asdict(promised)} if promised else {}
        self.append("budget", {**content, **({"separate": True} if is_separate else {})})
        return self.state.populations[name]


def new_budget(name: str, config: BudgetConfig) -> Budget:
    """Return the budget that a policy sets.

    Raises:
        DeniedError: if it sets none.
    """
    if config.epsilon is None:
        raise DeniedError(
            f"policy.budget.epsilon=null: population {name} needs a lifetime budget; set it.",
            code="undeclared_population",
        )
    return Budget.declare(config.epsilon, config.delta)


def check_unit(population: PopulationAccount, config: BudgetConfig) -> None:
    """Check that a budget's unit is the declared one.

    Raises:
        DeniedError: if it differs and something was charged already.
    """
    if population.runs and population.unit != config.unit:
        raise DeniedError(
            f"policy.budget.unit={config.unit}, but population {population.name} was declared with"
            f" unit={population.unit}; once it was charged, a budget's unit never changes.",
            code="budget_unit",
        )


__all__ = [
    "LedgerFile",
    "Writing",
    "check_unit",
    "new_budget",
]
