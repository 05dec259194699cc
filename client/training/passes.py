"""Passes: every forward and backward pass over records has a number of rows that is public.

Whoever sends the tensors knows every record but one. A matrix product takes another kernel for
another number of rows, so that the last bits of every other row would tell how many there are, and
tensors can be chosen that blow these bits up. A pass over records of padded length L therefore has
R(L) rows, a function of the round's public figures and of L alone, and is filled up with one
synthetic record, whose rows count nothing. A record's padded length is a function of that record.
What R(L) is, decides the time a step takes and nothing else.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from confide.moved import moved
from confide.tasks.task import LABELS, Batch, Examples, widened

# Kernels that work in vectors treat what is left over in another way: rows times tokens are a
# multiple of 16, and rows of records without lengths one of 32 where there are as many.
_TOKENS, _ROWS = 16, 32
# Measured on one core: seconds that a pass and a layer cost whatever they are given, that a weight
# costs for a token forth and back, an element of a written-out gradient, and one of a sum that a
# pass adds to. They choose between sizes, and no promise rests on them.
_PASS_S, _LAYER_S, _WEIGHT_S, _ELEMENT_S, _SUM_S = 5e-4, 1.5e-4, 5e-11, 4e-9, 4e-9
# Padded lengths that the records of one step are taken to have, in choosing a size.
_LENGTHS = 2
# Elements of written-out gradients in one pass, 1 GiB of float32.
_MOST_ELEMENTS = 2**28
# Tokens in one pass that scores, and rows where records have no lengths.
_SCORED_TOKENS, _SCORED_ROWS = 512, 256


@dataclass(frozen=True)
class ModelCost:
    """What a pass through a model costs, roughly.

    Attributes:
        pass_s: seconds that a pass costs whatever it is given.
        weights: parameters that are multiplied, all of them, frozen ones included.
        written: elements of one record's written-out gradient; 0 where none is written.
    """

    pass_s: float
    weights: int
    written: int

    @staticmethod
    def of(model: nn.Module, *, writes: bool) -> "ModelCost":
        """Count what a model has; ``writes``: whether gradients of records are written out."""
        owners = [m for m in model.modules() if next(m.parameters(recurse=False), None) is not None]
        weights = sum(
            p.numel()
            for owner in owners
            if not isinstance(owner, nn.Embedding)
            for p in owner.parameters(recurse=False)
        )
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        shared = _PASS_S + len(owners) * _LAYER_S + (0.0 if writes else trained * _SUM_S)
        return ModelCost(shared, weights, trained if writes else 0)

    def row_s(self, tokens: int) -> float:
        """Return the seconds that a row of so many tokens costs."""
        # An embedding alone multiplies nothing.
        return tokens * max(1, self.weights) * _WEIGHT_S + self.written * _ELEMENT_S


@dataclass(frozen=True)
class PassSizes:
    """R(L): the rows of a round's passes.

    Attributes:
        expected: expected number of records in a step, q * n.
        rate: q.
        most: largest number of rows, by ``trainer.physical_batch_size``.
        cost: of the model.
        kinds: how many numbers of places the groups of a step are taken to have.
    """

    expected: float
    rate: float
    most: int
    cost: ModelCost
    kinds: int = 1

    def rows(self, length: int | None, places: int = 1) -> int:
        """Return R for a padded length.

        Args:
            length: a multiple of 8; None for records without lengths.
            places: number of rows that a unit takes, a power of two; R counts units.
        """
        most = min(self.most, max(1, _MOST_ELEMENTS // max(1, self.cost.written)))
        most = max(1, most // places)
        # Few rows waste little where a pass is not full, many share what a pass costs anyway.
        expected = self.expected / self.kinds
        buckets = 1 if length is None else _LENGTHS
        shared = 2 * expected / buckets * self.cost.pass_s
        best = math.sqrt(shared / (self.cost.row_s(length or 1) * places))
        # Nearly every Poisson sample has at most so many records.
        target = expected + 3 * math.sqrt(expected * (1 - self.rate))
        if length is not None:
            rows = max(1 << round(math.log2(max(best, 1))), _TOKENS // length)
            return min(rows, 1 << math.ceil(math.log2(max(target, 2))), _power(most))
        step = max(1, _ROWS // places)
        limit = max(step, min(round(best / step), most // step) * step)
        rows = math.ceil(target / max(1, round(target / limit)) / step) * step
        return max(1, min(rows, most))


@dataclass(frozen=True)
class ScoringSizes:
    """R(L) of passes that score: the same for every institution, whatever it holds.

    Attributes:
        most: largest number of rows.
    """

    most: int

    def rows(self, length: int | None) -> int:
        """Return R for a padded length, a multiple of 8; None for records without lengths."""
        if length is None:
            return min(self.most, _SCORED_ROWS)
        return _power(min(self.most, max(1, _SCORED_TOKENS // length)))


def _power(number: int) -> int:
    """Return the largest power of two that is at most a number of at least 1."""
    return 1 << (number.bit_length() - 1)


@dataclass(frozen=True, eq=False)
class Pass:
    """The rows of one pass.

    Attributes:
        batch: R units, of one row each or of several; those that count come first, in the order of
            ``indices``.
        indices: indices of the records or groups that count, int64, shape [k], 0 < k <= R.
        is_record: which units count, bool, shape [R].
        weights: what each row counts in its unit's mean, shape [R, places]; None: rows are units.
    """

    batch: Batch
    indices: Tensor
    is_record: Tensor
    weights: Tensor | None = None


class Filler:
    """The synthetic record that fills passes up.

    Args:
        examples: at least one invented record, the first of which it is; None for zeros in every
            column.
    """

    def __init__(self, examples: Examples | None) -> None:
        self._row: Batch | None = None
        if examples is not None:
            self._row = {name: column[:1] for name, column in examples.columns.items()}

    def fill(self, batch: Batch, rows: int, ragged: Mapping[str, int]) -> Batch:
        """Return a batch with copies of the synthetic record after its own, up to ``rows``."""
        missing = rows - len(next(iter(batch.values())))
        if not missing:
            return batch
        filled = {}
        for name, column in batch.items():
            row = torch.zeros_like(column[:1]) if self._row is None else self._row[name]
            if name in ragged:
                row = widened(row, column.shape[1], fill=ragged[name])
            row = row.to(column)
            filled[name] = torch.cat([column, row.expand(missing, *row.shape[1:])])
        return filled


def passes(
    examples: Examples, indices: Tensor, sizes: PassSizes | ScoringSizes, filler: Filler
) -> Iterator[Pass]:
    """Deal records out to passes, each of one padded length.

    Args:
        examples: all records.
        indices: those to be dealt out, int64, shape [k], k >= 0.
        sizes: rows of a pass.
        filler: fills passes up.
    """
    for bucket in examples.length_buckets(indices) if len(indices) else []:
        rows = sizes.rows(examples.padded(bucket))
        for chunk in bucket.split(rows):
            batch = filler.fill(examples.take(chunk), rows, examples.ragged)
            yield Pass(batch, chunk, torch.arange(rows) < len(chunk))


def places_of(records: int) -> int:
    """Return how many rows a group of so many records takes, a function of that group alone."""
    return 1 << (records - 1).bit_length()


def group_passes(
    examples: Examples, members: Sequence[Tensor], sizes: PassSizes, filler: Filler
) -> Iterator[Pass]:
    """Deal groups out to passes, whole.

    A pass has groups of one padded length, that of their longest record, and of one number of
    places; so many groups share it as these two figures say.

    Args:
        examples: all records.
        members: indices of the records of each group, each of at least one.
        sizes: number of groups in a pass.
        filler: fills places up that a group has no record for, which count nothing.
    """
    kinds: dict[tuple[int | None, int], list[int]] = {}
    for number, group in enumerate(members):
        kind = examples.padded(group), places_of(len(group))
        kinds.setdefault(kind, []).append(number)
    for (length, places), numbers in sorted(kinds.items()):
        units = sizes.rows(length, places)
        for start in range(0, len(numbers), units):
            chunk = torch.tensor(numbers[start : start + units])
            rows = _places([len(members[number]) for number in chunk.tolist()], units, places)
            records = torch.cat([members[number] for number in chunk.tolist()])
            batch = examples.take(records)
            # One row of the synthetic record behind all others, which every empty place repeats.
            batch = filler.fill(batch, len(records) + 1, examples.ragged)
            taken = moved(rows.flatten(), batch[LABELS].device)
            counted = (rows < len(records)).float()
            yield Pass(
                {name: column[taken] for name, column in batch.items()},
                chunk,
                torch.arange(units) < len(chunk),
                counted / counted.sum(dim=1, keepdim=True).clamp_min(1),
            )


def _places(counts: list[int], units: int, places: int) -> Tensor:
    """Number the rows of groups one after the other, and every empty place as the row after them.

    Shape [units, places].
    """
    rows = torch.full((units, places), sum(counts))
    start = 0
    for unit, count in enumerate(counts):
        rows[unit, :count] = torch.arange(start, start + count)
        start += count
    return rows


def mark_last(found: Iterator[Pass]) -> Iterator[tuple[Pass | None, bool]]:
    """Yield passes, each with whether it is the last; one that is None where there is none."""
    # An empty sample is a step too: it adds noise, and counts.
    waiting = next(found, None)
    for part in found:
        yield waiting, False
        waiting = part
    yield waiting, True


__all__ = [
    "Filler",
    "ModelCost",
    "Pass",
    "PassSizes",
    "ScoringSizes",
    "group_passes",
    "mark_last",
    "passes",
    "places_of",
]
