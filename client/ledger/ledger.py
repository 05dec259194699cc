"""What an institution remembers of its spending.

The seam, and the ledger that outlives the process.

Protected: every unit of a declared population, in the budget's unit, over all runs. It is keyed by
the population's name and not by records: everybody in it carries every event, whoever trained;
adding, editing, reordering or exporting records refunds nothing. Who is trusted: the institution's
own machine and operator. What is public: everything in the ledger but unit ids, which stand in it
as keyed hashes, and the keys of rounds that are under way.

A run's schedule is charged whole, spare rounds included, in the transaction of its first round's
reservation. A round is reserved before its first private step, with a fresh key from the operating
system, from which its noise and masks derive. The same question (job, round, plan, tensors) replays
the same mechanism and costs nothing more; another one is a new reservation. The reply is durable
before its settlement, which wipes the key, and the settlement before the reply is sent. So a crash
at any instant can only over-count.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from confide.client.ledger.state import RunTerms
from confide.errors import DeniedError
from confide.protocol.messages import Reply
from confide.protocol.refusals import Refusal
from confide.protocol.tensors import Tensors

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """A round that was counted and may be computed.

    Attributes:
        rounds: of this run that are counted by now.
        key: 32 bytes that the round's noise and masks derive from.
        is_replay: whether it was reserved before, so that the same mechanism is computed again.
    """

    rounds: int
    key: bytes
    is_replay: bool


_RECENT = 4


@dataclass(frozen=True)
class RoundsSpent:
    """What a job has computed from an institution's training records.

    Attributes:
        count: mechanisms carried out; what the job has spent follows from it.
        recent: names of the last few, where nothing outlives the process. The same request names
            the same mechanism, which may be replayed at no cost; one that is no longer among these
            counts anew: a count may only be too high.
    """

    count: int = 0
    recent: tuple[str, ...] = ()

    def plus(self, mechanism: str) -> "RoundsSpent":
        """Count a mechanism, unless it is one of the recent ones."""
        if mechanism in self.recent:
            return self
        return RoundsSpent(self.count + 1, (*self.recent, mechanism)[-_RECENT:])


class Ledger(Protocol):
    """The seam between an institution and its memory."""

    @property
    def head(self) -> str:
        """Number and hash of the newest event, as ``NUMBER:HASH``.

        Empty where nothing outlives the process.
        """

    def check_head(self, echoed: str) -> None:
        """Check that the head a coordinator saw last is known here.

        Raises:
            LedgerError: if not: this is an older copy, or another machine's.
        """

    def admit(self, terms: RunTerms) -> None:
        """Check that a run may begin, or has begun; nothing is written.

        Raises:
            DeniedError: if the budget does not cover it, with the figures.
        """

    @property
    def keeps_account(self) -> bool:
        """Whether it outlives the process.

        Then nothing is computed from training records that it does not count.
        """

    def digest(self, mechanism: str, records: Callable[[], str]) -> str:
        """Name what would be computed: a mechanism on these very training records.

        Args:
            mechanism: names plan, round, tensors and kept state.
            records: hashes the training records; not called where these cannot change.
        """

    def answered(self, run: str, digest: str) -> Reply | None:
        """Return the durable reply to a question that was answered before.

        None if there is none.
        """

    def reserve(
        self, terms: RunTerms, server_round: int, digest: str, *, key: bytes | None
    ) -> Reservation:
        """Count a round, durably, before its first private step.

        Args:
            terms: of the run, whose schedule is charged with its first round.
            server_round: of the coordinator.
            digest: of the question.
            key: what its randomness derives from; None for a fresh one.

        Raises:
            DeniedError: if the budget or the schedule does not cover it, or it was answered and the
                reply is gone.
            LedgerError: if it cannot be written.
        """

    def settle(self, run: str, digest: str, reply: Reply, update: Tensors) -> None:
        """Make a reply durable, then its settlement, and wipe the key.

        Raises:
            StorageError: if it cannot be written; the reservation stands.
            DeniedError: if another process settled it meanwhile; its reply is the one that counts.
        """

    def abandon(self, run: str, digest: str) -> None:
        """Settle a round whose update may not leave.

        Its key is wiped, and it is never computed again.
        """

    def is_approved(self, job: str, plan_sha256: str) -> bool:
        """Say whether the institution's people approved a plan."""

    def spent(self, run: str) -> RoundsSpent:
        """Return what a run has computed."""

    def restore_spent(self, run: str, spent: RoundsSpent) -> None:
        """Take over what another process of the same simulation knows of a run, where nothing else outlives that process."""


def already_answered(run: str) -> DeniedError:
    """Say that a question was answered, and that the answer is not given again."""
    return DeniedError(
        f"Run {run}: this was answered before, and the reply is not kept any more.",
        code=Refusal.ALREADY_ANSWERED,
    )


def rounds_spent(*, asked: int, allowed: int) -> DeniedError:
    """Say that a run's schedule is used up."""
    return DeniedError(
        f"Round {asked} of {allowed} that the noise was calibrated for, spare ones included.",
        code=Refusal.ROUNDS_SPENT,
        figures={"asked": asked, "allowed": allowed},
    )


__all__ = ["Ledger", "Reservation", "RoundsSpent", "already_answered", "rounds_spent"]
