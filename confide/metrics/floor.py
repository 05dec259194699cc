"""How many units stand behind a set of records that a model's scores bring together.

Nothing here is protected by noise. A coordinator chooses the model, and so who shares a bin: each
set that is told of has ``least`` units. Where owners are known, units are owners, whatever a plan
protects: ten rows of one patient are one person's.
"""

import functools
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from confide.metrics.grids import Integers


@dataclass(frozen=True, kw_only=True, eq=False)
class Floor:
    """Smallest number of units of a set that is told of.

    Attributes:
        least: that number; 1: no floor.
        owners: whose each record is, shape [n]; None where each is a unit of its own.
    """

    least: int = 1
    owners: Integers | None = None

    @property
    def is_off(self) -> bool:
        """Whether sets of any size are told of, and empty ones."""
        return self.least <= 1

    def units(self, chosen: NDArray[numpy.bool_]) -> int:
        """Return the number of units of the records chosen, shape [n]."""
        if self.owners is None:
            return int(chosen.sum())
        return len(numpy.unique(self.owners[chosen]))

    def enough(self, chosen: NDArray[numpy.bool_]) -> bool:
        """Say whether the records chosen are of enough units."""
        return self.units(chosen) >= self.least

    def in_bins(self, places: Integers, bins: int) -> "Binned":
        """Return the records in the order of their bins, places from 0 of shape [n]."""
        return Binned(self, places, bins)


class Binned:
    """Records in the order of their bins, whose units are counted between any two bins.

    Args:
        floor: whose each record is.
        places: bin of each record, from 0, shape [n].
        bins: number of bins.
    """

    def __init__(self, floor: Floor, places: Integers, bins: int) -> None:
        self._owners = None if floor.owners is None else floor.owners[_order(places)]
        self._below = numpy.searchsorted(places[_order(places)], numpy.arange(bins + 1))

    @functools.cached_property
    def _before(self) -> Integers:
        """Place of the record before it that has the same owner; -1 for none."""
        assert self._owners is not None
        by_owner = _order(self._owners)
        same = self._owners[by_owner][1:] == self._owners[by_owner][:-1]
        before = numpy.full(len(by_owner), -1)
        before[by_owner[1:][same]] = by_owner[:-1][same]
        return before

    def units(self, start: int, end: int) -> int:
        """Return the number of units in bins from ``start`` to before ``end``."""
        low, high = int(self._below[start]), int(self._below[end])
        if self._owners is None:
            return high - low
        # Each owner counts at the first of its records in between
        return int((self._before[low:high] < low).sum())


def _order(values: Integers) -> Integers:
    return numpy.argsort(values, kind="stable")


__all__ = ["Binned", "Floor"]
