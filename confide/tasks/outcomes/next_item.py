"""The next item: one of a catalogue, by cross entropy over all of it.

Records are read without the catalogue, as ids; the task makes places in it. Place 0 stands for an
item that the catalogue lacks: nothing is learnt from such a record, and it counts as missed.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy

from confide.config.outcomes.next_item import NEXT_ITEM, NextItemConfig
from confide.config.outcomes.outcome import Labelling
from confide.config.spelling import canonical_name
from confide.tasks.outcomes.outcome import Targets, Values, all_there, at_least_float32
from confide.tasks.reading import Problem, first

if TYPE_CHECKING:
    from torch import Tensor

UNKNOWN = 0
"""Place of an item that the catalogue lacks."""


class NextItem:
    """Targets are ids while they are read, then places from 1 on, int64 of shape [n].

    Args:
        config: how many items a prediction names.
        labelling: not read.
    """

    target_shape: tuple[int, ...] = ()
    score_shape: tuple[int, ...] = ()
    score_name = "probabilities"
    score_unit = 1.0

    def __init__(self, config: NextItemConfig, labelling: Labelling) -> None:
        self._config = config

    def read(self, columns: Mapping[str, Sequence[object]]) -> Targets:
        """Read ids."""
        text = ["" if value is None else str(value).strip() for value in columns[NEXT_ITEM]]
        known = numpy.array([bool(value) for value in text], dtype=bool)
        problems = []
        if not known.all():
            problems.append(
                Problem(
                    f"Column {NEXT_ITEM}: {(~known).sum()} of {len(known)} items are null; fill"
                    " them in or remove these records.",
                    first(~known),
                )
            )
        return Targets(numpy.array([canonical_name(one) for one in text], str), known, problems)

    def counts(self, values: Values) -> dict[str, int]:
        """Count records, and not items: which items are taken says who took part."""
        return {"records": len(values)}

    def count_problems(
        self, counts: Mapping[str, int], *, total: int, minimum: int
    ) -> Iterator[str]:
        """Yield that there are too few records."""
        if sum(counts.values()) < minimum:
            yield (
                f"{sum(counts.values())} of {total} records have a next item, expected at least"
                f" data.min_per_label={minimum}; bring more, or lower it."
            )

    def strata(self, values: Values) -> list[str]:
        """Name one stratum: items are too many to be alike by."""
        return ["records"] * len(values)

    def invent(self, count: int, generator: numpy.random.Generator) -> Mapping[str, list[str]]:
        """Name items that may not exist: a task invents those of its catalogue."""
        return {NEXT_ITEM: [str(place) for place in generator.integers(1, 1000, count)]}

    def loss(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """Return cross entropy over all items; 0 where the catalogue lacks the target."""
        from torch.nn import functional

        places = (targets - 1).clamp(min=0)
        losses = functional.cross_entropy(at_least_float32(outputs), places, reduction="none")
        return losses * (targets != UNKNOWN)

    def scores(self, outputs: "Tensor") -> "Tensor":
        """Return probabilities of items, shape [b, N]."""
        return outputs.float().softmax(dim=-1)

    def measured(self, scores: Values, targets: Values) -> tuple[Values, Values]:
        """Return tallies as they are."""
        return scores.astype(numpy.float64), targets

    def prediction_columns(self) -> Sequence[str]:
        """Name items and their texts, the likeliest first."""
        return [
            f"{what}_{place}"
            for place in range(1, self._config.top + 1)
            for what in ("item", "text")
        ]

    def predictions(self, scores: Values) -> Mapping[str, Sequence[object] | Values]:
        """Return nothing: the task knows what its catalogue calls items."""
        return {}

    def placeholder(self) -> Mapping[str, str]:
        """Return an item that may not exist."""
        return {NEXT_ITEM: "?"}

    def labelled(self, columns: Mapping[str, Sequence[str | None]]) -> list[bool]:
        """Say which records have a next item."""
        return all_there(columns, (NEXT_ITEM,))


__all__ = ["UNKNOWN", "NextItem"]
