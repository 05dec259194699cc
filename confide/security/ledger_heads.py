"""Heads of a ledger as they travel: signed by the institution, countersigned by the coordinator.

A head is the hash of an event, which covers every event before it. ``DIGEST:SIGNATURE`` leaves with
a reply, and ``DIGEST:SIGNATURE COUNTERSIGNATURE`` comes back with the next request. The institution
signs with a key of its ledger (Ed25519), so that it cannot deny a head later; the coordinator with
a key that the institution has not (EC P-384), so that whoever rewrites a ledger, its own people
included, cannot make the countersignatures that the events before had. Earlier releases sent
``NUMBER:DIGEST``, which is still understood.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from confide.security.ec_keys import PrivateKey, PublicKey

# What is signed begins with its purpose: the same key may sign other things
_SIGNED, _COUNTERSIGNED = b"confide ledger head\0", b"confide ledger countersignature\0"
_DIGEST_CHARS = 2 * hashlib.sha256().digest_size
_MAX_DIGITS = 16
"""A coordinator echoes a number: a bound keeps a hostile one from having huge integers parsed."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """A head, read.

    Attributes:
        text: the head without its countersignature, which is what a coordinator countersigns.
        digest: hash of the event, in hexadecimal.
        number: number of the event; None where only its hash was told.
        signature: the institution's, in base64; empty for none.
        countersignature: the coordinator's, in base64; empty for none.
    """

    text: str
    digest: str
    number: int | None = None
    signature: str = ""
    countersignature: str = ""


def parse_head(text: str) -> Head | None:
    """Read a head; None if it is none."""
    told, _, countersignature = text.strip().partition(" ")
    first, _, second = told.partition(":")
    if len(first) == _DIGEST_CHARS:
        return Head(text=told, digest=first, signature=second, countersignature=countersignature)
    if first.isdecimal() and len(first) < _MAX_DIGITS:
        return Head(text=told, digest=second, number=int(first), countersignature=countersignature)
    return None


def sign_digest(digest: str, key: Ed25519PrivateKey) -> str:
    """Sign the hash of an event, in base64."""
    return base64.b64encode(key.sign(_SIGNED + digest.encode())).decode()


def is_signed(digest: str, signature: str, public_key: str) -> bool:
    """Say whether the hash of an event is signed.

    Args:
        digest: hash of the event, in hexadecimal.
        signature: in base64.
        public_key: Ed25519, in hexadecimal.
    """
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        key.verify(base64.b64decode(signature, validate=True), _SIGNED + digest.encode())
    except (InvalidSignature, ValueError, binascii.Error):
        return False
    return True


def countersign(text: str, key: PrivateKey) -> str:
    """Return a head with a countersignature, as it is echoed."""
    head = text.partition(" ")[0]
    signature = key.sign(_COUNTERSIGNED + head.encode(), ec.ECDSA(hashes.SHA384()))
    return f"{head} {base64.b64encode(signature).decode()}"


def is_countersigned(text: str, countersignature: str, key: PublicKey) -> bool:
    """Say whether a coordinator's key countersigned a head.

    Args:
        text: the head without its countersignature.
        countersignature: in base64.
        key: public key of the coordinator.
    """
    try:
        raw = base64.b64decode(countersignature, validate=True)
        key.verify(raw, _COUNTERSIGNED + text.encode(), ec.ECDSA(hashes.SHA384()))
    except (InvalidSignature, ValueError, binascii.Error):
        return False
    return True


__all__ = ["Head", "countersign", "is_countersigned", "is_signed", "parse_head", "sign_digest"]
