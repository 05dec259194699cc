"""Masks: a class for every pixel, under the mean of the pixels' cross entropies and soft Dice.

Both are of one picture alone: Dice of a batch (Milletari et al., "V-Net", 3DV 2016, has it of a
volume) would mix records. A target of n records is [n, h, w]; as records are read, before files are
decoded, which classes each mask holds, [n, c].
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy

from confide.config.outcomes.mask import MaskConfig
from confide.config.outcomes.outcome import Labelling
from confide.held import parse_held
from confide.metrics.outcomes.mask import mask_figures
from confide.pictures.masks import BLANK, PRESENT, PROBLEMS
from confide.tasks.outcomes.outcome import Targets, Values
from confide.tasks.reading import Problem

if TYPE_CHECKING:
    from torch import Tensor


class Mask:
    """Targets as above; scores are tallies, whose columns are those of ``mask_figures``.

    Args:
        config: column and classes.
        labelling: not read.
    """

    score_name, score_unit = "probabilities", 1.0

    def __init__(self, config: MaskConfig, labelling: Labelling) -> None:
        self._config, self._names = config, list(config.labels)

    @property
    def target_shape(self) -> tuple[int, ...]:
        """A class a pixel."""
        return (-1, -1)

    @property
    def score_shape(self) -> tuple[int, ...]:
        """A number a figure."""
        return (len(mask_figures(self._names).most),)

    def read(self, columns: Mapping[str, Sequence[object]]) -> Targets:
        """Read which classes each mask holds."""
        cells = [parse_held(cell) for cell in columns[self._config.column]]
        values = numpy.zeros((len(cells), len(self._names)), dtype=numpy.int64)
        wrong = ["missing" if one is None else "" for one in cells]
        for index, one in enumerate(cells):
            if one is not None and not one.sha256:
                wrong[index] = one.findings[0]
            for finding in () if one is None or wrong[index] else one.findings:
                values[index, int(finding.removeprefix(PRESENT))] = 1
        problems = [
            Problem(
                f"Column {self._config.column}: {wrong.count(why)} of {len(wrong)} masks"
                f" {PROBLEMS[why]}.",
                wrong.index(why),
            )
            for why in PROBLEMS
            if why in wrong
        ]
        return Targets(values, numpy.array([not why for why in wrong], dtype=bool), problems)

    def _present(self, values: Values) -> Values:
        if values.ndim == 2:
            return values > 0
        flat = values.reshape(len(values), -1)
        return numpy.stack([(flat == number).any(axis=1) for number in range(len(self._names))], 1)

    def counts(self, values: Values) -> dict[str, int]:
        """Count the pictures that each class is in."""
        present = self._present(values)
        return {name: int(present[:, at].sum()) for at, name in enumerate(self._names)}

    def count_problems(
        self, counts: Mapping[str, int], *, total: int, minimum: int
    ) -> Iterator[str]:
        """Yield a sentence for each class that is in too few pictures."""
        for name in self._names:
            if counts[name] < minimum:
                yield (
                    f"Class {name}: in {counts[name]} masks, expected at least"
                    f" data.min_per_label={minimum}; bring more records, or lower"
                    " data.min_per_label."
                )

    def strata(self, values: Values) -> list[str]:
        """Name the last class that is in each mask: the rarer ones come behind the others."""
        present = self._present(values)
        last = [int(numpy.flatnonzero(row)[-1]) if row.any() else 0 for row in present]
        return [self._names[number] for number in last]

    def invent(self, count: int, generator: numpy.random.Generator) -> Mapping[str, list[str]]:
        """Return masks of one class; a task with pictures invents both together."""
        return {self._config.column: [BLANK] * count}

    def loss(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """Return the mean cross entropy of a picture's pixels, and 1 - its soft Dice.

        Args:
            outputs: logits, shape [b, c, h, w].
            targets: classes, shape [b, h, w].
        """
        from torch.nn.functional import cross_entropy, one_hot

        from confide.tasks.outcomes.outcome import at_least_float32

        logits, classes = at_least_float32(outputs), targets.long()
        entropy = cross_entropy(logits, classes, reduction="none").flatten(1).mean(dim=1)
        told = logits.softmax(dim=1).flatten(2)[:, 1:]
        there = one_hot(classes, len(self._names)).permute(0, 3, 1, 2).flatten(2)[:, 1:].to(told)
        # One more on both sides: of a picture without the class, telling none of it is right.
        overlap = 2 * (told * there).sum(dim=2) + 1
        dice = (overlap / (told.sum(dim=2) + there.sum(dim=2) + 1)).mean(dim=1)
        return entropy + 1 - dice

    def scores(self, outputs: "Tensor") -> "Tensor":
        """Return probabilities of each pixel's classes, shape [b, c, h, w]."""
        return outputs.float().softmax(dim=1)

    def tally(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """Return what each record adds, [b, w] in float64: the columns of ``mask_figures``."""
        import torch

        told, there = outputs.argmax(dim=1), targets.long()
        numbers = torch.arange(len(self._names), device=told.device)[:, None, None]
        ours, theirs = told[:, None] == numbers, there[:, None] == numbers
        both, either = (
            part.flatten(2).double().mean(dim=2) for part in (ours & theirs, ours | theirs)
        )
        # Twice what is common over what both have; 1 where neither has any.
        each = torch.where(either > 0, 2 * both / (both + either).clamp(min=1e-12), 1.0)
        columns = [
            torch.ones(len(told), dtype=torch.float64, device=told.device),
            self.loss(outputs, targets).double(),
            each[:, 1:].mean(dim=1),
            (told == there).flatten(1).double().mean(dim=1),
        ]
        sums = torch.stack([both, either], dim=2).flatten(1)
        return torch.cat([torch.stack(columns, dim=1), sums], dim=1).cpu()

    def measured(self, scores: Values, targets: Values) -> tuple[Values, Values]:
        """Return tallies as they are, with targets that nobody reads."""
        return scores, numpy.zeros(len(scores))

    def prediction_columns(self) -> Sequence[str]:
        """Name the column of masks."""
        return ("prediction",)

    def predictions(self, scores: Values) -> Mapping[str, Sequence[object] | Values]:
        """Return nothing: of tallies no prediction follows, and the task writes them of outputs."""
        return {}

    def placeholder(self) -> Mapping[str, str]:
        """Return a mask of the first class alone."""
        return {self._config.column: BLANK}

    def labelled(self, columns: Mapping[str, Sequence[str | None]]) -> list[bool]:
        """Say which records have a mask."""
        return [mask is not None for mask in columns.get(self._config.column, ())]


def run_lengths(classes: Values) -> dict[str, list[int]]:
    """Write the classes of a picture [h, w] as runs, row by row.

    Returns:
        Class, as text -> first pixel and number of pixels of each run, in turn, from 0. A class
        that is nowhere is not named.

    >>> run_lengths(numpy.array([[0, 1], [1, 0]]))
    {'0': [0, 1, 3, 1], '1': [1, 2]}
    """
    flat = classes.ravel()
    starts = numpy.flatnonzero(numpy.concatenate([[True], flat[1:] != flat[:-1]]))
    lengths = numpy.diff(numpy.append(starts, len(flat)))
    runs: dict[str, list[int]] = {str(one): [] for one in sorted(set(flat[starts].tolist()))}
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        runs[str(flat[start])] += [start, length]
    return runs


__all__ = ["Mask", "run_lengths"]
