"""What a plan says of sums that nobody sees inside, and what is asked and answered of one.

Adverts, boxes and shares are made and opened by ``confide.secure_aggregation``; here they are words
that travel.
"""

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from confide.config.aggregation import MOST_INSTITUTIONS
from confide.config.fields import STRICT
from confide.config.noise_share import NoiseShare
from confide.errors import ProtocolError
from confide.protocol.refusals import Refusal

LONGEST_SUM_TEXT = 2**21
"""Characters of a question or an answer: of 100 institutions boxes have about half of it."""
LONGEST_ADVERT = 8192
"""Characters of an institution's key of a job: certificates on P-384 have about 1,000."""
_LARGEST_VALUE = 2.0**20
_MOST_VALUES = 2**40
"""More than any vector has; of a cohort, far less are allowed."""
EVERYBODY = "(all together)"
"""Stands among names of institutions for those of a masked sum, whose scores are known together
alone: ``{EVERYBODY: evaluation}``. No institution may be called so."""


@dataclass(frozen=True, kw_only=True)
class MaskedSums:
    """How the updates of a run's rounds are added up under masks.

    Attributes:
        threshold: institutions whose shares open a sum; None: the least that withstands a third of
            the cohort colluding with the coordinator.
        bits: of each value, 64 or 32.
        weighting: num_examples or uniform.
        max_value: no update holds a larger absolute value; with the cohort's weights it fixes the
            scale of the sums.
        share: clipping and noise of each institution; None where the sum has no noise of its own.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    threshold: int | None = None
    bits: int = 64
    weighting: str = "num_examples"
    max_value: float
    share: NoiseShare | None = None

    def problems(self) -> Iterator[str]:
        """Yield what is out of range."""
        if self.threshold is not None and not 2 <= self.threshold <= MOST_INSTITUTIONS:
            yield f"sums.threshold={self.threshold}: expected 2 to {MOST_INSTITUTIONS}."
        if self.bits not in (32, 64):
            yield f"sums.bits={self.bits}: expected 32 or 64."
        if self.weighting not in ("num_examples", "uniform"):
            yield "sums.weighting: expected num_examples or uniform."
        if not 0 < self.max_value <= _LARGEST_VALUE:
            yield f"sums.max_value={self.max_value:g}: expected > 0, at most 2^20."
        if self.share is not None:
            yield from (f"sums.share: {problem}" for problem in self.share.problems())
            if self.weighting != "uniform":
                yield "sums.weighting: with noise shares expected uniform."
            if self.max_value != self.share.largest:
                yield f"sums.max_value={self.max_value:g}: expected {self.share.largest:g}."


@dataclass(frozen=True, kw_only=True)
class OpenedBefore:
    """A sum of this run that was opened before, as institutions signed it.

    Attributes:
        digest: of its context, 32 bytes.
        survivors: names of those whose sum it was, in order.
        signatures: name -> signature over digest and survivors, by the trainer's key.
    """

    digest: bytes
    survivors: tuple[str, ...]
    signatures: Mapping[str, bytes]


@dataclass(frozen=True, kw_only=True)
class SumQuestion:
    """What a request says of the masked sum that its answer is for.

    Attributes:
        cohort: adverts of all who may be in it, as text, by name.
        threshold: t, shares that open it.
        before: sums that were opened before, the newest last, as far as one of the cohort needs to
            see that the others opened the same.
        question: what the sum is of, in hexadecimal; empty where the request itself tells.
        length: d, number of values in the sum, where shares are asked for.
        survivors: names of those whose vectors arrived, where shares are asked for.
        boxes: survivor -> what it sealed for the institution that is asked.
    """

    cohort: tuple[str, ...]
    threshold: int
    before: tuple[OpenedBefore, ...] = ()
    question: str = ""
    length: int = 0
    survivors: tuple[str, ...] = ()
    boxes: Mapping[str, bytes] = field(default_factory=dict)

    def to_text(self) -> str:
        """Write it as JSON."""
        return _to_json(
            {
                "cohort": list(self.cohort),
                "threshold": self.threshold,
                "question": self.question,
                "length": self.length,
                "survivors": list(self.survivors),
                "boxes": _written(self.boxes),
                "before": [
                    {
                        "digest": one.digest.hex(),
                        "survivors": list(one.survivors),
                        "signatures": _written(one.signatures),
                    }
                    for one in self.before
                ],
            }
        )

    @classmethod
    def from_text(cls, text: str) -> "SumQuestion":
        """Read one.

        Raises:
            ProtocolError: if it is none.
        """
        parts = _from_json(text)
        try:
            before = tuple(
                OpenedBefore(
                    digest=bytes.fromhex(told["digest"]),
                    survivors=_names(told["survivors"]),
                    signatures=_read(told["signatures"]),
                )
                for told in parts["before"]
            )
            numbers = parts["threshold"], parts["length"]
            if any(
                type(it) is not int or not 0 <= it <= _MOST_VALUES for it in numbers
            ) or not isinstance(parts["question"], str):
                raise ValueError
            return cls(
                cohort=_names(parts["cohort"]),
                threshold=parts["threshold"],
                before=before,
                question=parts["question"],
                length=parts["length"],
                survivors=_names(parts["survivors"]),
                boxes=_read(parts["boxes"]),
            )
        except (ValueError, TypeError, KeyError, AttributeError, binascii.Error):
            raise _invalid() from None


@dataclass(frozen=True, kw_only=True)
class SumAnswer:
    """What a reply brings to a masked sum.

    Attributes:
        commitments: of the institution's secrets, with its masked vector.
        boxes: receiver -> sealed shares of its secrets, with its masked vector.
        shares: survivor -> shares that open it.
        signature: over the context and the survivors whose shares are told.
    """

    commitments: bytes = b""
    boxes: Mapping[str, bytes] = field(default_factory=dict)
    shares: Mapping[str, bytes] = field(default_factory=dict)
    signature: bytes = b""

    def to_text(self) -> str:
        """Write it as JSON."""
        return _to_json(
            {
                "commitments": base64.b64encode(self.commitments).decode(),
                "boxes": _written(self.boxes),
                "shares": _written(self.shares),
                "signature": base64.b64encode(self.signature).decode(),
            }
        )

    @classmethod
    def from_text(cls, text: str) -> "SumAnswer":
        """Read one.

        Raises:
            ProtocolError: if it is none.
        """
        parts = _from_json(text)
        try:
            return cls(
                commitments=base64.b64decode(parts["commitments"], validate=True),
                boxes=_read(parts["boxes"]),
                shares=_read(parts["shares"]),
                signature=base64.b64decode(parts["signature"], validate=True),
            )
        except (ValueError, TypeError, KeyError, AttributeError, binascii.Error):
            raise _invalid() from None


def _written(values: Mapping[str, bytes]) -> dict[str, str]:
    return {name: base64.b64encode(value).decode() for name, value in values.items()}


def _read(values: Mapping[str, str]) -> dict[str, bytes]:
    return {name: base64.b64decode(value, validate=True) for name, value in values.items()}


def _names(values: object) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError
    return tuple(values)


def _to_json(parts: Mapping[str, Any]) -> str:
    return json.dumps(parts, separators=(",", ":"), allow_nan=False)


def _from_json(text: str) -> Any:
    if len(text) > LONGEST_SUM_TEXT:
        raise ProtocolError(
            f"Expected at most {LONGEST_SUM_TEXT} characters about a masked sum; got {len(text)}.",
            code=Refusal.TOO_LARGE,
        )
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise _invalid() from None


def _invalid() -> ProtocolError:
    return ProtocolError(
        "Expected a masked sum's question or answer.", code=Refusal.INVALID_MESSAGE
    )


__all__ = [
    "EVERYBODY",
    "LONGEST_ADVERT",
    "LONGEST_SUM_TEXT",
    "MaskedSums",
    "OpenedBefore",
    "SumAnswer",
    "SumQuestion",
]
