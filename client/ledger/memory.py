"""The ledger of a simulation on public records: a count of rounds.

It is lost with the process unless a checkpoint keeps it.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace

from confide.client.ledger.ledger import Reservation, RoundsSpent, rounds_spent, scores_spent
from confide.client.ledger.runs import RunTerms
from confide.privacy.peers import PeerNoise
from confide.privacy.randomness import KEY_BYTES
from confide.protocol.messages import Reply
from confide.protocol.tensors import Tensors


class MemoryLedger:
    """A :class:`~confide.client.ledger.ledger.Ledger` that counts rounds, without a lifetime."""

    keeps_account = False

    def __init__(self) -> None:
        self._spent: dict[str, RoundsSpent] = {}
        self._keys: dict[str, bytes] = {}
        self._released: dict[tuple[str, str, str], Mapping[str, object]] = {}

    def head(self, run: str, plan: str) -> str:
        """Return nothing: there are no events."""
        return ""

    def spent(self, run: str) -> RoundsSpent:
        """Return what a run has computed."""
        return self._spent.get(run, RoundsSpent())

    def restore_spent(self, run: str, spent: RoundsSpent) -> None:
        """Replace what a run has computed by another process's count."""
        self._spent[run] = spent

    def check_head(self, echoed: str) -> None:
        """Accept any head: this ledger has none."""

    def admit(self, terms: RunTerms) -> None:
        """Let every run begin."""

    def digest(self, mechanism: str, records: Callable[[], str] | None = None) -> str:
        """Return the mechanism's identifier alone."""
        # Records cannot change while this process lives, so that they need no hash
        return mechanism

    def answered(self, run: str, digest: str) -> Reply | None:
        """Return None: no reply is kept, and the same request is computed again."""
        return None

    def admit_round(self, terms: RunTerms, with_peers: PeerNoise | None) -> None:
        """Let every round be."""

    def reserve(
        self,
        terms: RunTerms,
        server_round: int,
        digest: str,
        *,
        key: bytes | None,
        with_peers: PeerNoise | None = None,
    ) -> Reservation:
        """Count a round, unless it replays a recent one."""
        before = self.spent(terms.name)
        after = before.plus(digest, with_peers)
        if after.count > terms.max_rounds:
            raise rounds_spent(asked=after.count, allowed=terms.max_rounds)
        self._spent[terms.name] = after
        fresh = key or self._keys.setdefault(digest, os.urandom(KEY_BYTES))
        return Reservation(rounds=after.count, key=fresh, is_replay=after == before)

    def settle(self, run: str, digest: str, reply: Reply, update: Tensors) -> None:
        """Do nothing: replies are not kept."""

    def abandon(self, run: str, digest: str) -> None:
        """Do nothing: the round stays counted."""

    def scored(self, terms: RunTerms, split: str, digest: str) -> Mapping[str, object] | None:
        """Return what was released of a split's scores before; None if it may be released now.

        What another process of the same simulation released is computed again, with equal noise.
        """
        self._scored(terms, split, digest)
        return self._released.get((terms.name, split, digest))

    def score(
        self, terms: RunTerms, split: str, digest: str, told: Mapping[str, object]
    ) -> Mapping[str, object]:
        """Count a release of scores, unless it repeats an earlier one."""
        self._spent[terms.name] = self._scored(terms, split, digest)
        return self._released.setdefault((terms.name, split, digest), told)

    def releases(self, run: str) -> Mapping[str, int]:
        """Return split -> number of releases of its scores so far."""
        return self.spent(run).releases

    def _scored(self, terms: RunTerms, split: str, digest: str) -> RoundsSpent:
        """Return what a run has spent with one more release of scores."""
        before = self.spent(terms.name)
        if (split, digest) in before.scores:
            return before
        spent = scores_spent(terms, split, before.releases.get(split, 0))
        if spent is not None:
            raise spent
        return replace(before, scores=(*before.scores, (split, digest)))

    def is_approved(self, job: str, plan_sha256: str) -> bool:
        """Return False: nobody approves plans in a simulation."""
        return False


__all__ = ["MemoryLedger"]
