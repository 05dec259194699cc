"""The Gram matrix that institutions released before a run, as its plan names it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from confide.config.fields import STRICT
from confide.protocol.lineage import is_sha256


@dataclass(frozen=True, kw_only=True)
class ReleasedGram:
    """A Gram matrix of encoded rows; the coordinator keeps it, and the plan has its hash.

    Attributes:
        job: the job that each institution's ledger counts the release under.
        epsilon: what the release costs a unit, at the plan's delta.
        sha256: hash of the sum of what institutions released.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    job: str
    epsilon: float
    sha256: str

    def problems(self, *, budget: float) -> Iterator[str]:
        """Yield what does not fit a plan.

        Args:
            budget: epsilon of the plan.
        """
        if not 0 < self.epsilon < budget:
            yield (
                f"gram.epsilon={self.epsilon:g}: expected > 0 and less than"
                f" privacy.epsilon={budget:g}, of which it is a part."
            )
        if not is_sha256(self.sha256):
            yield "gram.sha256: expected 64 hexadecimal digits."


__all__ = ["ReleasedGram"]
