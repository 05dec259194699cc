"""An institution's seat in a job's masked sums: it masks a vector, and helps to open a sum once.

Protected: the institution's vector, against the coordinator and up to c colluding institutions.
They learn the sum over the survivors, who they are, and what adverts state. Trusted: the
institution's own machine, the authority's certificates (or those that ``peers`` pins), and that
the other institutions of the cohort, but c, follow the protocol. What voids it: fewer honest
survivors than two; a run key that is known; another protocol than this one being fed the same
update. It was reviewed by no cryptographer.

All that is sent is a function of (run key, context, values): a question that is asked again, after
SIGKILL too, is answered with the same bytes.
"""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from confide.client.ledger.ledger import rounds_spent
from confide.client.secure_sums.agreement import unproved_after
from confide.client.secure_sums.memory import (
    MaskedBefore,
    SumMemory,
    check_opens_once,
    mask_once,
)
from confide.client.secure_sums.peers import Peers, counted
from confide.client.secure_sums.sum_rules import SumRules
from confide.errors import ProtocolError
from confide.privacy.randomness import derive_key
from confide.protocol.masked_sums import OpenedBefore
from confide.protocol.refusals import Refusal
from confide.protocol.words import Words, dtype_of
from confide.secure_aggregation.adverts import Advert, Identity, advertise
from confide.secure_aggregation.context import SumContext
from confide.secure_aggregation.masks import add_mask, remove_mask
from confide.secure_aggregation.secrets import (
    answered_shares,
    commitments_of,
    seal,
    secrets_of,
    unseal,
)
from confide.secure_aggregation.survivors import key_to_text, sign_survivors


@dataclass(frozen=True, kw_only=True)
class Masked:
    """What an institution puts into a sum.

    Attributes:
        vector: uint64 or uint32, shape [d]: uniform to whoever lacks its secrets.
        boxes: name of the receiver -> its sealed shares.
        commitments: of the institution's secrets.
    """

    vector: Words
    boxes: Mapping[str, bytes]
    commitments: bytes


@dataclass(frozen=True, kw_only=True)
class Opened:
    """What an institution helps to open a sum with.

    Attributes:
        shares: survivor -> shares, of ``SHARE_BYTES`` each.
        signature: over the context and the survivors, by the trainer's key.
    """

    shares: Mapping[str, bytes]
    signature: bytes


