"""Names of a population that nobody lists."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any


class Roster(Sequence[str], ABC):
    """The names of institutions in ascending order, each made when it is asked for.

    What draws from a sequence by position draws from it the same as from the sorted list of its
    names, in time and memory that do not grow with the population.
    """

    @abstractmethod
    def number(self, name: str) -> int:
        """Return a name's position.

        Args:
            name: of an institution.

        Returns:
            Its position, from 0.

        Raises:
            KeyError: if nobody has that name.
        """

    def __contains__(self, name: object) -> bool:
        """Say whether somebody has a name, without looking through all."""
        try:
            self.number(str(name))
        except KeyError:
            return False
        return True

    def index(self, value: Any, start: int = 0, stop: int | None = None) -> int:
        """Return a name's position, as :meth:`number` does.

        Raises:
            ValueError: if nobody from ``start`` to before ``stop`` has that name.
        """
        position = self.number(str(value)) if value in self else -1
        if not start <= position < (len(self) if stop is None else stop):
            raise ValueError(f"{value!r} is none of these {len(self)} names.")
        return position


def in_order(names: Sequence[str]) -> Sequence[str]:
    """Return names in ascending order; a roster is in order, and is not listed.

    Args:
        names: of institutions.
    """
    return names if isinstance(names, Roster) else sorted(names)


__all__ = ["Roster", "in_order"]
