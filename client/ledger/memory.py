"""The ledger of a simulation on public records.

A count, forgotten with the process unless a checkpoint keeps it.
"""

import os
from collections.abc import Callable

from confide.client.ledger.ledger import Reservation, RoundsSpent, rounds_spent
from confide.client.ledger.state import RunTerms
from confide.privacy.randomness import KEY_BYTES
from confide.protocol.messages import Reply
from confide.protocol.tensors import Tensors


class MemoryLedger:
    """Counts rounds; a :class:`~confide.client.ledger.ledger.Ledger` without a lifetime."""

    head = ""
    keeps_account = False

    def __init__(self) -> None:
        self._spent: dict[str, RoundsSpent] = {}
        self._keys: dict[str, bytes] = {}

    def spent(self, run: str) -> RoundsSpent:
        """Return what a run has computed."""
        return self._spent.get(run, RoundsSpent())

    def restore_spent(self, run: str, spent: RoundsSpent) -> None:
        """Take over what another process of the same simulation knows of a run, in place of what is known here."""
        self._spent[run] = spent

    def check_head(self, echoed: str) -> None:
        """Nothing was echoed that this could know."""

    def admit(self, terms: RunTerms) -> None:
        """Every run may begin."""

    def digest(self, mechanism: str, records: Callable[[], str]) -> str:
        """Records cannot change while this process lives."""
        return mechanism

    def answered(self, run: str, digest: str) -> Reply | None:
        """No reply is kept: the same question is computed again."""
        return None

    def reserve(
        self, terms: RunTerms, server_round: int, digest: str, *, key: bytes | None
    ) -> Reservation:
        """Count a round."""
        before = self.spent(terms.name)
        after = before.plus(digest)
        if after.count > terms.max_rounds:
            raise rounds_spent(asked=after.count, allowed=terms.max_rounds)
        self._spent[terms.name] = after
        fresh = key or self._keys.setdefault(digest, os.urandom(KEY_BYTES))
        return Reservation(rounds=after.count, key=fresh, is_replay=after == before)

    def settle(self, run: str, digest: str, reply: Reply, update: Tensors) -> None:
        """Nothing is made durable."""

    def abandon(self, run: str, digest: str) -> None:
        """Nothing is made durable."""

    def is_approved(self, job: str, plan_sha256: str) -> bool:
        """Nobody approves in a simulation."""
        return False


__all__ = ["MemoryLedger"]
