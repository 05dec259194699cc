"""Disclosure floors: which exact figures may leave, and none that others give away.

Public are n and the schema. A cell with fewer than ``min_cell`` units is merged with others, so
that what is told, and what is left of n, is at least that large:

- cells of a histogram with their neighbours, from the lowest;
- a number that is predicted likewise; times in their intervals, apart for events and for those
  censored, and not at all where either are few, since n would tell how many;
- categories and labels, with the smallest others, until what is not told has enough units. Cells
  that nobody is in are small too: that everybody has one label tells each one's.
- values that are missing, where some are: in a histogram with its smallest cell; among categories
  as a category of its own. That none is missing, or that all are, is told.

A column with a few missing values, or a few values, tells no moments: a mean of whole numbers, told
to many digits, would give their number away. A pair of columns is told if each of the four ways of
having values or not is nobody's or enough units'. Of zeros and ones a sum is a count. So sums of a
column whose values are of few kinds are told if each kind, and in a pair each two together, is
enough units'; of a column with ``min_cell`` rare values or more, two sums tell none of them.

Where an owner's column is known, units are owners, whatever a plan protects: ten rows of one
patient are one person's. What floors cannot do: hide one record from who knows all others, or knows
the figures of the day before.
"""

import itertools
from collections.abc import Sequence

import numpy

from confide.metrics.floor import Floor
from confide.releases.figures import Partition, Read
from confide.releases.release import Floats, Integers
from confide.releases.targets import ENDS

HIDDEN, AS_BEFORE = -1.0, -2.0
"""In place of a count: it is not told; it is counted with the cell before."""


class Support(Floor):
    """How many units sets of records hold, and which of them are too few to be told of."""

    def rare(self, *kinds: Integers) -> int:
        """Return how many kinds of records, by all numbers given, fewer units than enough are of.

        Args:
            kinds: number of each record, shape [n].
        """
        together = numpy.unique(numpy.stack(kinds, axis=1), axis=0, return_inverse=True)[1].ravel()
        if self.owners is not None:
            owned = numpy.unique(numpy.stack([together, self.owners], axis=1), axis=0)
            together = owned[:, 0]
        return int((numpy.bincount(together) < self.least).sum())

    def no_few(self, rare: int) -> bool:
        """Say whether rare kinds are none, or so many that sums over all tell none of them."""
        return rare == 0 or rare >= self.least

    def none_or_enough(self, chosen: "numpy.typing.NDArray[numpy.bool_]") -> bool:
        """Say whether there are no records, or enough units."""
        return not chosen.any() or self.enough(chosen)


def floored_counts(
    part: Partition, cells: Integers, support: Support, *, starts: Sequence[int] = (0,)
) -> Floats:
    """Return the counts of a partition that leave.

    Args:
        part: the partition.
        cells: cell of each record.
        support: how many units records hold.
        starts: of a histogram, where cells of a coarser one begin, which another answer may tell:
            no cell of either lies across a cell of the other, so that no difference is a small one.

    Returns:
        Shape [cells]; :data:`HIDDEN` and :data:`AS_BEFORE` among them.
    """
    if support.is_off:
        return numpy.bincount(cells, minlength=part.cells).astype(float)
    if part.kind == ENDS:
        return _ends(cells, part.cells, support)
    if part.is_histogram:
        return _histogram(cells, part.cells, support, starts)
    counts = numpy.bincount(cells, minlength=part.cells).astype(float)
    considered = list(range(part.cells))
    if part.has_missing and counts[-1] == 0:
        considered.pop()  # that none is missing is told
    if part.has_missing and counts[-1] == len(cells) and support.enough(cells >= 0):
        return numpy.append(numpy.full(part.cells - 1, HIDDEN), counts[-1])
    return _partition(cells, counts, considered, support)


def _partition(
    cells: Integers, counts: Floats, considered: Sequence[int], support: Support
) -> Floats:
    """Hide small cells, and the smallest others until what is hidden is large enough."""
    by_size = sorted(considered, key=lambda cell: (support.units(cells == cell), cell))
    hidden: list[int] = []
    for cell in by_size:
        small = not support.enough(cells == cell)
        if not small and (not hidden or support.enough(numpy.isin(cells, hidden))):
            break
        hidden.append(cell)
    told = counts.copy()
    told[hidden] = HIDDEN
    return told


def _ends(cells: Integers, count: int, support: Support) -> Floats:
    """Merge neighbouring intervals, of events and of those censored apart."""
    told, first = numpy.full(count, HIDDEN), (count - 1) // 2
    if not support.enough(cells < first) or not support.enough(cells >= first):
        return told
    for among in (range(first), range(first, count)):
        for group in _neighbours(cells, among, support):
            told[list(group)] = AS_BEFORE
            told[group.start] = float(numpy.isin(cells, group).sum())
    return told


