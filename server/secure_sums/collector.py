"""The coordinator's side of one masked sum: vectors in, then shares, then the sum and nothing else.

The running sum, the boxes and the survivors are durable before anybody is asked to open the sum: a
coordinator that was killed asks the same institutions for the same shares.
"""

import base64
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy
import torch
from numpy.typing import NDArray

from confide.errors import ProtocolError, RunFailedError
from confide.protocol.refusals import Refusal
from confide.protocol.words import Words, dtype_of
from confide.secure_aggregation.adverts import Advert
from confide.secure_aggregation.context import SumContext
from confide.secure_aggregation.masks import add_mask, remove_mask
from confide.secure_aggregation.secrets import commitments_size, is_committed
from confide.secure_aggregation.shares import SHARE_BYTES, joined, weights_of

_TOTAL = "total"


@dataclass(kw_only=True)
class MaskedSum:
    """One sum under way.

    Attributes:
        context: of the sum.
        total: uint64 or uint32, shape [d]: sum of the masked vectors modulo 2^bits.
        boxes: sender -> receiver -> sealed shares.
        commitments: sender -> of its secrets.
        survivors: names of those whose vectors are in the sum, once it is closed.
    """

    context: SumContext
    total: Words = field(init=False)
    boxes: dict[str, Mapping[str, bytes]] = field(default_factory=dict)
    commitments: dict[str, bytes] = field(default_factory=dict)
    survivors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Begin at zero."""
        self.total = numpy.zeros(self.context.length, dtype=dtype_of(self.context.bits))

    def add(self, name: str, vector: Words, boxes: Mapping[str, bytes], commitments: bytes) -> None:
        """Take a masked vector.

        Raises:
            ProtocolError: if it is not of this sum, comes twice, or after the sum was closed.
        """
        context = self.context
        if name not in context.names or name in self.boxes or self.survivors:
            raise ProtocolError(
                f"Expected no vector of {name}, or no second one.", code=Refusal.SUM_COHORT
            )
        if vector.dtype != self.total.dtype or vector.shape != self.total.shape:
            raise ProtocolError(
                f"Expected {context.length} masked integers from {name}.",
                code=Refusal.TENSOR_SHAPE,
            )
        if set(boxes) != set(context.names) or len(commitments) != commitments_size(context):
            raise ProtocolError(
                f"Expected a box for each of the cohort from {name}, and its commitments.",
                code=Refusal.SUM_SHARES,
            )
        numpy.add(self.total, vector, out=self.total)
        self.boxes[name], self.commitments[name] = dict(boxes), commitments

    def close(self) -> tuple[str, ...]:
        """Fix whose sum it is; what arrives later is not in it."""
        self.survivors = self.survivors or tuple(sorted(self.boxes))
        return self.survivors

    def boxes_for(self, name: str) -> dict[str, bytes]:
        """Return what the survivors sealed for one of them."""
        return {sender: self.boxes[sender][name] for sender in self.close()}

    def check_answer(self, name: str, shares: Mapping[str, bytes]) -> None:
        """Check the form of a survivor's shares.

        Raises:
            ProtocolError: if it is not what was asked for.
        """
        gone = len(self.context.names) - len(self.close())
        size = SHARE_BYTES * (1 + gone)
        if set(shares) != set(self.survivors) or any(len(it) != size for it in shares.values()):
            raise ProtocolError(
                f"Expected {1 + gone} shares of each survivor from {name}.",
                code=Refusal.SUM_SHARES,
            )

    def open(self, answers: Mapping[str, Mapping[str, bytes]]) -> NDArray[numpy.int64]:
        """Take the masks off.

        Args:
            answers: survivor -> survivor -> shares, at least ``threshold``, each checked.

        Returns:
            The sum of the survivors' values: int64, shape [d].

        Raises:
            RunFailedError: if too few answered, or shares do not fit what was committed to.
        """
        context, alive = self.context, self.close()
        if len(answers) < context.threshold:
            raise RunFailedError(
                f"{len(answers)} of {len(alive)} institutions gave shares, and"
                f" {context.threshold} open the sum."
            )
        opening = _Opening.of(self, answers)
        total = self.total.copy()
        gone = context.gone(alive)
        for survivor in alive:
            remove_mask(total, opening.secret(survivor, survivor, 0))
            for place, other in enumerate(gone, start=1):
                pair = opening.secret(survivor, other, place)
                (remove_mask if survivor < other else add_mask)(total, pair)
        return _signed(total).astype(numpy.int64, copy=False)

    def check_bound(self, total: NDArray[numpy.int64], most: int) -> None:
        """Check that a sum is one that so many updates can have.

        Args:
            total: of :meth:`open`, or a part of it.
            most: largest absolute value that it may hold.

        Raises:
            ProtocolError: if it is not: somebody's vector was none of a sum.
        """
        # As Python's integers: the least int64 has no absolute value of its own type
        if len(total) and max(int(total.max()), -int(total.min())) > most:
            raise ProtocolError(
                f"Round {self.context.server_round}: the sum of {len(self.survivors)} updates holds"
                " a value that they cannot have.",
                code=Refusal.SUM_OUT_OF_RANGE,
            )

    def described(self) -> dict[str, Any]:
        """Return everything but the running total as plain JSON, for a checkpoint."""
        context = {
            part.name: getattr(self.context, part.name) for part in dataclasses.fields(SumContext)
        }
        return {
            "context": context | {"cohort": [advert.to_text() for advert in self.context.cohort]},
            "boxes": {name: _written(boxes) for name, boxes in self.boxes.items()},
            "commitments": _written(self.commitments),
            "survivors": list(self.survivors),
        }

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the running total, masks on, as int64 or int32 of the same bits."""
        return {_TOTAL: torch.from_numpy(_signed(self.total).copy())}

    @classmethod
    def of(cls, described: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> "MaskedSum":
        """Make a sum of what :meth:`described` and :meth:`tensors` returned."""
        parts = described["context"]
        cohort = tuple(Advert.from_text(text) for text in parts["cohort"])
        under_way = cls(context=SumContext(**(parts | {"cohort": cohort})))
        under_way.total = tensors[_TOTAL].numpy().view(under_way.total.dtype).copy()
        under_way.boxes = {name: _read(boxes) for name, boxes in described["boxes"].items()}
        under_way.commitments = _read(described["commitments"])
        under_way.survivors = tuple(described["survivors"])
        return under_way


def _signed(words: Words) -> NDArray[numpy.int64] | NDArray[numpy.int32]:
    if words.dtype.itemsize == 8:
        return words.view(numpy.int64)
    return words.view(numpy.int32)


def _written(values: Mapping[str, bytes]) -> dict[str, str]:
    return {name: base64.b64encode(value).decode() for name, value in values.items()}


def _read(values: Mapping[str, str]) -> dict[str, bytes]:
    return {name: base64.b64decode(value, validate=True) for name, value in values.items()}


@dataclass(frozen=True, kw_only=True)
class _Opening:
    """Shares of those who answered, and how they are joined."""

    under_way: MaskedSum
    answers: Sequence[Mapping[str, bytes]]
    weights: Sequence[int]

    @classmethod
    def of(cls, under_way: MaskedSum, answers: Mapping[str, Mapping[str, bytes]]) -> "_Opening":
        chosen = sorted(answers)[: under_way.context.threshold]
        places = [under_way.context.names.index(name) for name in chosen]
        return cls(
            under_way=under_way,
            answers=[answers[name] for name in chosen],
            weights=weights_of(places),
        )

    def secret(self, name: str, to: str, place: int) -> int:
        """Join the shares of one secret, and hold it against its commitment."""
        at = SHARE_BYTES * place
        shares = [answer[name][at : at + SHARE_BYTES] for answer in self.answers]
        secret = joined(shares, self.weights)
        context, commitments = self.under_way.context, self.under_way.commitments[name]
        if not is_committed(context, name, commitments, secret, to):
            raise RunFailedError(
                f"The shares of {name} do not fit what it committed to: it, or one of those who"
                " gave shares, does not follow the protocol."
            )
        return secret


__all__ = ["MaskedSum"]
