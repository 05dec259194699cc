"""The names of a source's institutions, and which node is whose."""

from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import overload

from confide.simulations.populations.source import RecordSource
from confide.strategies.roster import Roster


class SourceRoster(Roster):
    """The names of a source's institutions in ascending order, but for those who withdrew.

    Args:
        source: names them.
        without: names of those who withdrew.
    """

    def __init__(self, source: RecordSource, without: Collection[str] = ()) -> None:
        self._source = source
        gone = sorted(map(source.index, without))
        # How many who stay are below each of those who are gone
        self._below = [index - rank for rank, index in enumerate(gone)]
        self._gone = gone

    def __len__(self) -> int:
        """Return how many there are."""
        return self._source.num_institutions - len(self._gone)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        """Return the name at a position, or names at several."""
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        return self._source.name(position + bisect_right(self._below, position))

    def number(self, name: str) -> int:
        """Return a name's position; KeyError if nobody has it, or who has withdrew."""
        index = self._source.index(name)
        before = bisect_right(self._gone, index)
        if before and self._gone[before - 1] == index:
            raise KeyError(name)
        return index - before


class NodeNames(Mapping[int, str]):
    """Node -> name: nodes are numbered from 1 in the order of names, and not listed.

    Args:
        names: in the order of nodes.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def __getitem__(self, node: int) -> str:
        """Return the name of a node; KeyError if there is none."""
        if not 1 <= node <= len(self._names):
            raise KeyError(node)
        return self._names[node - 1]

    def __iter__(self) -> Iterator[int]:
        """Go through the nodes."""
        return iter(self.nodes)

    def __len__(self) -> int:
        """Return how many nodes there are."""
        return len(self._names)

    @property
    def nodes(self) -> range:
        """The nodes, without a list of them."""
        return range(1, len(self._names) + 1)


__all__ = ["NodeNames", "SourceRoster"]
