"""Which groups exact sums may be told of: none whose sums, or differences of them, are of few.

Whoever knows the sums of all records and of all groups but one knows the last one's. Whoever knows
those of two columns can take groups of the one from groups of the other: of under 40 and under 41
the difference is of those who are 40. So groups are joined until no union of a column's groups is
of few units, and none differs from a union of another column's by few. That is a cut: groups of
both columns are the vertices of a graph, and the records in a group of each are an edge as heavy as
they are many units; two unions differ by the edges between what is in them and what is not.
Smallest cuts are found by Stoer and Wagner's algorithm, "A Simple Min-Cut Algorithm" (JACM 1997).

A group of nobody has no sums, and that it has none is told. Three columns and more are looked at in
pairs. Exact sums are not protected: what no floor promises,
noise does.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy

from confide.metrics.floor import Floor
from confide.metrics.grids import Floats, Integers

_ROUNDING = 1e-9
_Node = tuple[int, int]
"""Place of a column, and of one of its parts."""


@dataclass
class _Parts:
    """Groups of one column: those told alone, and the others, known by what is left.

    Attributes:
        alone: groups that are told.
        rest: groups that are not.
    """

    alone: list[int]
    rest: set[int] = field(default_factory=set)

    def sets(self) -> list[set[int]]:
        """Return all parts; the rest comes last, where there is one."""
        return [*({one} for one in self.alone), *([self.rest] if self.rest else [])]

    def join(self, group: int) -> None:
        """Tell a group no longer."""
        self.alone.remove(group)
        self.rest.add(group)


def told_groups(codes: Integers, counts: Sequence[int], floor: Floor) -> list[list[int]]:
    """Return the groups of each column whose exact sums may be told.

    Args:
        codes: group of each record by column, shape [n, columns].
        counts: number of groups of each column.
        floor: smallest number of units that sums, or differences of sums, are of.
    """
    weights = _weights(floor, len(codes))
    sizes = [
        numpy.bincount(codes[:, place], weights=weights, minlength=count).astype(float)
        for place, count in enumerate(counts)
    ]
    columns = [_Parts([int(it) for it in numpy.flatnonzero(size)]) for size in sizes]
    if floor.is_off:
        return [parts.alone for parts in columns]
    for parts, size in zip(columns, sizes, strict=True):
        _join_few(parts, size, floor.least)
    while True:
        found = _few_between(columns, codes, weights, floor.least)
        if found is None:
            return [parts.alone for parts in columns]
        place, group = min(found, key=lambda one: (sizes[one[0]][one[1]], one))
        columns[place].join(group)
        _join_few(columns[place], sizes[place], floor.least)


def _weights(floor: Floor, count: int) -> Floats:
    """Return how much of a unit each record is, [n]: no set has fewer units than it weighs."""
    if floor.owners is None:
        return numpy.ones(count)
    _, member, many = numpy.unique(floor.owners, return_inverse=True, return_counts=True)
    return numpy.asarray(1.0 / many[member])


def _join_few(parts: _Parts, sizes: Floats, least: int) -> None:
    """Join groups of few units, and the smallest others until what is left is of enough."""
    for group in [one for one in parts.alone if sizes[one] < least - _ROUNDING]:
        parts.join(group)
    while parts.rest and parts.alone and sizes[list(parts.rest)].sum() < least - _ROUNDING:
        parts.join(min(parts.alone, key=lambda one: (sizes[one], one)))


def _few_between(
    columns: Sequence[_Parts], codes: Integers, weights: Floats, least: int
) -> list[_Node] | None:
    """Return the groups told on one side of a cut of few units, as (column, group).

    None where no two columns differ by few.
    """
    for first, second in itertools.combinations(range(len(columns)), 2):
        one, other = columns[first], columns[second]
        if not one.alone or not other.alone:
            continue
        sets = [(first, it) for it in one.sets()] + [(second, it) for it in other.sets()]
        shared = _shared(sets, len(one.sets()), codes, weights)
        for vertices in _components(shared):
            side, weight = _smallest_cut(shared[numpy.ix_(vertices, vertices)])
            if weight >= least - _ROUNDING:
                continue
            chosen = {vertices[it] for it in side}
            for part in (chosen, set(vertices) - chosen):
                found = [
                    (place, next(iter(groups)))
                    for place, groups in (sets[it] for it in part)
                    if len(groups) == 1 and next(iter(groups)) in columns[place].alone
                ]
                if found:
                    return found
    return None


def _shared(
    sets: Sequence[tuple[int, set[int]]], split: int, codes: Integers, weights: Floats
) -> Floats:
    """Return the weight that parts of two columns share, symmetric of shape [v, v]."""
    shared = numpy.zeros((len(sets), len(sets)))
    member = [numpy.isin(codes[:, place], list(groups)) for place, groups in sets]
    for i, j in itertools.product(range(split), range(split, len(sets))):
        shared[i, j] = shared[j, i] = weights[member[i] & member[j]].sum()
    return shared


def _components(shared: Floats) -> list[list[int]]:
    """Return the vertices that hang together, of more than one each."""
    left, found = set(range(len(shared))), []
    while left:
        seen, ahead = set(), [left.pop()]
        while ahead:
            one = ahead.pop()
            seen.add(one)
            ahead += [int(it) for it in numpy.flatnonzero(shared[one]) if int(it) not in seen]
        left -= seen
        if len(seen) > 1:
            found.append(sorted(seen))
    return found


def _smallest_cut(shared: Floats) -> tuple[list[int], float]:
    """Return the vertices on one side of a smallest cut of a connected graph, and its weight."""
    shared, groups = shared.copy(), [[it] for it in range(len(shared))]
    best, weight = groups[0], numpy.inf
    active = list(range(len(shared)))
    while len(active) > 1:
        order, reach = [active[0]], shared[active[0]].copy()
        while len(order) < len(active):
            order.append(max(set(active) - set(order), key=lambda it: (reach[it], -it)))
            reach += shared[order[-1]]
        last, before = order[-1], order[-2]
        cut = float(shared[last, active].sum())
        if cut < weight:
            best, weight = list(groups[last]), cut
        shared[before] += shared[last]
        shared[:, before] += shared[:, last]
        shared[before, before] = 0
        groups[before] += groups[last]
        active.remove(last)
    return best, weight


__all__ = ["told_groups"]
