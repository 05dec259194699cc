"""Settings of what a coordinator sees of a round: every update, or their sum alone."""

from collections.abc import Iterator
from dataclasses import dataclass

from confide.config.fields import setting

MOST_INSTITUTIONS = 100
"""Institutions in one masked sum; each brings boxes for all others, which grow with the square."""
FEWEST_INSTITUTIONS = 3
"""Of two, each could take its own vector off the sum and have the other's."""
UNMASKED = (
    "in a masked sum travel the metrics of all test records, and no sums by group; leave"
    " task.subgroups out, or set aggregation=plain"
)
"""Why metrics are not told by group where the coordinator sees sums alone."""


@dataclass
class AggregationConfig:
    """What the coordinator sees of a round."""

    kind: str = setting(
        "plain",
        "What the coordinator sees of a round: each institution's update (plain), or their sum"
        " alone, by masks that cancel in it (secure).",
        choices=("plain", "secure"),
    )
    threshold: int | None = setting(
        None,
        "Institutions whose shares open a masked sum, of those in its cohort; null: the least that"
        " withstands a third of them colluding with the coordinator.",
        ge=2,
        le=MOST_INSTITUTIONS,
    )
    sum_bits: int = setting(
        64,
        "Bits of each value of a sum, 64 or 32. 64: no rounding that float32 would show; 32: masked"
        " updates are as large as float32's, and the mean of n institutions' is exact to within n *"
        " server.max_update_value / 2^30, of which a lower bound makes less.",
        ge=32,
        le=64,
    )
    simulated: str = setting(
        "emulate",
        "How confide simulate carries out a secure sum: as a plain one, which has the same bits"
        f" (emulate), or with keys and masks, up to {MOST_INSTITUTIONS} institutions (real).",
        choices=("emulate", "real"),
    )

    @property
    def is_secure(self) -> bool:
        """Whether the coordinator sees sums alone."""
        return self.kind == "secure"

    @property
    def is_simulated_with_masks(self) -> bool:
        """Whether a simulation carries out masked sums with keys and masks."""
        return self.is_secure and self.simulated == "real"

    def problems(self) -> Iterator[str]:
        """Yield contradictions, one sentence each."""
        if self.sum_bits not in (32, 64):
            yield f"sum_bits={self.sum_bits}: expected 32 or 64."
        if self.threshold is not None and not self.is_secure:
            yield f"threshold={self.threshold}: only masked sums have one; set aggregation=secure."


__all__ = ["FEWEST_INSTITUTIONS", "MOST_INSTITUTIONS", "UNMASKED", "AggregationConfig"]
