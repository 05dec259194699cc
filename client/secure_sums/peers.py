"""Who is in a job's masked sums: keys held against certificates and an institution's rules."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from confide.client.secure_sums.sum_rules import SumRules
from confide.errors import ProtocolError
from confide.protocol.refusals import Refusal
from confide.secure_aggregation.adverts import Advert, Identity, shared_secret, verify
from confide.secure_aggregation.context import SumContext
from confide.secure_aggregation.survivors import key_to_text
from confide.security.ec_keys import PublicKey, key_fingerprint


@dataclass(frozen=True, kw_only=True)
class Peer:
    """An institution of the job, once it was checked.

    Attributes:
        secret: that the two share; the run key where they are one.
        key: its trainer's public key.
        counts: whether it counts towards ``min_cohort``; one that does not may collude.
    """

    secret: bytes
    key: PublicKey
    counts: bool


def counted(peers: Mapping[str, Peer]) -> int:
    """Return how many institutions count towards ``min_cohort``."""
    return sum(peer.counts for peer in peers.values())


class Peers:
    """What an institution knows of all in a job's sums, itself included.

    Args:
        identity: who signs for it.
        job: name of the job.
        authority: certificate of the federation's authority.
        rules: the institution's own.
        run_key: X25519 key of this job alone.
    """

    def __init__(
        self,
        identity: Identity,
        job: str,
        *,
        authority: x509.Certificate,
        rules: SumRules,
        run_key: X25519PrivateKey,
    ) -> None:
        self._identity, self._job, self._authority = identity, job, authority
        self._rules, self._run_key = rules, run_key
        # A certificate takes a millisecond, and is the same in every round.
        self._known: dict[Advert, Peer] = {}
        self._own: Advert | None = None

    def enrol(self, own: Advert) -> None:
        """Take the institution's own advert, in place of an earlier one."""
        self._own = own

    @property
    def own(self) -> Advert:
        """The institution's own advert.

        Raises:
            ProtocolError: if it did not enrol.
        """
        if self._own is None:
            raise ProtocolError(
                f"Job {self._job} asks for a sum and has not enrolled here.",
                code=Refusal.SUM_UNKNOWN,
            )
        return self._own

    @property
    def name(self) -> str:
        """Name of the institution itself."""
        return self.own.name

    def of(self, context: SumContext, *, opens: bool = False) -> dict[str, Peer]:
        """Return everybody in a cohort, once all of them were checked.

        Args:
            context: of the sum.
            opens: whether it has this institution's vector, and is to be opened: a key that was
                revoked since does not count then, and no new sum is begun with it.

        Raises:
            ProtocolError: if a key is none that an institution of the federation signed for this
                job.
            DeniedError: if the institution's rules do not allow the cohort.
        """
        name = self.name
        if context.job != self._job:
            raise ProtocolError(f"Expected a sum of job {self._job}.", code=Refusal.SUM_COHORT)
        context.check_shape(name)
        peers = {advert.name: self._peer(advert) for advert in context.cohort}
        # Whoever has the authority's key could certify one trainer under many names
        if len({key_to_text(peer.key) for peer in peers.values()}) < len(peers):
            raise ProtocolError(
                "Two of the cohort sign with one key, and are one.", code=Refusal.SUM_KEYS
            )
        revoked = self._rules.revoked_fn()
        for name, peer in peers.items() if revoked else ():
            since = revoked.get(key_fingerprint(peer.key))
            if since is not None and not opens:
                raise ProtocolError(
                    f"The key of {name} was revoked on {since}, by the list in this kit.",
                    code=Refusal.SUM_REVOKED,
                )
            peers[name] = peer if since is None else replace(peer, counts=False)
        self._rules.check_cohort(context, counted(peers))
        return peers

    def _peer(self, advert: Advert) -> Peer:
        own = self.own
        is_own = advert.name == own.name
        # Its certificate may have been renewed since
        if is_own and advert.stated != own.stated:
            raise ProtocolError(
                "This is not the key that this institution signed.", code=Refusal.SUM_KEYS
            )
        if advert not in self._known:
            self._known[advert] = self._checked(advert, is_own)
        return self._known[advert]

    def _checked(self, advert: Advert, is_own: bool) -> Peer:
        if is_own:
            own_key = self._identity.key.public_key()
            return Peer(secret=self._run_key.private_bytes_raw(), key=own_key, counts=True)
        key = verify(advert, self._job, self._authority)
        pinned = self._rules.peers
        return Peer(
            secret=shared_secret(self._run_key, advert),
            key=key,
            counts=pinned is None or key_fingerprint(key) in pinned,
        )


__all__ = ["Peer", "Peers", "counted"]