def _histogram(cells: Integers, count: int, support: Support, starts: Sequence[int]) -> Floats:
    """Merge neighbours; the last cell is for missing values."""
    told = numpy.full(count, HIDDEN)
    missing = cells == count - 1
    if not support.none_or_enough(missing) and not support.enough(~missing):
        return told
    if not support.enough(~missing):
        # All are missing, or so many that the few others are not told of
        if missing.all() and support.enough(missing):
            told[-1] = float(missing.sum())
        return told
    wider = [range(count - 1)]
    if len(starts) > 1:
        ends = [*starts, count - 1]
        wide = numpy.where(missing, -1, numpy.searchsorted(starts, cells, side="right") - 1)
        runs = _neighbours(wide, range(len(starts)), support)
        wider = [range(ends[run.start], ends[run.stop]) for run in runs]
    parts = [_neighbours(cells, run, support) for run in wider]
    held = [[int(numpy.isin(cells, group).sum()) for group in part] for part in parts]
    if support.none_or_enough(missing):
        told[-1] = float(missing.sum())
    else:
        # The histogram would tell their number: they are counted with its smallest cell, and with
        # the smallest one in that of the coarser histogram
        least = held[int(numpy.argmin([sum(sizes) for sizes in held]))]
        least[int(numpy.argmin(least))] += int(missing.sum())
    groups, sizes = itertools.chain(*parts), itertools.chain(*held)
    for group, size in zip(groups, sizes, strict=True):
        told[list(group)] = AS_BEFORE
        told[group[0]] = size
    return told


def spread(told: Floats) -> Floats:
    """Spread the counts of a histogram that leave evenly over the cells that they are of.

    Args:
        told: of all cells and of missing values, from :func:`floored_counts`: shape [m + 1].

    Returns:
        Whole numbers, shape [m].
    """
    counts = told[:-1]
    starts = [*numpy.flatnonzero(counts >= 0).tolist(), len(counts)]
    below = numpy.zeros(len(counts) + 1)
    for start, end in itertools.pairwise(starts):
        below[start : end + 1] = below[start] + numpy.linspace(0, counts[start], end - start + 1)
    # Rounded as sums: whole numbers that still add up to what was told
    return numpy.diff(numpy.rint(below))


def _neighbours(cells: Integers, among: range, support: Support) -> list[range]:
    """Return runs of neighbouring cells that each hold enough units, from the lowest."""
    groups, start = [], among.start
    for end in range(start + 1, among.stop + 1):
        if support.enough((cells >= start) & (cells < end)):
            groups.append(range(start, end))
            start = end
    if start < among.stop:  # the last ones are too few by themselves
        groups[-1] = range(groups[-1].start, among.stop)
    return groups


def floored_moments(
    moments: Floats,
    products: Floats,
    count: int,
    pairs: Sequence[tuple[int, int]],
    seen: Read,
    support: Support,
) -> None:
    """Blot out sums that may not leave: :data:`HIDDEN` in place of their count, 0 for the rest.

    Args:
        moments: count, sum and sum of squares of each numeric column, shape [c, 3].
        products: sums of their pairs, shape [pairs, k].
        count: where among a pair's sums their count is.
        pairs: columns of each pair.
        seen: values of the records, and where there are any.
        support: how many units records hold.
    """
    if support.is_off:
        return
    there = seen.present > 0
    kinds = [_kinds(own, known) for own, known in zip(seen.values.T, there.T, strict=True)]
    rare = [support.rare(own) for own in kinds]
    told = [
        support.enough(own) and support.none_or_enough(~own) and support.no_few(few)
        for own, few in zip(there.T, rare, strict=True)
    ]
    for column, is_told in enumerate(told):
        if not is_told:
            moments[column] = (HIDDEN, 0.0, 0.0)
    for place, (i, j) in enumerate(pairs):
        one, other = there[:, i], there[:, j]
        ways = (one & ~other, other & ~one, ~one & ~other)
        is_told = told[i] and told[j] and support.enough(one & other)
        is_told = is_told and all(map(support.none_or_enough, ways))
        # Where values are rare already, so are pairs of them
        tables = [(kinds[i], other.astype(int))] if not rare[i] else []
        tables += [(one.astype(int), kinds[j])] if not rare[j] else []
        tables += [(kinds[i], kinds[j])] if not rare[i] and not rare[j] else []
        if not is_told or not all(support.no_few(support.rare(*table)) for table in tables):
            products[place] = 0.0
            products[place, count] = HIDDEN


def _kinds(values: Floats, known: "numpy.typing.NDArray[numpy.bool_]") -> Integers:
    """Number the values that there are from 1; 0 where there is none."""
    return numpy.where(known, numpy.unique(values, return_inverse=True)[1] + 1, 0)


__all__ = ["AS_BEFORE", "HIDDEN", "Support", "floored_counts", "floored_moments", "spread"]
