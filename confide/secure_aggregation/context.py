"""What one masked sum is about.

Its digest is in every derived key, every sealed box and the ledger's name of the mechanism. Masks
of different plans, tensors, cohorts or rounds therefore do not cancel, whatever a coordinator sends
to whom (Pasquini et al. 2022, arXiv 2111.07380).
"""

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from confide.errors import ProtocolError
from confide.protocol.refusals import Refusal
from confide.secure_aggregation.adverts import Advert
from confide.secure_aggregation.keys import LABEL

LARGEST_COHORT = 1000


@dataclass(frozen=True, kw_only=True)
class SumContext:
    """One masked sum.

    Attributes:
        job: name of the job.
        server_round: round that it is of, from 1.
        question: SHA-256 of the plan and of the tensors that the round starts from.
        cohort: adverts of all who may be in it, by name.
        threshold: t, shares that open a secret.
        scale_bits: s: a value x of weight n is round(n x 2^s).
        length: d, number of values.
        bits: of each word, 64 or 32: sums are modulo 2^bits.
    """

    job: str
    server_round: int
    question: str
    cohort: tuple[Advert, ...]
    threshold: int
    scale_bits: int
    length: int
    bits: int = 64

    @functools.cached_property
    def digest(self) -> bytes:
        """SHA-256 over everything, 32 bytes."""
        parts = [
            self.job,
            self.server_round,
            self.question,
            [advert.stated for advert in self.cohort],
            self.threshold,
            self.scale_bits,
            self.length,
            self.bits,
        ]
        text = json.dumps(parts, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(LABEL + b"/context/" + text.encode()).digest()

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the cohort, in the order of their places."""
        return tuple(advert.name for advert in self.cohort)

    def others(self, name: str) -> list[str]:
        """Return everybody's name but one, in order."""
        return [other for other in self.names if other != name]

    def gone(self, survivors: Sequence[str]) -> list[str]:
        """Return the names of those who are not among the survivors, in order."""
        alive = set(survivors)
        return [name for name in self.names if name not in alive]

    def check_shape(self, own: str) -> None:
        """Check that names and keys are each one's own, and that a name is among them.

        Raises:
            ProtocolError: if not.
        """
        keys = {advert.public_key for advert in self.cohort}
        if (
            list(self.names) != sorted(set(self.names))
            or len(keys) < len(self.names)
            or own not in self.names
            or len(self.names) > LARGEST_COHORT
        ):
            raise ProtocolError(
                f"Expected a cohort of at most {LARGEST_COHORT}, sorted, without a name or key"
                f" twice, with {own} in it.",
                code=Refusal.SUM_COHORT,
            )


def least_threshold(count: int, colluding: int) -> int:
    """Return the least t with 2 t > n + c.

    With it the coordinator and c institutions together never learn both secrets of another one:
    each needs t - c honest shares, and each honest institution answers for one set of survivors.

    Args:
        count: n, size of the cohort.
        colluding: c.
    """
    return (count + colluding) // 2 + 1


def most_colluding(count: int) -> int:
    """Return the number of colluding institutions that a cohort withstands where nobody said."""
    return (count - 1) // 3


__all__ = ["LARGEST_COHORT", "SumContext", "least_threshold", "most_colluding"]
