"""Rows: what a record adds has to be the same, bit for bit, in whatever company and at any place.

Passes of a fixed number of rows (`confide.client.training.passes`) and aligned layers are to bring
that about; here it is looked at, with synthetic records, which spend nothing: when a trainer is
built, and each round on the very tensors that came. Which kernel computes a row follows from shapes
and addresses, not from values, so that kernels that differ show on nearly any record. What is
looked at follows from public figures alone, never from which lengths an institution's records have:
the shortest, the longest and a middle padded length. Lengths between these rest on the fixed number
of rows and on kernels being chosen alike.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from confide.client.training.passes import Filler, PassSizes, ScoringSizes
from confide.client.training.private.step import expect_hook_warning
from confide.errors import RowsDifferError
from confide.protocol.tensors import Tensors
from confide.tasks.task import LENGTH_STEP, Batch, Examples, padded_length

if TYPE_CHECKING:
    from confide.client.training.private.dp_sgd import DpSgd

ScoresFn = Callable[[Examples], Tensor]
"""Records -> scores of each, [n, ...]."""
_COMPANIES = (1, 2, 15, 16)
"""Numbers of records in a pass; the full number comes to these. Kernels change between them."""


class CheckedTensors:
    """A round's tensors, and for which figures rows were checked on them.

    Args:
        tensors: held, so that nothing else can come to be the same; nobody changes them.
    """

    def __init__(self, tensors: Tensors) -> None:
        self._tensors = tensors
        self.figures: set[tuple[float, int]] = set()

    def are(self, tensors: Tensors) -> bool:
        """Tell whether these are the very same tensors."""
        known = self._tensors
        return known is tensors or (
            known.keys() == tensors.keys()
            and all(known[name] is tensor for name, tensor in tensors.items())
        )


class RowCheck:
    """Checks an engine with invented records.

    Args:
        dp_sgd: the engine.
        synthetic: invented records that differ, as many as there are to stand beside one.
        longest: largest number of tokens of a record; None if records have no lengths.
    """

    def __init__(self, dp_sgd: "DpSgd", synthetic: Examples, *, longest: int | None) -> None:
        self._dp_sgd, self._synthetic = dp_sgd, synthetic
        self._lengths: list[int | None] = [None]
        # Rows of a unit; () where rows are units. Of a round's tensors the fewest and the most are
        # looked at: which kernels run follows from shapes.
        self._places = dp_sgd.places
        self._ends = tuple(sorted({*self._places[:1], *self._places[-1:]}))
        self._tensors: Tensor | None = None
        self._checked: set[tuple[int, ...]] = set()
        if synthetic.lengths is not None:
            most = padded_length(longest or int(synthetic.lengths.max()))
            middle = padded_length(most // 2)
            self._lengths = [*sorted({LENGTH_STEP, middle, most})]

    def rows(self, sizes: PassSizes) -> tuple[int, ...]:
        """Return the numbers of units in a pass that are looked at."""
        kinds = itertools.product(self._lengths, self._ends or (1,))
        return tuple(sizes.rows(length, places) for length, places in kinds)

    def check_once(
        self, tensors: Tensor, sizes: PassSizes, scores_fn: ScoresFn | None = None
    ) -> None:
        """Check on a round's tensors, unless these were the last, with the sizes of a pass.

        Args:
            tensors: of the model, flat; they are in it.
            sizes: rows of a pass.
            scores_fn: of the model, where what it makes of a record decides what that adds; None
                where it decides nothing.

        Raises:
            RowsDifferError: if anything differs.
        """
        rows = self.rows(sizes)
        if self._tensors is None or not self._tensors.equal(tensors):
            self._tensors, self._checked = tensors.clone(), set()
        if rows in self._checked:
            return
        self.check(sizes, is_first=False)
        if scores_fn is not None:
            self._check_scores(scores_fn, ScoringSizes(sizes.most))
        self._checked.add(rows)

    def check(self, sizes: PassSizes, *, is_first: bool) -> None:
        """Compare what one record adds in all companies and at all places.

        Args:
            sizes: rows of a pass.
            is_first: whether every company is tried, or, for texts, the smallest and the largest.

        Raises:
            RowsDifferError: if anything differs.
        """
        try:
            with expect_hook_warning():
                every = self._places if is_first else self._ends
                for length, places in itertools.product(self._lengths, every or (0,)):
                    rows = sizes.rows(length, places or 1)
                    few = length is not None and not is_first
                    companies = (1,) if few else _COMPANIES
                    numbers = sorted({min(n, rows) for n in (*companies, rows)})
                    self._check(length, places, rows, numbers)
                    # Which kernels run follows from shapes: once is enough for these.
                    if is_first:
                        self._check_many(length, places, rows)
        finally:
            self._dp_sgd.forget()

    def _check_scores(self, scores_fn: ScoresFn, sizes: ScoringSizes) -> None:
        """Compare what the model makes of one record at all places, and beside others."""
        for length in self._lengths:
            rows = sizes.rows(length)
            others = [2 + i % (len(self._synthetic) - 2) for i in range(rows - 1)]
            alike, among = (
                scores_fn(_as_examples(self._synthetic, records, length))
                for records in ([1] * rows, [*others, 1])
            )
            for row, found in enumerate([*alike, among[-1]], start=1):
                where = f"in row {row}" if row <= rows else "beside other records"
                self._compare([alike[0]], [found], f"{where} of {rows} that are scored")

    def _check(self, length: int | None, places: int, rows: int, companies: list[int]) -> None:
        # Every row is the record: all places at once, which has to be what it is alone.
        reference: list[Tensor] = []
        copies = self._contributions([1] * rows, length, places, rows)
        for row, parts in enumerate(copies):
            reference = reference or [part.clone() for part in parts]
            self._compare(reference, parts, f"in row {row + 1} of {rows}")
        for number in companies:
            # Others first, so that the record stands last, beside whatever fills the pass up.
            others = [2 + i % (len(self._synthetic) - 2) for i in range(number - 1)]
            together = self._contributions([*others, 1], length, places, rows)
            found = next(itertools.islice(together, number - 1, None))
            self._compare(reference, found, f"among {number} of {rows}")

    def _check_many(self, length: int | None, places: int, rows: int) -> None:
        """Compare what several records add, each in many places and beside different ones."""
        count = len(self._synthetic) - 1
        references: dict[int, list[Tensor]] = {}
        for shift in range(2):
            records = [1 + (row + shift) % count for row in range(rows)]
            found = self._contributions(records, length, places, rows)
            for row, (record, parts) in enumerate(zip(records, found, strict=True), start=1):
                kept = references.setdefault(record, [part.clone() for part in parts])
                self._compare(kept, parts, f"in row {row} of {rows}")

    def _contributions(
        self, units: list[int], length: int | None, places: int, rows: int
    ) -> Iterator[list[Tensor]]:
        """Return what units add, in a pass of ``rows`` units.

        Args:
            units: first record of each: those after it follow, and its last place is empty.
            length: padded length of records.
            places: rows of a unit; 0 where rows are units.
            rows: number of units; what is missing is filled up.
        """
        last = len(self._synthetic) - 1
        records = [1 + (unit - 1 + i) % last for unit in units for i in range(places or 1)]
        batch = _of_length(self._synthetic, records, length)
        full = rows * (places or 1)
        batch = Filler(self._synthetic).fill(batch, full, self._synthetic.ragged)
        if not places:
            return self._dp_sgd.contributions(batch)
        weights = torch.zeros(rows, places)
        weights[: len(units), : max(1, places - 1)] = 1 / max(1, places - 1)
        return self._dp_sgd.contributions(batch, weights)

    def _compare(self, reference: list[Tensor], found: list[Tensor], where: str) -> None:
        if not all(map(_same_bits, reference, found)):
            raise RowsDifferError(
                f"What a synthetic record adds differs {where} from what it adds elsewhere: on"
                f" device={self._dp_sgd.params[0].device} the model's results for a record depend"
                " on others in the batch, so that nothing bounds what one record changes; train on"
                " the CPU, or with layers whose widths are multiples of 16."
            )


def _of_length(examples: Examples, indices: list[int], length: int | None) -> Batch:
    """Return records as if all were of one padded length, their tokens repeated up to it."""
    batch = {name: column[indices] for name, column in examples.columns.items()}
    if length is not None:
        for name in examples.ragged:
            times = -(-length // batch[name].shape[1])
            repeats = [1, times, *[1] * (batch[name].dim() - 2)]
            batch[name] = batch[name].repeat(repeats)[:, :length].contiguous()
    return batch


def _as_examples(examples: Examples, indices: list[int], length: int | None) -> Examples:
    lengths = None if length is None else torch.full((len(indices),), length)
    return Examples(_of_length(examples, indices, length), lengths, examples.ragged)


def _same_bits(one: Tensor, other: Tensor) -> bool:
    """Compare bit patterns, so that NaN equals NaN."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if one.is_floating_point():
        bits = {8: torch.int64, 4: torch.int32, 2: torch.int16}[one.element_size()]
        one, other = one.flatten().view(bits), other.flatten().view(bits)
    return one.equal(other)


__all__ = ["RowCheck"]
