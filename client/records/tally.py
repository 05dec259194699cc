"""What became of the records of a source: those read are those used and those left out, by reason.

Whatever leaves records out counts them here, and nowhere else.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

REASONS: Mapping[str, str] = {
    "repeated": "repeat a unit that is there already, with the same label or without one",
    "conflicting": "have another label than most records of their unit, or no label has most",
    "max_records": "lie beyond data.max_records",
    "partitioner": "are given to no institution by data.partitioner",
    "arrival": "are not there yet (data.until), or old and not for testing (data.old_before)",
    "unlabelled": "have no label, and their owner's records are for validation or test",
    "max_records_per_group": (
        "lie beyond privacy.max_records_per_group of their owner and are not trained on"
    ),
}
"""Reason -> the end of a sentence that begins with a number of records."""
ASKED_FOR = frozenset({"max_records", "arrival"})
"""Reasons that a setting asks for by a number; nobody has to be warned of them."""
LOUD = 0.03
"""Share of the records read beyond which what nobody asked for is a warning of its own."""


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Counts of records: read = used + left out.

    Attributes:
        read: number of records read.
        left_out: reason, one of :data:`REASONS` -> number of records; none of them is 0.
    """

    read: int
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = sorted(set(self.left_out) - set(REASONS))
        if unknown or self.used < 0 or min(self.left_out.values(), default=1) < 1:
            raise ValueError(
                f"read={self.read}, left_out={dict(self.left_out)}: expected counts of"
                f" {', '.join(REASONS)} that add up to no more than what was read."
            )

    @property
    def used(self) -> int:
        """Number of records that are left."""
        return self.read - sum(self.left_out.values())

    def without(self, reason: str, count: int) -> "Tally":
        """Return the counts after further records were left out; 0 changes nothing."""
        if not count:
            return self
        counted = {**self.left_out, reason: self.left_out.get(reason, 0) + count}
        return Tally(read=self.read, left_out=counted)

    def to_json(self) -> dict[str, object]:
        """Return plain values, as ``summary.json`` has them."""
        return {"records": self.read, "used": self.used, "left_out": dict(self.left_out)}

    @property
    def is_loud(self) -> bool:
        """Whether more than a few per cent are left out that nobody asked to leave out."""
        unasked = sum(n for reason, n in self.left_out.items() if reason not in ASKED_FOR)
        return unasked > LOUD * self.read

    def sentences(self) -> Iterator[str]:
        """Yield what was left out, in words; nothing if nothing was."""
        if not self.left_out:
            return
        share = 1 - self.used / self.read
        begins = "MANY RECORDS ARE LEFT OUT: " if self.is_loud else ""
        listed = "; ".join(f"{n} {REASONS[reason]}" for reason, n in self.left_out.items())
        yield (
            f"{begins}{self.used} of {self.read} records are used, {share:.1%} are left out:"
            f" {listed}."
        )


__all__ = ["ASKED_FOR", "LOUD", "REASONS", "Tally"]
