"""Real masked sums in a simulation: an authority, and keys of each institution's trainer.

Everything that is secret derives from one secret, so that every worker has the same keys without
asking, and so has a process that goes on with the run. Whoever runs a simulation knows all of it:
what is tried out here is the protocol, and nothing is hidden from anybody.
"""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from confide.client.secure_sums.memory import SumMemory, SumsInFolder, SumsInMemory
from confide.client.secure_sums.seat import SumRules
from confide.client.secure_sums.taking_part import TakingPart
from confide.errors import ConfigError
from confide.secure_aggregation.adverts import Identity
from confide.secure_aggregation.keys import derive
from confide.security import certificates
from confide.security.ec_keys import PrivateKey
from confide.storage.files import folder_name

_LONGEST_NAME = 64
"""Bytes of a name that a certificate has room for."""
_ORDER = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffff"
    "c7634d81f4372ddf581a0db248b0a77aecec196accc52973",
    16,
)
"""Of curve P-384 (SEC 2, section 2.5.1): a private key is 1 to this number less one."""
_KEY_BYTES = 64
"""Drawn for such a key: 16 more than it has, so that no key is likelier than another by 2^-128."""


@dataclass(frozen=True, kw_only=True)
class SimulatedSums:
    """What institutions of a simulation take part in masked sums with; can be pickled.

    Attributes:
        secret: that all keys derive from, 32 bytes.
        authority: certificate of the simulation's authority, DER.
        certificates: name of an institution -> its trainer's certificate, DER.
        rules: every institution's.
        folder: where they remember their sums, for other workers and later processes; None: in
            memory.
        draw: number of the job's keys, of those that derive from one secret.
    """

    secret: bytes = field(repr=False)
    authority: bytes
    certificates: Mapping[str, bytes]
    rules: SumRules = field(default_factory=SumRules)
    folder: Path | None = None
    draw: int = 0

    @classmethod
    def make(
        cls,
        names: Iterable[str],
        *,
        secret: bytes,
        rules: SumRules | None = None,
        folder: Path | None = None,
    ) -> "SimulatedSums":
        """Make an authority, and certify every institution's trainer.

        Args:
            names: of the institutions.
            secret: that keys derive from.
            rules: every institution's; None for the default ones.
            folder: where they remember their sums; None: in memory.

        Raises:
            ConfigError: if a name has no room in a certificate.
        """
        known = list(names)
        _check_names(known)
        key = _private_key(secret, b"authority")
        authority = certificates.make_authority("simulation", key)
        issued = {
            name: certificates.issue_trainer_certificate(
                _trainer_key(secret, name).public_key(),
                name,
                authority=(authority, key),
                days=certificates.AUTHORITY_DAYS,
            ).public_bytes(Encoding.DER)
            for name in known
        }
        return cls(
            secret=secret,
            authority=authority.public_bytes(Encoding.DER),
            certificates=issued,
            rules=rules or SumRules(),
            folder=folder,
        )

    def taking_part(self, name: str) -> TakingPart:
        """Return what an institution takes part with."""
        certificate = x509.load_der_x509_certificate(self.certificates[name])
        return TakingPart(
            identity=Identity(certificate=certificate, key=_trainer_key(self.secret, name)),
            authority=x509.load_der_x509_certificate(self.authority),
            rules=self.rules,
            run_key_fn=functools.partial(_run_key, self.secret, self.draw, name),
            memory_fn=functools.partial(_memory, self.folder, name),
        )


def _check_names(names: Iterable[str]) -> None:
    long = [name for name in names if len(name.encode()) > _LONGEST_NAME]
    if long:
        raise ConfigError(
            f"aggregation.simulated=real: {', '.join(long)}: a certificate has room for"
            f" {_LONGEST_NAME} bytes of an institution's name; shorten it, or set"
            " aggregation.simulated=emulate."
        )


def _trainer_key(secret: bytes, name: str) -> PrivateKey:
    return _private_key(secret, b"trainer", name.encode())


def _private_key(secret: bytes, *purpose: bytes) -> PrivateKey:
    drawn = int.from_bytes(derive(secret, *purpose, length=_KEY_BYTES), "little")
    return ec.derive_private_key(1 + drawn % (_ORDER - 1), ec.SECP384R1())


def _run_key(secret: bytes, draw: int, name: str, job: str) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(
        derive(secret, b"run", str(draw).encode(), name.encode(), job.encode())
    )


def _memory(folder: Path | None, name: str, job: str) -> SumMemory:
    if folder is None:
        return SumsInMemory()
    return SumsInFolder(folder / folder_name(name) / folder_name(job))


__all__ = ["SimulatedSums"]
