"""Rows of a cohort's passes: what a record adds is the same in whatever company, at any place.

As `confide.client.training.private.row_check` has it for one institution: which kernel computes a
record follows from shapes, and one that lets others show would void the guarantee. Looked at are
synthetic records, when a pass has a shape for the first time and each round on the very tensors
that came.
"""

import torch
from torch import Tensor

from confide.client.batched.passes import RecordPasses, norms_of
from confide.errors import RowsDifferError

_COMPANIES = (1, 2, 15, 16)
_INVENTED = 33
# Institutions that a round's tensors are looked at with; the first time it is as many as there are.
_FEW = 8


class CohortCheck:
    """Checks passes with invented records.

    Args:
        passes: what is checked.
    """

    def __init__(self, passes: RecordPasses) -> None:
        self._passes = passes
        self._table = passes.table([passes.invented(_INVENTED)])
        self._shapes: set[tuple[int, int]] = set()
        self._tensors: Tensor | None = None
        self._checked: set[int] = set()

    def check_few(self, tensors: Tensor, rows: int) -> None:
        """Check a round's passes as a few institutions would share them; as :meth:`check`."""
        self.check(tensors, _FEW, rows)

    def check(self, tensors: Tensor, count: int, rows: int) -> None:
        """Check passes of a round.

        Args:
            tensors: that the round starts from, shape [size].
            count: m, how many institutions share a pass.
            rows: R, of each.

        Raises:
            RowsDifferError: if what a record adds depends on others, or on its place.
        """
        if self._tensors is None or not self._tensors.equal(tensors):
            self._tensors, self._checked = tensors.clone(), set()
        is_new = (count, rows) not in self._shapes
        if not is_new and rows in self._checked:
            return
        self._compare(tensors, count if is_new else min(count, _FEW), rows)
        self._shapes.add((count, rows))
        self._checked.add(rows)

    def _compare(self, tensors: Tensor, count: int, rows: int) -> None:
        companies = sorted({min(n, rows) for n in (*_COMPANIES, rows)})
        layouts = [[1] * rows, *(_company(number, rows) for number in companies)]
        # The place at which each layout has the record, but for the first, which is nothing else.
        at = [0, *(number - 1 for number in companies)]
        many = tensors.expand(count, -1).contiguous()
        self._passes.settle(many, self._table, torch.tensor([layouts[0]] * count))
        reference: list[Tensor] = []
        for first in range(0, len(layouts), count):
            taken = [layouts[(first + i) % len(layouts)] for i in range(count)]
            found = self._passes.run(many, self._table, torch.tensor(taken))
            parts = [norms_of(found), *found.inputs, *found.gradients]
            reference = reference or [part[0, 0].clone() for part in parts]
            for row in range(count):
                which = (first + row) % len(layouts)
                own = [part[row] if not which else part[row, at[which], None] for part in parts]
                if not all(map(_same_bits, own, reference)):
                    raise RowsDifferError(
                        "What a synthetic record adds in a pass of many institutions depends on"
                        f" others in it (institution {row + 1} of {count}, {rows} records each), so"
                        " that nothing bounds what one record changes; set"
                        " simulation.engine=inline."
                    )


def _company(number: int, rows: int) -> list[int]:
    """Return other records, then the record, then what fills up: ``number`` records of ``rows``."""
    others = [2 + i % (_INVENTED - 2) for i in range(number - 1)]
    return [*others, 1, *[_INVENTED] * (rows - number)]


def _same_bits(many: Tensor, one: Tensor) -> bool:
    """Compare rows [k, ...] with one row, bit by bit, so that NaN equals NaN."""
    bits = {8: torch.int64, 4: torch.int32, 2: torch.int16}[one.element_size()]
    return bool((many.contiguous().view(bits) == one.contiguous().view(bits)).all())


__all__ = ["CohortCheck"]
