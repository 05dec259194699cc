"""What an institution signs when it helps to open a sum: of which context, and for whom.

With 2 t > n + c no two sets of survivors of one sum are ever signed by t institutions each. Whoever
shows t signatures over one set has shown that most were told the same.
"""

import json
from collections.abc import Sequence

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from confide.secure_aggregation.context import SumContext
from confide.secure_aggregation.keys import LABEL
from confide.security.ec_keys import PrivateKey, PublicKey, is_p384
from confide.security.parsing import DAMAGED, certificate_of

_SIGNING = ec.ECDSA(hashes.SHA384(), deterministic_signing=True)
"""RFC 6979: the same question is answered with the same bytes."""
_CHECKING = ec.ECDSA(hashes.SHA384())


def signed_survivors(context_digest: bytes, survivors: Sequence[str]) -> bytes:
    """Return the bytes that are signed.

    Args:
        context_digest: of the sum, 32 bytes.
        survivors: names of those whose sum is opened, in any order.
    """
    text = json.dumps([context_digest.hex(), sorted(survivors)], separators=(",", ":"))
    return LABEL + b"/survivors/" + text.encode()


def sign_survivors(key: PrivateKey, context_digest: bytes, survivors: Sequence[str]) -> bytes:
    """Sign for whom a sum is opened; ECDSA on P-384, the same bytes each time."""
    return key.sign(signed_survivors(context_digest, survivors), _SIGNING)


def verify_survivors(
    key: PublicKey, context_digest: bytes, survivors: Sequence[str], signature: bytes
) -> bool:
    """Tell whether the owner of a key signed for these survivors."""
    try:
        key.verify(signature, signed_survivors(context_digest, survivors), _CHECKING)
    except InvalidSignature:
        return False
    return True


def is_signed(context: SumContext, survivors: Sequence[str], name: str, signature: bytes) -> bool:
    """Tell whether one of a sum's cohort signed for whom it helps to open it.

    Its certificate is that of its advert, as it came: institutions hold it against the authority.
    """
    try:
        certificate = next(it.certificate for it in context.cohort if it.name == name)
        key = certificate_of(certificate).public_key()
    except (StopIteration, *DAMAGED):
        return False
    return is_p384(key) and verify_survivors(key, context.digest, survivors, signature)


def key_to_text(key: PublicKey) -> str:
    """Write a public key to be remembered beside a sum: a compressed point, in hexadecimal."""
    return key.public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
    ).hex()


def key_from_text(text: str) -> PublicKey | None:
    """Read what :func:`key_to_text` wrote; None where it is no key."""
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), bytes.fromhex(text))
    except DAMAGED:
        return None


__all__ = [
    "is_signed",
    "key_from_text",
    "key_to_text",
    "sign_survivors",
    "signed_survivors",
    "verify_survivors",
]
