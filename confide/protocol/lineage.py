"""What a model was trained from: earlier runs, what each is known by, and what it claims to cost.

A claim of the coordinator: an institution cannot check what a run that it took no part in did. What
it spent itself is in its own ledger, whatever a plan says here.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from confide.config.fields import STRICT

MOST_PARENTS = 64
"""Runs that a lineage may have."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LONGEST_JOB = 300


@dataclass(frozen=True, kw_only=True)
class Parent:
    """One run of a lineage, and the model that it released.

    Attributes:
        model_sha256: of the released model's trainable tensors.
        plan_sha256: of the run's plan, by which institutions' ledgers know it.
        job: the run's name.
        num_rounds: rounds that it was allowed, spare ones included.
        unit: what its guarantee protects: record, group, or none.
        epsilon: of its guarantee, at most, for each institution that took part; None without one.
        delta: of its guarantee; None without one.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    model_sha256: str
    plan_sha256: str
    job: str
    num_rounds: int
    unit: str
    epsilon: float | None = None
    delta: float | None = None

    def problems(self) -> Iterator[str]:
        """Yield what is out of range."""
        for name in ("model_sha256", "plan_sha256"):
            if not is_sha256(getattr(self, name)):
                yield f"{name}: expected 64 hexadecimal digits."
        if not 1 <= len(self.job) <= _LONGEST_JOB or not self.job.isprintable():
            yield f"job: expected 1 to {_LONGEST_JOB} printable characters."
        if self.num_rounds < 1:
            yield f"num_rounds={self.num_rounds}: expected at least 1."
        if self.unit not in ("record", "group", "none"):
            yield "unit: expected record, group or none."
        private = self.unit != "none"
        if private != (self.epsilon is not None) or private != (self.delta is not None):
            yield f"epsilon={self.epsilon}, delta={self.delta}: expected both with a unit alone."
        elif private and not (_positive(self.epsilon) and _positive(self.delta)):
            yield f"epsilon={self.epsilon}, delta={self.delta}: expected > 0."


def is_sha256(text: str) -> bool:
    """Say whether a text is a SHA-256 in hexadecimal digits, as it may stand in a file's name."""
    return _SHA256.fullmatch(text) is not None


def _positive(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and value > 0


def lineage_problems(parents: Sequence[Parent]) -> Iterator[str]:
    """Yield what is wrong with a plan's lineage."""
    if len(parents) > MOST_PARENTS:
        yield f"parents: expected at most {MOST_PARENTS}, got {len(parents)}."
    for number, parent in enumerate(parents[:MOST_PARENTS]):
        yield from (f"parents.{number}.{problem}" for problem in parent.problems())


__all__ = ["MOST_PARENTS", "Parent", "is_sha256", "lineage_problems"]
