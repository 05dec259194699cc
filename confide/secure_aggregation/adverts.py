"""An institution's key of one job, signed by its trainer, whom the authority certified.

Public: name, declared number of records, noise and sampling rate. Trusted: who holds the trainer's
key. Whoever holds the authority's key can certify institutions that are none; only certificates
that an institution pins count for it then (``policy.secure.peers``).
"""

import base64
import binascii
import dataclasses
import datetime
import json
import math
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from confide.errors import ProtocolError
from confide.protocol.masked_sums import LONGEST_ADVERT
from confide.protocol.refusals import Refusal
from confide.secure_aggregation.keys import LABEL
from confide.security.certificates import common_name, is_issued_by, is_trainers, is_valid_at
from confide.security.ec_keys import PrivateKey, PublicKey, is_p384
from confide.security.parsing import DAMAGED, certificate_of

KEY_BYTES = 32
_LARGEST_COUNT = 2**53
_ECDSA = ec.ECDSA(hashes.SHA384(), deterministic_signing=True)
"""RFC 6979: the same question is answered with the same bytes."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who signs for an institution.

    Attributes:
        certificate: of the federation's authority, for the trainer's key; its common name is the
            institution's.
        key: the trainer's private key, P-384.
    """

    certificate: x509.Certificate
    key: PrivateKey


@dataclass(frozen=True, kw_only=True)
class Advert:
    """What an institution tells all others of a job.

    Attributes:
        name: of the institution.
        num_examples: declared number of training records.
        noise_multiplier: sigma of one of its steps; 0 without privacy.
        sampling_rate: q of its steps, in (0, 1]; 1 without privacy.
        public_key: X25519, of this job alone, 32 bytes.
        certificate: DER.
        signature: over all but the certificate, and over the job; ECDSA on P-384.
    """

    name: str
    num_examples: int
    noise_multiplier: float
    sampling_rate: float
    public_key: bytes
    certificate: bytes
    signature: bytes = b""

    @property
    def stated(self) -> list[str | int | float]:
        """All that is signed, and that the context of a sum names."""
        return [
            self.name,
            self.num_examples,
            self.noise_multiplier,
            self.sampling_rate,
            self.public_key.hex(),
        ]

    def to_text(self) -> str:
        """Write it as JSON."""
        parts = dataclasses.asdict(self)
        for name in _BYTES:
            parts[name] = base64.b64encode(parts[name]).decode()
        return json.dumps(parts, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_text(cls, text: str) -> "Advert":
        """Read one; signature and certificate are checked by :func:`verify`.

        Raises:
            ProtocolError: if it is none.
        """
        try:
            if len(text) > LONGEST_ADVERT:
                raise ValueError
            parts = json.loads(text)
            for name in _BYTES:
                parts[name] = base64.b64decode(parts[name], validate=True)
            advert = cls(**parts)
        except (ValueError, TypeError, KeyError, binascii.Error, RecursionError):
            raise _refused("Expected an institution's key of a job.") from None
        if not advert._is_sound():
            raise _refused("Expected an institution's key of a job, with values in range.")
        return advert

    def _is_sound(self) -> bool:
        numbers = self.noise_multiplier, self.sampling_rate
        return (
            isinstance(self.name, str)
            and type(self.num_examples) is int
            and 1 <= self.num_examples <= _LARGEST_COUNT
            and all(type(number) is float and math.isfinite(number) for number in numbers)
            and self.noise_multiplier >= 0
            and 0 < self.sampling_rate <= 1
            and len(self.public_key) == KEY_BYTES
        )


_BYTES = ("public_key", "certificate", "signature")


def advertise(
    identity: Identity,
    job: str,
    run_key: X25519PrivateKey,
    *,
    num_examples: int,
    noise_multiplier: float = 0.0,
    sampling_rate: float = 1.0,
) -> Advert:
    """Make and sign an institution's advert.

    Args:
        identity: who signs.
        job: name of the job.
        run_key: key of this job alone.
        num_examples: declared number of training records, >= 1.
        noise_multiplier: sigma of a step; 0 without privacy.
        sampling_rate: q of a step.
    """
    bare = Advert(
        name=str(common_name(identity.certificate.subject)),
        num_examples=num_examples,
        noise_multiplier=float(noise_multiplier),
        sampling_rate=float(sampling_rate),
        public_key=run_key.public_key().public_bytes_raw(),
        certificate=identity.certificate.public_bytes(serialization.Encoding.DER),
    )
    return dataclasses.replace(bare, signature=identity.key.sign(_signed(bare, job), _ECDSA))


def verify(
    advert: Advert,
    job: str,
    authority: x509.Certificate,
    *,
    now: datetime.datetime | None = None,
) -> PublicKey:
    """Check that an advert is what an institution of this federation signed for this job.

    Args:
        advert: as it came.
        job: name of the job.
        authority: certificate of the federation's authority.
        now: current time, with its time zone.

    Returns:
        The public key of the institution's trainer.

    Raises:
        ProtocolError: if it is not.
    """
    try:
        certificate = certificate_of(advert.certificate)
        key = certificate.public_key()
        name = common_name(certificate.subject)
    except DAMAGED:
        raise _refused(f"{advert.name} brings no certificate.") from None
    # Servers have certificates of the same authority, and are no institutions
    is_ours = is_issued_by(certificate, authority) and is_trainers(certificate)
    if name != advert.name or not is_p384(key) or not is_ours:
        raise _refused(f"{advert.name} has no certificate of this federation.")
    if not is_valid_at(certificate, now=now):
        raise _refused(
            f"The certificate of {advert.name} is valid from"
            f" {certificate.not_valid_before_utc:%Y-%m-%d} to"
            f" {certificate.not_valid_after_utc:%Y-%m-%d}; the coordinator renews it by `confide"
            " provision`."
        )
    try:
        key.verify(advert.signature, _signed(advert, job), ec.ECDSA(hashes.SHA384()))
    except InvalidSignature:
        raise _refused(f"The key of {advert.name} is not one that it signed.") from None
    return key


def shared_secret(run_key: X25519PrivateKey, advert: Advert) -> bytes:
    """Return the secret that this institution has with another.

    Raises:
        ProtocolError: if the other's key is of a small subgroup, so that all would know it.
    """
    try:
        return run_key.exchange(X25519PublicKey.from_public_bytes(advert.public_key))
    except ValueError:
        raise _refused(f"The key of {advert.name} gives no secret.") from None


def _signed(advert: Advert, job: str) -> bytes:
    return LABEL + b"/advert/" + json.dumps([job, *advert.stated], allow_nan=False).encode()


def _refused(message: str) -> ProtocolError:
    return ProtocolError(message, code=Refusal.SUM_KEYS)


__all__ = ["Advert", "Identity", "advertise", "shared_secret", "verify"]
