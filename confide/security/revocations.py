"""The list of a federation's revoked keys, signed by its authority.

A list of certificates, as a CRL is, would not do: what is revoked here is a key, whatever
certificates it had and has, and a node's key has none. Keys are named by the fingerprints that
people compare by telephone anyway.

Trusted: who holds the authority's key. The coordinator heeds the list in its own folder, signed or
not, so that a stolen key is refused before anybody has fetched the authority from its safe.
Institutions heed a signed list alone, since a coordinator could otherwise put any of them out of a
sum by its word.
"""

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from confide.errors import UnreadableError
from confide.security.certificates import fingerprint
from confide.security.ec_keys import PrivateKey, is_p384, reason_of

FILE = "revoked.json"
_PURPOSE = b"confide revoked keys\0"
_LARGEST = 2**20
_FIX = "bring back the one that `confide provision` wrote"


@dataclass(frozen=True, kw_only=True)
class RevokedKey:
    """One revoked key.

    Attributes:
        key: fingerprint, as ``ssh-keygen -l`` prints it.
        name: of the institution that it was of.
        since: the day on which it was revoked, as YYYY-MM-DD.
    """

    key: str
    name: str
    since: str


@dataclass(frozen=True, kw_only=True)
class Revocations:
    """A federation's revoked keys.

    Attributes:
        authority: fingerprint of the authority's certificate.
        number: how often the list was changed, from 1; 0 for no list.
        keys: in the order in which they were revoked.
        signature: of the authority over all else, in base64; empty where its key was not there.
    """

    authority: str = ""
    number: int = 0
    keys: tuple[RevokedKey, ...] = ()
    signature: str = ""
    _since: Mapping[str, RevokedKey] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_since", {it.key: it for it in self.keys})

    def get(self, key: str) -> RevokedKey | None:
        """Return the entry of a key, by its fingerprint; None if it was not revoked."""
        return self._since.get(key)

    def of(self, name: str) -> list[RevokedKey]:
        """Return the revoked keys of an institution."""
        return [it for it in self.keys if it.name == name]

    def plus(self, keys: Iterable[RevokedKey]) -> "Revocations":
        """Return the list with more keys, not signed; the same list if it has them all."""
        new = tuple(it for it in keys if it.key not in self._since)
        if not new:
            return self
        return replace(self, number=self.number + 1, keys=(*self.keys, *new), signature="")

    def signed_by(self, key: PrivateKey) -> "Revocations":
        """Return the list, signed with the authority's key."""
        signature = key.sign(self._signed(), ec.ECDSA(hashes.SHA384()))
        return replace(self, signature=base64.b64encode(signature).decode())

    def check(self, authority: x509.Certificate, where: str) -> None:
        """Check that a federation's authority signed the list.

        Args:
            authority: its certificate.
            where: where the list is, for the error.

        Raises:
            UnreadableError: if it did not.
        """
        if self.authority != fingerprint(authority):
            raise UnreadableError(f"{where} is the list of another federation; {_FIX}.")
        key = authority.public_key()
        try:
            if not is_p384(key):
                raise ValueError
            signature = base64.b64decode(self.signature, validate=True)
            key.verify(signature, self._signed(), ec.ECDSA(hashes.SHA384()))
        except (InvalidSignature, binascii.Error, ValueError):
            raise UnreadableError(
                f"{where} is not signed by the federation's authority, so that it may be anybody's;"
                f" {_FIX}, with authority/ in its place."
            ) from None

    def _signed(self) -> bytes:
        parts = [self.authority, self.number, [asdict(it) for it in self.keys]]
        return _PURPOSE + json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()

    def to_text(self) -> str:
        """Write it as a file."""
        parts = {
            "authority": self.authority,
            "number": self.number,
            "keys": [asdict(it) for it in self.keys],
            "signature": self.signature,
        }
        return json.dumps(parts, indent=1) + "\n"


def read_revocations(path: Path) -> Revocations:
    """Read a list; an empty one if there is no such file. Its signature is not checked.

    Raises:
        UnreadableError: if the file is none, with the fix.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Revocations()
    except OSError as error:
        raise UnreadableError(
            f"{path} cannot be read as a list of revoked keys ({reason_of(error)}); {_FIX}."
        ) from None
    try:
        return _parse(data)
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise UnreadableError(
            f"{path} cannot be read as a list of revoked keys ({type(error).__name__}: {error});"
            f" {_FIX}."
        ) from None


def _parse(data: bytes) -> Revocations:
    if len(data) > _LARGEST:
        raise ValueError(f"it has {len(data)} bytes")
    raw: Any = json.loads(data)
    names = {it.name for it in fields(RevokedKey)}
    for key in raw["keys"]:
        if set(key) != names or not all(isinstance(value, str) for value in key.values()):
            raise ValueError(f"expected {', '.join(sorted(names))} of each key")
    texts = raw["authority"], raw["signature"]
    if type(raw["number"]) is not int or not all(isinstance(it, str) for it in texts):
        raise ValueError("expected authority, number and signature")
    return Revocations(
        authority=raw["authority"],
        number=raw["number"],
        keys=tuple(RevokedKey(**key) for key in raw["keys"]),
        signature=raw["signature"],
    )


__all__ = ["FILE", "Revocations", "RevokedKey", "read_revocations"]
