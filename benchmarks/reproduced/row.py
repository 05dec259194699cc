"""What is known of a published figure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kept import Figures

POINT = 1.0
"""How far a figure may be off where no standard deviation was published."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """One figure.

    Attributes:
        value: in percent; None where a paper only draws it.
        deviation: standard deviation over the published seeds, in points; None where none is
            given.
    """

    value: float | None = None
    deviation: float | None = None

    @property
    def tolerance(self) -> float:
        """Points that a figure may be off."""
        return POINT if self.deviation is None else self.deviation


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of somebody's table.

    Attributes:
        source: paper and program.
        words: settings, folders aside.
        seeds: of the runs whose mean is compared.
        published: name -> figure.
        measure_fn: (settings, seed, folder) -> figures of one run, in percent unless named
            otherwise.
        differences: from the published setting, a sentence each.
        needs: strategy without which the row is refused.
    """

    source: str
    words: tuple[str, ...]
    seeds: tuple[int, ...]
    published: Mapping[str, Published]
    measure_fn: Callable[[Sequence[str], int, Path], Figures]
    differences: tuple[str, ...] = field(default=())
    needs: str | None = None


__all__ = ["POINT", "Published", "Row"]
