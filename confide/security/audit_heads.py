"""Heads of audit logs: the number and hash of a log's newest event, signed.

A head covers every event before it. It is signed with the key that a side has anyway, on P-384: an
institution's ``trainer.key``, which the federation's authority certified, or the coordinator's
``heads.key``. What is signed begins with its purpose, since these keys sign other things too.
"""

import base64
import binascii
import json
from dataclasses import asdict, dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from confide.errors import UnreadableError
from confide.security.ec_keys import PrivateKey, PublicKey, parse_public_line, public_line

_PURPOSE = b"confide audit log head\0"


@dataclass(frozen=True, kw_only=True)
class AuditHead:
    """The newest event of a log, signed.

    Attributes:
        number: number of the event.
        hash: hash of the event, in hexadecimal.
        key: public key that it is signed with, in OpenSSH's form.
        signature: in base64.
    """

    number: int
    hash: str
    key: str
    signature: str

    @property
    def public_key(self) -> PublicKey:
        """Public key that it is signed with.

        Raises:
            UnreadableError: if it is none.
        """
        return parse_public_line(self.key)

    @property
    def is_signed(self) -> bool:
        """Whether its key signed it."""
        try:
            self.public_key.verify(
                base64.b64decode(self.signature, validate=True),
                _signed(self.number, self.hash),
                ec.ECDSA(hashes.SHA384()),
            )
        except (InvalidSignature, UnreadableError, binascii.Error, ValueError):
            return False
        return True

    def to_text(self) -> str:
        """Write it as a file."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def from_text(cls, text: str) -> "AuditHead":
        """Read one.

        Raises:
            ValueError: if it is none.
        """
        raw = json.loads(text)
        if not isinstance(raw, dict) or set(raw) != {"number", "hash", "key", "signature"}:
            raise ValueError("expected number, hash, key and signature")
        if type(raw["number"]) is not int or any(
            not isinstance(raw[name], str) for name in ("hash", "key", "signature")
        ):
            raise ValueError("expected a number and three texts")
        return cls(**raw)


def sign_head(number: int, digest: str, key: PrivateKey) -> AuditHead:
    """Sign the newest event of a log.

    Args:
        number: number of the event.
        digest: hash of the event, in hexadecimal.
        key: of the side whose log it is.
    """
    signature = key.sign(_signed(number, digest), ec.ECDSA(hashes.SHA384()))
    return AuditHead(
        number=number,
        hash=digest,
        key=public_line(key.public_key()).strip(),
        signature=base64.b64encode(signature).decode(),
    )


def _signed(number: int, digest: str) -> bytes:
    return _PURPOSE + f"{number}:{digest}".encode()


__all__ = ["AuditHead", "sign_head"]