class Seat:
    """One institution's seat in one job.

    Args:
        identity: who signs for it.
        job: name of the job.
        authority: certificate of the federation's authority.
        rules: the institution's own.
        run_key: X25519 key of this job alone; kept until the job is over.
        memory: of its sums, durable before anything leaves.
    """

    def __init__(
        self,
        identity: Identity,
        job: str,
        *,
        authority: x509.Certificate,
        rules: SumRules,
        run_key: X25519PrivateKey,
        memory: SumMemory,
    ) -> None:
        self._identity, self._job, self._memory = identity, job, memory
        self._peers = Peers(identity, job, authority=authority, rules=rules, run_key=run_key)
        self._rules, self._run_key = rules, run_key
        self._secret = run_key.private_bytes_raw()
        self._checked: _Checked | None = None

    @property
    def advert(self) -> Advert:
        """This institution's key of the job, as it was signed last.

        Raises:
            ProtocolError: if it did not enrol.
        """
        return self._peers.own

    def advertise(
        self, *, num_examples: int, noise_multiplier: float = 0.0, sampling_rate: float = 1.0
    ) -> Advert:
        """Sign this institution's key of the job.

        Args:
            num_examples: declared number of training records.
            noise_multiplier: sigma of a step; 0 without privacy.
            sampling_rate: q of a step.
        """
        advert = advertise(
            self._identity,
            self._job,
            self._run_key,
            num_examples=num_examples,
            noise_multiplier=noise_multiplier,
            sampling_rate=sampling_rate,
        )
        self._peers.enrol(advert)
        return advert

    def check(self, context: SumContext, before: Sequence[OpenedBefore] = ()) -> None:
        """Hold a cohort against certificates and rules, before anything is computed for it.

        Args:
            context: of the sum; its question names the survivors of ``before``.
            before: sums of the job that were opened before, as the coordinator shows them.

        Raises:
            ProtocolError: if a key is none that an institution of the federation signed for this
                job, or ``before`` does not show that all were told the same survivors.
            DeniedError: if the institution's rules do not allow the cohort.
        """
        self._peers.of(context)
        # What was masked once was checked then, and is answered with the same bytes
        if self._memory.get(context.digest) is None:
            known = list(self._memory.all())
            unproved = unproved_after(known, before, own=self._peers.name)
            self._checked = _Checked(digest=context.digest, known=known, unproved=unproved)

    def check_share(self, context: SumContext, *, honest: int, rounds: int) -> None:
        """Check that what a share of a sum's noise is to promise can hold.

        Args:
            context: of the sum.
            honest: h, institutions that the noise is split over.
            rounds: sums of the job that updates may go into, planned and spare ones.

        Raises:
            DeniedError: if fewer of the sum may be honest, or the rounds are spent: each sum is
                another release, whatever a coordinator calls it.
        """
        self._rules.check_honest(context, counted(self._peers.of(context)), honest)
        others = [digest for digest, other in self._memory.all() if not other.is_of_scores]
        asked = len({*others, context.digest})
        if asked > rounds:
            raise rounds_spent(asked=asked, allowed=rounds)

    def noise_secret(self, context: SumContext) -> bytes:
        """Return what the institution's noise on a sum derives from: after a restart the same."""
        return derive_key(self._secret, "noise", context.digest.hex())

    def has_scored(self, scores: str, *, but: SumContext) -> bool:
        """Tell whether the same scores went into another sum, whose difference would tell them.

        Args:
            scores: SHA-256 of one split's.
            but: the sum that they are for.
        """
        return any(
            scores in other.scores and digest != but.digest for digest, other in self._memory.all()
        )

    def mask(
        self,
        context: SumContext,
        values: NDArray[numpy.int64],
        update: str,
        *,
        scores: Sequence[str] = (),
    ) -> Masked:
        """Mask a vector.

        Args:
            context: of the sum, which :meth:`check` let pass since the last sum was opened.
            values: int64, shape [d]: weighted and scaled, as a plain sum would take them. In words
                of 32 bits below 2^31 in absolute value; that their sum is too is the caller's part.
            update: SHA-256 of the update before it was weighted and scaled, which a coordinator has
                a say in.
            scores: SHA-256 of each split's scores in this sum.

        Raises:
            ConfideError: as :meth:`check`; or if these values went into another sum, or others
                into this one, or do not fit its words.
        """
        unproved = self._unproved(context)
        peers = self._peers.of(context)
        vector = _words(values, context)
        masked = MaskedBefore(
            update=update,
            values=self._digest_of(values),
            scores=tuple(scores),
            threshold=context.threshold,
            signers={other: key_to_text(peer.key) for other, peer in peers.items()},
            unproved=unproved,
        )
        mask_once(self._memory, context.digest, masked)
        name = self._peers.name
        shared = {other: peers[other].secret for other in context.others(name)}
        secrets = secrets_of(context, name, self._secret, shared)
        add_mask(vector, secrets.own)
        for other, pair in secrets.pairs.items():
            (add_mask if name < other else remove_mask)(vector, pair)
        return Masked(
            vector=vector,
            boxes=seal(context, name, secrets, self._secret, shared),
            commitments=commitments_of(context, name, secrets),
        )

    def _digest_of(self, values: NDArray[numpy.int64]) -> str:
        # Keyed: scores alone are few enough to try all, and a ledger's exports show what is kept
        key = derive_key(self._secret, "values")
        return hmac.digest(key, values.astype("<i8").tobytes(), "sha256").hex()

    def _unproved(self, context: SumContext) -> tuple[bytes, ...]:
        known, checked = list(self._memory.all()), self._checked
        # A sum that was opened since would go unproved
        if checked is None or (checked.digest, checked.known) != (context.digest, known):
            self.check(context)
            checked = self._checked
        return checked.unproved if checked is not None else ()

    def unmask(
        self, context: SumContext, survivors: Sequence[str], boxes: Mapping[str, bytes]
    ) -> Opened:
        """Help to open a sum, once and for one set of survivors, before the next one is masked.

        Told are, for each survivor, a share of its own secret and shares of its pairs with those
        who are gone: of nobody both.

        Args:
            context: of the sum.
            survivors: names of those whose vectors are in it.
            boxes: survivor -> what it sealed for this institution.

        Raises:
            ProtocolError: if the sum is not known here, was opened for others, is not the last one,
                or a box is none.
            DeniedError: if the survivors are fewer than the institution's rules allow.
        """
        peers = self._peers.of(context, opens=True)
        name, alive = self._peers.name, sorted(set(survivors))
        before = self._memory.get(context.digest)
        if before is None:
            raise ProtocolError(
                "This institution has put nothing into that sum.", code=Refusal.SUM_UNKNOWN
            )
        if name not in alive or not set(alive) <= set(context.names) or set(boxes) != set(alive):
            raise ProtocolError(
                f"Expected survivors of the cohort, {name} among them, with a box of each.",
                code=Refusal.SUM_SURVIVORS,
            )
        there = counted({survivor: peers[survivor] for survivor in alive})
        self._rules.check_survivors(context, there, len(alive))
        check_opens_once(self._memory, context.digest, alive)
        gone = context.gone(alive)
        told = {
            survivor: answered_shares(
                context,
                survivor,
                unseal(context, survivor, name, peers[survivor].secret, boxes[survivor]),
                gone,
            )
            for survivor in alive
        }
        # Before a share leaves: both kinds of share of one institution would open its vector.
        if not before.survivors:
            self._memory.open(context.digest, alive)
        return Opened(
            shares=told, signature=sign_survivors(self._identity.key, context.digest, alive)
        )


@dataclass(frozen=True, kw_only=True)
class _Checked:
    """A sum that was let pass, and what was known of the others then."""

    digest: bytes
    known: Sequence[tuple[bytes, MaskedBefore]]
    unproved: tuple[bytes, ...]


def _words(values: NDArray[numpy.int64], context: SumContext) -> Words:
    """Write values modulo 2^bits, in memory of their own."""
    if values.shape != (context.length,):
        raise ProtocolError(
            f"Expected {context.length} values, got {values.size}.", code=Refusal.SUM_COHORT
        )
    most = 2 ** (context.bits - 1) - 1
    if len(values) and max(int(values.max()), -int(values.min())) > most:
        raise ProtocolError(
            f"Expected values of less than {context.bits} bits.", code=Refusal.TENSOR_VALUES
        )
    words: Words = values.astype(dtype_of(context.bits))
    return words


__all__ = ["Masked", "Opened", "Seat", "SumRules"]
