"""What an institution shares of its secrets, and how the shares travel.

Of one sum institution j has a secret of its own, b_j, and one with each other institution m, p_jm
= p_mj. The coordinator is given, for each receiver k, one sealed box with k's shares of all of
them, and commitments of the secrets, by which a wrong share is known.

Bonawitz et al. 2017 ("Practical Secure Aggregation for Privacy-Preserving Machine Learning",
section 4) shares the key of a whole run instead of p_jm. Here a dropout opens one round and no
other, so that keys are made once a run and a round takes two exchanges.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from confide.errors import ProtocolError
from confide.protocol.refusals import Refusal
from confide.secure_aggregation.context import SumContext
from confide.secure_aggregation.keys import derive
from confide.secure_aggregation.shares import (
    COMMITMENT_BYTES,
    SHARE_BYTES,
    Polynomials,
    commitment,
    to_secret,
)

_MATERIAL = 40
"""Bytes that a secret is made of; see :func:`~confide.secure_aggregation.shares.to_secret`."""
_NONCE = bytes(12)
"""A box's key depends on the context, its sender and its receiver: it seals one box."""


@dataclass(frozen=True, kw_only=True)
class SumSecrets:
    """An institution's secrets of one sum.

    Attributes:
        own: b_j, whose mask hides the vector from whoever knows all others.
        pairs: name of another -> p_jm, whose masks cancel between the two.
    """

    own: int
    pairs: Mapping[str, int]


def secrets_of(
    context: SumContext, name: str, run_key: bytes, shared: Mapping[str, bytes]
) -> SumSecrets:
    """Derive an institution's secrets of one sum.

    Args:
        context: of the sum.
        name: of the institution.
        run_key: its private key of the job, 32 bytes.
        shared: name of another -> secret that only these two have.
    """
    own = derive(run_key, b"self", context.digest, length=_MATERIAL)
    pairs = {
        other: to_secret(
            derive(secret, b"pair", context.digest, *_in_order(name, other), length=_MATERIAL)
        )
        for other, secret in shared.items()
    }
    return SumSecrets(own=to_secret(own), pairs=pairs)


def _in_order(one: str, other: str) -> list[bytes]:
    return [name.encode() for name in sorted((one, other))]


def commitments_of(context: SumContext, name: str, secrets: SumSecrets) -> bytes:
    """Return the commitments of an institution's secrets: of its own, then of its pairs."""
    told = [commitment(secrets.own, _about_own(name))]
    told += [
        commitment(secrets.pairs[other], _about_pair(name, other)) for other in context.others(name)
    ]
    return b"".join(told)


def commitments_size(context: SumContext) -> int:
    """Return how long an institution's commitments are, in bytes."""
    return COMMITMENT_BYTES * len(context.names)


def is_committed(context: SumContext, name: str, commitments: bytes, secret: int, to: str) -> bool:
    """Tell whether a secret is the one that an institution committed to.

    Args:
        context: of the sum.
        name: of the institution.
        commitments: as :func:`commitments_of` returned them.
        secret: as it was joined of shares.
        to: the other institution of a pair; the institution's own name for its own secret.
    """
    place = place_of(context, name, to)
    about = _about_own(name) if to == name else _about_pair(name, to)
    start = place * COMMITMENT_BYTES
    return commitments[start : start + COMMITMENT_BYTES] == commitment(secret, about)


def _about_own(name: str) -> str:
    return json.dumps(["self", name])


def _about_pair(one: str, other: str) -> str:
    return json.dumps(["pair", *sorted((one, other))])


def place_of(context: SumContext, name: str, to: str) -> int:
    """Return where, among an institution's secrets, the one with another stands; 0: its own."""
    return 0 if to == name else 1 + context.others(name).index(to)


def seal(
    context: SumContext,
    name: str,
    secrets: SumSecrets,
    run_key: bytes,
    shared: Mapping[str, bytes],
) -> dict[str, bytes]:
    """Share an institution's secrets: name of the receiver, itself included -> its box."""
    polynomials = Polynomials(derive(run_key, b"polynomials", context.digest))
    of_secret = [
        polynomials.split(secret, threshold=context.threshold, count=len(context.names))
        for secret in (secrets.own, *(secrets.pairs[other] for other in context.others(name)))
    ]
    boxes = {}
    for place, receiver in enumerate(context.names):
        shares = b"".join(shares[place] for shares in of_secret)
        cipher = _cipher(context, name, receiver, run_key if receiver == name else shared[receiver])
        boxes[receiver] = cipher.encrypt(_NONCE, shares, context.digest)
    return boxes


def unseal(
    context: SumContext, sender: str, receiver: str, secret: bytes, box: bytes
) -> list[bytes]:
    """Open a box: shares of the sender's own secret, then of its pairs, in the order of names.

    Args:
        context: of the sum.
        sender: who sealed it.
        receiver: for whom.
        secret: that the two share; the run key where they are one.
        box: as it came.

    Raises:
        ProtocolError: if it is not the sender's box of this sum.
    """
    try:
        shares = _cipher(context, sender, receiver, secret).decrypt(_NONCE, box, context.digest)
    except InvalidTag:
        raise ProtocolError(
            f"The shares of {sender} cannot be opened: they were changed, or are of another sum.",
            code=Refusal.SUM_SHARES,
        ) from None
    count = len(context.names)
    if len(shares) != count * SHARE_BYTES:
        raise ProtocolError(f"Expected {count} shares of {sender}.", code=Refusal.SUM_SHARES)
    return _cut(shares)


def _cipher(context: SumContext, sender: str, receiver: str, secret: bytes) -> ChaCha20Poly1305:
    purpose = (b"box", context.digest, sender.encode(), receiver.encode())
    return ChaCha20Poly1305(derive(secret, *purpose))


def answered_shares(
    context: SumContext, survivor: str, shares: Sequence[bytes], gone: Sequence[str]
) -> bytes:
    """Choose what opens a survivor: the share of its own secret, and of its pairs with the gone.

    Never both secrets of one institution: of who is gone nothing of its own is ever told.
    """
    places = [0, *(place_of(context, survivor, other) for other in gone)]
    return b"".join(shares[place] for place in places)


def _cut(shares: bytes) -> list[bytes]:
    return [shares[at : at + SHARE_BYTES] for at in range(0, len(shares), SHARE_BYTES)]


__all__ = [
    "SumSecrets",
    "answered_shares",
    "commitments_of",
    "commitments_size",
    "is_committed",
    "place_of",
    "seal",
    "secrets_of",
    "unseal",
]
