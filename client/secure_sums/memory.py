"""What an institution has to remember of masked sums, so that none is opened twice.

In a deployment these are events of the ledger; in a simulation they are gone with the process.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class MaskedBefore:
    """A sum that the institution has put a vector into.

    Attributes:
        update: SHA-256 of the update, before it was weighted and scaled.
        values: SHA-256 of the vector, before it was masked.
        scores: SHA-256 of each split's scores in that sum.
        threshold: t of the sum.
        signers: everybody in its cohort -> the trainer's public key, as
            :func:`~confide.secure_aggregation.survivors.key_to_text` writes it.
        unproved: digests of the sums before which had been opened here, and which too few were
            shown to have signed.
        survivors: names of those whose sum it helped to open, sorted; empty before it did.
    """

    update: str
    values: str
    scores: tuple[str, ...] = ()
    threshold: int = 0
    signers: Mapping[str, str] = field(default_factory=dict)
    unproved: tuple[bytes, ...] = ()
    survivors: tuple[str, ...] = ()


class SumMemory(Protocol):
    """Remembers the sums of one job."""

    def get(self, digest: bytes) -> MaskedBefore | None:
        """Return what was masked in a context; None if nothing was."""

    def all(self) -> Iterable[tuple[bytes, MaskedBefore]]:
        """Return every sum of the job, in the order in which they were masked."""

    def mask(self, digest: bytes, masked: MaskedBefore) -> None:
        """Remember a vector, before it leaves."""

    def open(self, digest: bytes, survivors: Sequence[str]) -> None:
        """Remember whose sum is opened, before a share leaves."""


@dataclass
class SumsInMemory:
    """A :class:`SumMemory` that ends with the process."""

    sums: dict[bytes, MaskedBefore] = field(default_factory=dict)

    def get(self, digest: bytes) -> MaskedBefore | None:
        """Return what was masked in a context; None if nothing was."""
        return self.sums.get(digest)

    def all(self) -> Iterable[tuple[bytes, MaskedBefore]]:
        """Return every sum of the job, in the order in which they were masked."""
        return self.sums.items()

    def mask(self, digest: bytes, masked: MaskedBefore) -> None:
        """Remember a vector."""
        self.sums[digest] = masked

    def open(self, digest: bytes, survivors: Sequence[str]) -> None:
        """Remember whose sum is opened."""
        self.sums[digest] = replace(self.sums[digest], survivors=tuple(survivors))


__all__ = ["MaskedBefore", "SumMemory", "SumsInMemory"]
