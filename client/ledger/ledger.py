"""The seam between an institution and its record of privacy spending, and the rules of that record.

Protected: every unit of a declared population, in the budget's unit, over all runs. The account is
kept by the population's name and not by records: every member carries every event, no matter which
members were trained on; adding, editing, reordering or exporting records refunds nothing. Trusted:
the institution's own machine and operator. Public: everything in the ledger except unit ids, which
are stored as keyed hashes, and the keys of rounds that are under way.

A run's schedule is charged whole, spare rounds included, in the transaction of its first round's
reservation. A round is reserved before its first private step, with a fresh key from the operating
system, from which its noise and masks derive. The same request (job, round, plan, tensors) replays
the same mechanism and costs nothing more; a different one is a new reservation. The reply is
durable before its settlement, which wipes the key, and the settlement before the reply is sent. So
a crash at any instant can only over-count.

Noisy scores of validation and test records are counted by the same run: what is released is an
event, written before it leaves, and the same question is answered from it.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from confide.client.ledger.runs import RunTerms
from confide.errors import DeniedError
from confide.privacy.peers import PeerNoise, weakest
from confide.protocol.messages import Reply
from confide.protocol.refusals import Refusal
from confide.protocol.tensors import Tensors

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """A round that was counted and may be computed.

    Attributes:
        rounds: number of rounds of this run counted so far, this one included.
        key: 32 bytes that the round's noise and masks derive from.
        is_replay: whether the round was reserved before, so that the same mechanism is repeated.
    """

    rounds: int
    key: bytes
    is_replay: bool


# A request is repeated right after it failed, if at all: a few digests are enough to recognise it
_RECENT = 4


@dataclass(frozen=True)
class RoundsSpent:
    """Mechanisms that a job has computed from an institution's training records.

    Attributes:
        count: number of mechanisms carried out; what the job has spent follows from it.
        recent: identifiers of the last few, where nothing outlives the process. The same request
            has the same identifier and may be replayed at no cost; one that is no longer among
            these is counted again, since a count may only be too high.
        scores: split and identifier of every release of scores, where nothing outlives the process.
        with_peers: noise that stands for that of a record in each of the job's sums; None where no
            other's noise counts.
    """

    count: int = 0
    recent: tuple[str, ...] = ()
    scores: tuple[tuple[str, str], ...] = ()
    with_peers: PeerNoise | None = None

    @property
    def releases(self) -> dict[str, int]:
        """Split -> number of releases of its scores."""
        return dict(Counter(split for split, _ in self.scores))

    def plus(self, mechanism: str, with_peers: PeerNoise | None = None) -> "RoundsSpent":
        """Count a mechanism, unless it is one of the recent ones.

        Args:
            mechanism: its identifier.
            with_peers: noise of a record in the sum that it goes into; None where nobody says.
        """
        if mechanism in self.recent:
            return self
        recent = (*self.recent, mechanism)[-_RECENT:]
        noise = weakest(one for one in (self.with_peers, with_peers) if one is not None)
        return RoundsSpent(self.count + 1, recent, self.scores, noise)


class Ledger(Protocol):
    """An institution's record of its privacy spending."""

    def head(self, run: str, plan: str) -> str:
        """Return the hash of a run's newest event and its signature, as a reply tells it.

        It changes only by what the run's own coordinator asks for: the newest event of all would
        tell one of new records, of other coordinators and of people's decisions.

        Args:
            run: name of the run.
            plan: SHA-256 of its plan.

        Returns:
            Empty before the run began under this plan, or if nothing outlives the process.
        """

    def check_head(self, echoed: str) -> None:
        """Check that the head a coordinator saw last is known here.

        A countersignature is kept.

        Raises:
            LedgerError: if it is not, as in an older copy or another machine's ledger.
        """

    def admit(self, terms: RunTerms) -> None:
        """Check that a run may begin, or has begun; nothing is written.

        Raises:
            DeniedError: if the budget does not cover it, with the figures.
        """

    def admit_round(self, terms: RunTerms, with_peers: PeerNoise | None) -> None:
        """Check that a budget against coordinators that see sums covers a run with one more round.

        Args:
            terms: terms of the run.
            with_peers: noise of a record in the round's sum; None where no other's noise counts.

        Raises:
            DeniedError: if it does not, with the figures.
        """

    @property
    def keeps_account(self) -> bool:
        """Whether the ledger outlives the process.

        If so, nothing is computed from training records without being counted in it.
        """

    def digest(self, mechanism: str, records: Callable[[], str] | None = None) -> str:
        """Return the identifier of a mechanism.

        Args:
            mechanism: identifier of plan, round, tensors and kept state.
            records: function that hashes the records that it is asked of, if other records make it
                another one; not called if they cannot change.
        """

    def answered(self, run: str, digest: str) -> Reply | None:
        """Return the durable reply to a request that was answered before; None if there is none."""

    def reserve(
        self,
        terms: RunTerms,
        server_round: int,
        digest: str,
        *,
        key: bytes | None,
        with_peers: PeerNoise | None = None,
    ) -> Reservation:
        """Count a round, durably, before its first private step.

        Args:
            terms: terms of the run, whose schedule is charged with its first round.
            server_round: number of the coordinator's round.
            digest: identifier of the request.
            key: key that the round's randomness derives from; None for a fresh one.
            with_peers: noise of a record in the round's sum; None where no other's noise counts.

        Raises:
            DeniedError: if the budget or the schedule does not cover it, or it was answered and the
                reply is no longer kept.
            LedgerError: if it cannot be written.
        """

    def settle(self, run: str, digest: str, reply: Reply, update: Tensors) -> None:
        """Make a reply durable, then its settlement, and wipe the key.

        Raises:
            StorageError: if it cannot be written; the reservation stands.
            DeniedError: if another process settled it in the meantime; its reply is the valid one.
        """

    def abandon(self, run: str, digest: str) -> None:
        """Settle a round whose update may not leave: wipe its key and never compute it again."""

    def scored(self, terms: RunTerms, split: str, digest: str) -> Mapping[str, object] | None:
        """Return what was released of a split's scores before; None if it may be released now.

        Args:
            terms: terms of the run.
            split: validation or test.
            digest: identifier of tensors, records and plan.

        Raises:
            DeniedError: if the budget does not cover the run, or it has had all its releases.
        """

    def score(
        self, terms: RunTerms, split: str, digest: str, told: Mapping[str, object]
    ) -> Mapping[str, object]:
        """Count a release of scores, durably, before it leaves; a new run is charged whole.

        Args:
            terms: terms of the run.
            split: validation or test.
            digest: identifier of tensors, records and plan.
            told: what is to leave, with noise, as plain JSON.

        Returns:
            What may leave: ``told``, or what another process released of the same.

        Raises:
            DeniedError: as :meth:`scored`.
            LedgerError: if it cannot be written.
        """

    def releases(self, run: str) -> Mapping[str, int]:
        """Return split -> number of releases of its scores so far."""

    def is_approved(self, job: str, plan_sha256: str) -> bool:
        """Say whether the institution's people approved a plan."""

    def spent(self, run: str) -> RoundsSpent:
        """Return what a run has computed."""

    def restore_spent(self, run: str, spent: RoundsSpent) -> None:
        """Set what a run has computed, as counted by another process of the same simulation.

        Only for a ledger that does not outlive its process.
        """


def already_answered(run: str) -> DeniedError:
    """Return the refusal of a request that was answered before and whose reply is not kept."""
    return DeniedError(
        f"Run {run}: this was answered before, and the reply is not kept any more.",
        code=Refusal.ALREADY_ANSWERED,
    )


def rounds_spent(*, asked: int, allowed: int) -> DeniedError:
    """Return the refusal of a round beyond a run's schedule."""
    return DeniedError(
        f"Round {asked} of {allowed} that the noise was calibrated for, spare ones included.",
        code=Refusal.ROUNDS_SPENT,
        figures={"asked": asked, "allowed": allowed},
    )


def scores_spent(terms: RunTerms, split: str, released: int) -> DeniedError | None:
    """Return the refusal of one more release of a split's scores; None if there is one left."""
    allowed = terms.score_releases.get(split, 0)
    if released < allowed:
        return None
    return DeniedError(
        f"Job {terms.job} declared {allowed} releases of {split} scores and has had {released}.",
        code=Refusal.SCORES_SPENT,
        figures={"asked": released + 1.0, "allowed": float(allowed)},
    )


__all__ = [
    "Ledger",
    "Reservation",
    "RoundsSpent",
    "already_answered",
    "rounds_spent",
    "scores_spent",
]
