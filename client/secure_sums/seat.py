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

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from confide.client.secure_sums.memory import MaskedBefore, SumMemory
from confide.errors import DeniedError, ProtocolError
from confide.protocol.refusals import Refusal
from confide.secure_aggregation.adverts import (
    Advert,
    Identity,
    advertise,
    shared_secret,
    verify,
)
from confide.secure_aggregation.context import SumContext, most_colluding
from confide.secure_aggregation.masks import Words, add_mask, remove_mask
from confide.secure_aggregation.secrets import (
    answered_shares,
    commitments_of,
    seal,
    secrets_of,
    unseal,
)
from confide.security.ec_keys import key_fingerprint


@dataclass(frozen=True, kw_only=True)
class SumRules:
    """The institution's own rules of masked sums (``policy.secure``).

    Attributes:
        min_cohort: fewest institutions, itself included, in a cohort and among its survivors.
        max_colluding: c, institutions that may collude with the coordinator; None: a third.
        min_survivors: fewest whose sum it helps to open; None: as many as open a secret.
        peers: fingerprints of trainers' public keys that count towards ``min_cohort``; None: all
            that the authority signed. A key outlives its certificates.
    """

    min_cohort: int = 3
    max_colluding: int | None = None
    min_survivors: int | None = None
    peers: frozenset[str] | None = None

    def check_cohort(self, context: SumContext, counted: int) -> None:
        """Check who is in a cohort, and how many of them open a secret.

        Args:
            context: of the sum.
            counted: institutions that count, this one included.

        Raises:
            DeniedError: with the figures.
        """
        count, threshold = len(context.names), context.threshold
        if counted < self.min_cohort:
            raise _denied("min_cohort", Refusal.SUM_MIN_COHORT, counted, self.min_cohort)
        colluding = most_colluding(count) if self.max_colluding is None else self.max_colluding
        if not count + colluding < 2 * threshold <= 2 * count:
            raise DeniedError(
                f"policy.secure.max_colluding={colluding}: {threshold} shares of {count} are not"
                " more than half of all and of those who collude.",
                code=Refusal.SUM_THRESHOLD,
                figures={"asked": float(threshold), "allowed": (count + colluding) // 2 + 1.0},
            )

    def check_survivors(self, context: SumContext, counted: int, survivors: int) -> None:
        """Check whose sum is to be opened.

        Args:
            context: of the sum.
            counted: survivors that count, this institution included.
            survivors: all of them.

        Raises:
            DeniedError: with the figures.
        """
        if counted < self.min_cohort:
            raise _denied("min_cohort", Refusal.SUM_MIN_COHORT, counted, self.min_cohort)
        least = max(context.threshold, self.min_survivors or 0)
        if survivors < least:
            raise _denied("min_survivors", Refusal.SUM_MIN_SURVIVORS, survivors, least)


def _denied(rule: str, code: Refusal, there: int, needed: int) -> DeniedError:
    return DeniedError(
        f"policy.secure.{rule}: there are {there}, needed at least {needed}.",
        code=code,
        figures={"asked": float(there), "allowed": float(needed)},
    )


@dataclass(frozen=True, kw_only=True)
class Masked:
    """What an institution puts into a sum.

    Attributes:
        vector: uint64, shape [d]: uniform to whoever lacks its secrets.
        boxes: name of the receiver -> its sealed shares.
        commitments: of the institution's secrets.
    """

    vector: Words
    boxes: Mapping[str, bytes]
    commitments: bytes


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
        self._identity, self._job, self._authority = identity, job, authority
        self._rules, self._run_key, self._memory = rules, run_key, memory
        self._secret = run_key.private_bytes_raw()
        # A certificate takes a millisecond, and is the same in every round.
        self._known: dict[Advert, _Peer] = {}
        self._advert: Advert | None = None

    def advertise(
        self, *, num_examples: int, noise_multiplier: float = 0.0, sampling_rate: float = 1.0
    ) -> Advert:
        """Sign this institution's key of the job.

        Args:
            num_examples: declared number of training records.
            noise_multiplier: sigma of a step; 0 without privacy.
            sampling_rate: q of a step.
        """
        self._advert = advertise(
            self._identity,
            self._job,
            self._run_key,
            num_examples=num_examples,
            noise_multiplier=noise_multiplier,
            sampling_rate=sampling_rate,
        )
        return self._advert

    def check(self, context: SumContext) -> None:
        """Hold a cohort against certificates and rules, before anything is computed for it.

        Raises:
            ProtocolError: if a key is none that an institution of the federation signed for this
                job.
            DeniedError: if the institution's rules do not allow the cohort.
        """
        self._peers(context)

    def _peers(self, context: SumContext) -> dict[str, "_Peer"]:
        name = self._own_advert().name
        if context.job != self._job:
            raise ProtocolError(f"Expected a sum of job {self._job}.", code=Refusal.SUM_COHORT)
        context.check_shape(name)
        peers = {advert.name: self._peer(advert) for advert in context.cohort}
        # Whoever has the authority's key could certify one trainer under many names
        if len({peer.signer for peer in peers.values()}) < len(peers):
            raise ProtocolError(
                "Two of the cohort sign with one key, and are one.", code=Refusal.SUM_KEYS
            )
        counted = sum(peer.counts for peer in peers.values())
        self._rules.check_cohort(context, counted)
        return peers

    def _own_advert(self) -> Advert:
        if self._advert is None:
            raise ProtocolError(
                f"Job {self._job} asks for a sum and has not enrolled here.",
                code=Refusal.SUM_UNKNOWN,
            )
        return self._advert

    def _peer(self, advert: Advert) -> "_Peer":
        if advert not in self._known:
            self._known[advert] = self._new_peer(advert)
        return self._known[advert]

    def _new_peer(self, advert: Advert) -> "_Peer":
        own = self._own_advert()
        if advert.name == own.name:
            if advert != own:
                raise ProtocolError(
                    "This is not the key that this institution signed.", code=Refusal.SUM_KEYS
                )
            own_key = key_fingerprint(self._identity.key.public_key())
            return _Peer(secret=self._secret, signer=own_key, counts=True)
        key = verify(advert, self._job, self._authority)
        pinned, signer = self._rules.peers, key_fingerprint(key)
        return _Peer(
            secret=shared_secret(self._run_key, advert),
            signer=signer,
            counts=pinned is None or signer in pinned,
        )

    def mask(self, context: SumContext, values: NDArray[numpy.int64], update: str) -> Masked:
        """Mask a vector.

        Args:
            context: of the sum; checked.
            values: int64, shape [d]: weighted and scaled, as a plain sum would take them.
            update: SHA-256 of the update before it was weighted and scaled, which a coordinator has
                a say in.

        Raises:
            ConfideError: as :meth:`check`; or if these values went into another sum, or others
                into this one.
        """
        peers = self._peers(context)
        if values.shape != (context.length,):
            raise ProtocolError(
                f"Expected {context.length} values, got {values.size}.", code=Refusal.SUM_COHORT
            )
        self._remember(context, values, update)
        name = self._own_advert().name
        shared = {other: peers[other].secret for other in context.others(name)}
        secrets = secrets_of(context, name, self._secret, shared)
        vector = values.astype(numpy.int64).view(numpy.uint64).copy()
        add_mask(vector, secrets.own)
        for other, pair in secrets.pairs.items():
            (add_mask if name < other else remove_mask)(vector, pair)
        return Masked(
            vector=vector,
            boxes=seal(context, name, secrets, self._secret, shared),
            commitments=commitments_of(context, name, secrets),
        )

    def _remember(self, context: SumContext, values: NDArray[numpy.int64], update: str) -> None:
        hashed = hashlib.sha256(values.astype("<i8").tobytes()).hexdigest()
        before = self._memory.get(context.digest)
        if before is not None and before.values != hashed:
            raise ProtocolError(
                "Other values are under these masks already, and two vectors under one mask tell"
                " their difference.",
                code=Refusal.SUM_COHORT,
            )
        for digest, other in self._memory.all():
            if digest != context.digest and update == other.update:
                # Sums over two cohorts with equal updates differ by whoever is in one alone.
                raise ProtocolError(
                    "The same update went into another sum.", code=Refusal.SUM_COHORT
                )
        if before is None:
            masked = MaskedBefore(update=update, values=hashed)
            self._memory.mask(context.digest, masked)

    def unmask(
        self, context: SumContext, survivors: Sequence[str], boxes: Mapping[str, bytes]
    ) -> dict[str, bytes]:
        """Help to open a sum, once and for one set of survivors.

        Told are, for each survivor, a share of its own secret and shares of its pairs with those
        who are gone: of nobody both.

        Args:
            context: of the sum.
            survivors: names of those whose vectors are in it.
            boxes: survivor -> what it sealed for this institution.

        Returns:
            Survivor -> shares, of ``SHARE_BYTES`` each.

        Raises:
            ProtocolError: if the sum is not known here, was opened for others, or a box is none.
            DeniedError: if the survivors are fewer than the institution's rules allow.
        """
        peers = self._peers(context)
        name, alive = self._own_advert().name, sorted(set(survivors))
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
        counted = sum(peers[survivor].counts for survivor in alive)
        self._rules.check_survivors(context, counted, len(alive))
        if before.survivors and list(before.survivors) != alive:
            raise ProtocolError(
                "This institution helped to open that sum for other survivors.",
                code=Refusal.SUM_SURVIVORS,
            )
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
        self._memory.open(context.digest, alive)
        return told


@dataclass(frozen=True, kw_only=True)
class _Peer:
    """Another institution of the job, once it was checked.

    Attributes:
        secret: that the two share.
        signer: fingerprint of its trainer's public key.
        counts: whether it counts towards ``min_cohort``.
    """

    secret: bytes
    signer: str
    counts: bool


__all__ = ["Masked", "Seat", "SumRules"]
