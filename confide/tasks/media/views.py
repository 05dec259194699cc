"""Several views of each record, inside its own gradient.

De, Berrada, Hayes, Smith and Balle, "Unlocking High-Accuracy Differentially Private Image
Classification through Scale", 2022, arXiv 2204.13650 (augmentation multiplicity): the gradient of a
record is the mean over its views, and is clipped after that. Mixtures of two views of one record:
Bao et al., "DP-Mix", NeurIPS 2023, arXiv 2311.01295 (self-mixup).

What a unit adds is clipped to C however many views it has: they cost no privacy. It rests on a view
being a function of its record, of the record's place and of random numbers that no record
decides; a mixture with another record would void it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from confide.config.tasks.media.augmentation import Augmentation
from confide.config.tasks.media.pictures import PIXELS
from confide.tasks.task import Batch, Examples

# Random numbers of one view that is not mixed: whether mirrored, moved down, moved right.
_NUMBERS = 3


@dataclass(frozen=True)
class Views:
    """Makes the views of a training's steps.

    Attributes:
        augmentation: how many, and what is done.
        seed: 0 to 2^63 - 1, of this training; nothing about records.
    """

    augmentation: Augmentation
    seed: int

    def of(
        self, examples: Examples, members: Sequence[Tensor], step: int
    ) -> tuple["ViewedExamples", list[Tensor]]:
        """Return rows, one a view, and which of them each unit of a step has.

        Args:
            examples: all records.
            members: indices of the records of each unit, int64, shape [m].
            step: number of the step, from 0.
        """
        none = torch.empty(0, dtype=torch.int64)
        viewed = ViewedExamples(
            examples.columns,
            examples.lengths,
            examples.ragged,
            made=self,
            step=step,
            records=torch.cat([none, *members]),
        )
        sizes = [len(unit) * self.augmentation.views for unit in members]
        return viewed, list(torch.arange(len(viewed)).split(sizes))

    def draw(self, step: int, record: int) -> NDArray[numpy.float64]:
        """Draw for each view of a record, whatever else is sampled: shape [views, 7].

        Numbers in [0, 1): three for the view, three for another that is mixed in, the view's share.
        """
        stream = numpy.random.Philox(key=self.seed, counter=[0, 0, record, step])
        generator = numpy.random.Generator(stream)
        count, alpha = self.augmentation.views, self.augmentation.mixup
        share = generator.beta(alpha, alpha, (count, 1)) if alpha else numpy.ones((count, 1))
        return numpy.hstack([generator.random((count, 2 * _NUMBERS)), share])


@dataclass(frozen=True, kw_only=True)
class ViewedExamples(Examples):
    """Rows that are views of records: row r is view r % views of record records[r // views].

    A view is made when it is taken, so that memory does not grow with their number.

    Attributes:
        made: what makes them.
        step: number of the step.
        records: indices of the records, int64, shape [k].
    """

    made: Views
    step: int
    records: Tensor

    def __len__(self) -> int:
        return len(self.records) * self.made.augmentation.views

    def take(self, indices: Tensor) -> Batch:
        """Return views (indices of rows, int64, shape [b], b >= 1)."""
        count, how = self.made.augmentation.views, self.made.augmentation
        records = self.records[indices // count]
        batch = super().take(records)
        each = {record: self.made.draw(self.step, record) for record in set(records.tolist())}
        places = zip(records.tolist(), (indices % count).tolist(), strict=True)
        pixels = batch[PIXELS]
        drawn = torch.from_numpy(numpy.stack([each[record][view] for record, view in places]))
        drawn = drawn.to(pixels.device)
        seen = _seen(pixels, drawn[:, :_NUMBERS], how)
        if how.mixup:
            share = drawn[:, -1].float().view(-1, 1, 1, 1)
            other = _seen(pixels, drawn[:, _NUMBERS:-1], how)
            mixed = seen.float() * share + other.float() * (1 - share)
            seen = (mixed if pixels.is_floating_point() else mixed.round()).to(pixels.dtype)
        return {**batch, PIXELS: seen}


def _seen(pixels: Tensor, drawn: Tensor, how: Augmentation) -> Tensor:
    """Mirror and move pictures [b, c, h, w] as random numbers [b, 3] say."""
    height, width = pixels.shape[2:]
    rows = _moved(height, drawn[:, 1], how.shift)
    columns = _moved(width, drawn[:, 2], how.shift)
    if how.flip:
        columns = torch.where(drawn[:, :1] < 0.5, columns.flip(1), columns)
    found = pixels.gather(2, rows[:, None, :, None].expand(-1, pixels.shape[1], -1, width))
    return found.gather(3, columns[:, None, None, :].expand(-1, pixels.shape[1], height, -1))


def _moved(side: int, drawn: Tensor, shift: float) -> Tensor:
    """Return which pixel of a side stands at each place of it, int64, shape [b, side]."""
    most = min(round(shift * side), side - 1)
    offsets = (drawn * (2 * most + 1)).long() - most
    places = (torch.arange(side, device=drawn.device) + offsets[:, None]).abs()
    return side - 1 - (side - 1 - places).abs()


__all__ = ["ViewedExamples", "Views"]
