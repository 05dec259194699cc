"""Passes: every forward and backward pass over records has a number of rows that is public.

Whoever sends the tensors knows every record but one. A matrix product takes another kernel for
another number of rows, so that the last bits of every other row would tell how many there are, and
tensors can be chosen that blow these bits up. A pass over records of padded length L therefore has
R(L) rows, a function of the round's public figures and of L alone, and is filled up with one
synthetic record, whose rows count nothing. A record's padded length is a function of that record.
What R(L) is, decides the time a step takes and nothing else.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from confide.tasks.task import Batch, Examples, widened

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
    """

    expected: float
    rate: float
    most: int
    cost: ModelCost

    def rows(self, length: int | None) -> int:
        """Return R for a padded length, a multiple of 8; None for records without lengths."""
        most = min(self.most, max(1, _MOST_ELEMENTS // max(1, self.cost.written)))
        # Few rows waste little where a pass is not full, many share what a pass costs anyway.
        buckets = 1 if length is None else _LENGTHS
        shared = 2 * self.expected / buckets * self.cost.pass_s
        best = math.sqrt(shared / self.cost.row_s(length or 1))
        # Nearly every Poisson sample has at most so many records.
        target = self.expected + 3 * math.sqrt(self.expected * (1 - self.rate))
        if length is not None:
            rows = max(1 << round(math.log2(max(best, 1))), _TOKENS // length)
            return min(rows, 1 << math.ceil(math.log2(max(target, 2))), _power(most))
        limit = max(_ROWS, min(round(best / _ROWS), most // _ROWS) * _ROWS)
        rows = math.ceil(target / max(1, round(target / limit)) / _ROWS) * _ROWS
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
        batch: R rows; those of records come first, in the order of ``indices``.
        indices: indices of the records, int64, shape [k], 0 < k <= R.
        is_record: which rows are records, bool, shape [R].
    """

    batch: Batch
    indices: Tensor
    is_record: Tensor


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


def mark_last(found: Iterator[Pass]) -> Iterator[tuple[Pass | None, bool]]:
    """Yield passes, each with whether it is the last; one that is None where there is none."""
    # An empty sample is a step too: it adds noise, and counts.
    waiting = next(found, None)
    for part in found:
        yield waiting, False
        waiting = part
    yield waiting, True


__all__ = ["Filler", "ModelCost", "Pass", "PassSizes", "ScoringSizes", "mark_last", "passes"]
