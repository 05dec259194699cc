"""What an audit finds, and the verdict on it."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One test of a claim.

    Attributes:
        name: what is tested, in a few words.
        unit: what the figures are in: ``epsilon``, ``C``, ``q``, ``sigma`` or ``correlation``.
        claim: what the plan promises; a fault is proved only by what lies beyond it.
        found: the bound, or what was measured.
        interval: where the truth lies with the confidence asked for; None for a bound.
        cap: largest bound that so many trials can give; None for a measurement.
        trials: what the figure rests on, in words.
        assumes: what it takes for granted, in words; '' for nothing.
        fault: whether the claim is refuted at the level that all tests share.
        meaning: what a fault would mean.
    """

    name: str
    unit: str
    claim: float
    found: float
    interval: tuple[float, float] | None = None
    cap: float | None = None
    trials: str
    assumes: str = ""
    fault: bool
    meaning: str

    @property
    def verdict(self) -> str:
        """The verdict in a word or two."""
        if self.fault:
            return "FAULT"
        if self.cap is None:
            return "consistent"
        # Of many sound bounds at 95 % some are above: by itself that is no alarm.
        return "below the claim" if self.found <= self.claim else "above, perhaps by chance"

    def to_json(self) -> dict[str, Any]:
        """Return the finding as plain values, with its verdict."""
        return {**dataclasses.asdict(self), "verdict": self.verdict}


@dataclass(frozen=True, kw_only=True)
class PartResult:
    """What one part of an audit found.

    Attributes:
        findings: tests of claims.
        shown: figures and texts that are no test, for the report: plain values.
        notes: sentences about what could not be measured, or how it has to be read.
    """

    findings: Sequence[Finding] = ()
    shown: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()


__all__ = ["Finding", "PartResult"]
