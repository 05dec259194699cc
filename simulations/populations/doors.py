"""The doors of a simulation's institutions: all of them open, or those that are asked.

What an institution remembers stays when its door is closed: its ledger in memory, how often it
answered, and the plans that jobs began with here. Records, schedules and all else follow from its
name and are made again.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from confide.client.institution import Institution, refusal
from confide.client.ledger.ledger import RoundsSpent
from confide.client.ledger.runs import run_name
from confide.client.records.encoded import InstitutionData
from confide.client.safeguards import Safeguards
from confide.errors import DataError
from confide.protocol.messages import Reply, Request, RequestKind
from confide.simulations.institutions import InstitutionFactory
from confide.simulations.populations.on_demand import RecordsOnDemand

MOST_OPEN = 512
"""Institutions whose records are in memory at once, where they are made on demand."""


class Doors(Protocol):
    """Opens institutions, and knows what they have computed."""

    @property
    def most_open(self) -> int | None:
        """How many may be open at once; None for all."""

    def __getitem__(self, name: str) -> Institution:
        """Return an institution, opened.

        Raises:
            DataError: if its records cannot be made, or do not fit.
        """

    def expect(self, names: Sequence[str]) -> None:
        """Hear who will be asked next, in which order."""

    def spent(self, job: str) -> Mapping[str, RoundsSpent]:
        """Return what a job has computed at each institution that knows of any."""

    def restore_spent(self, job: str, spent: Mapping[str, RoundsSpent]) -> None:
        """Take over what an earlier process knew of a job."""


class AllDoors:
    """Institutions that are open from the beginning.

    Args:
        data: encoded records, by institution.
        factory: opens them.
    """

    most_open: int | None = None

    def __init__(self, data: Mapping[str, InstitutionData], factory: InstitutionFactory) -> None:
        self._institutions = {name: factory.open(name, part) for name, part in data.items()}

    def __getitem__(self, name: str) -> Institution:
        """Return an institution."""
        return self._institutions[name]

    def expect(self, names: Sequence[str]) -> None:
        """Do nothing: everybody is there."""

    def spent(self, job: str) -> Mapping[str, RoundsSpent]:
        """Return what a job has computed at each institution."""
        return {name: institution.spent(job) for name, institution in self._institutions.items()}

    def restore_spent(self, job: str, spent: Mapping[str, RoundsSpent]) -> None:
        """Take over what an earlier process knew of a job."""
        for name, institution in self._institutions.items():
            institution.restore_spent(job, spent.get(name, RoundsSpent()))


class DoorsOnDemand:
    """Institutions that are opened when they are asked, a bounded number at once.

    The one that was asked longest ago is closed first.

    Args:
        data: makes their records.
        factory: opens them.
        most: how many may be open at once, >= 1.
    """

    def __init__(
        self, data: RecordsOnDemand, factory: InstitutionFactory, *, most: int = MOST_OPEN
    ) -> None:
        self._data, self._factory = data, factory
        self.most_open: int | None = most
        self._most = most
        self._open: OrderedDict[str, Institution] = OrderedDict()
        self._safeguards: dict[str, Safeguards] = {}
        self._before: dict[str, Mapping[str, RoundsSpent]] = {}

    @property
    def open_now(self) -> Sequence[str]:
        """Names of those who are open, the one that was asked longest ago first."""
        return list(self._open)

    def __getitem__(self, name: str) -> Institution:
        """Return an institution, opened if it is not.

        Raises:
            DataError: if its records cannot be made, or do not fit.
        """
        found = self._open.get(name)
        if found is not None:
            self._open.move_to_end(name)
            return found
        data = self._data[name]
        while len(self._open) >= self._most:
            self._open.popitem(last=False)
        known = self._safeguards.get(name)
        safeguards = known or self._factory.safeguards(name)
        institution = self._factory.open(name, data, safeguards)
        if known is None:
            for job, spent in self._before.items():
                institution.restore_spent(job, spent.get(name, RoundsSpent()))
            self._safeguards[name] = safeguards
        self._open[name] = institution
        return institution

    def expect(self, names: Sequence[str]) -> None:
        """Hear who will be asked next: the records of those who are not open are made together."""
        self._data.expect(name for name in names if name not in self._open)

    def spent(self, job: str) -> Mapping[str, RoundsSpent]:
        """Return what a job has computed at those who were ever asked."""
        asked = {
            name: safeguards.ledger.spent(run_name(name, job))
            for name, safeguards in self._safeguards.items()
        }
        return {**self._before.get(job, {}), **asked}

    def restore_spent(self, job: str, spent: Mapping[str, RoundsSpent]) -> None:
        """Take over what an earlier process knew of a job; each institution's when it is opened."""
        self._before[job] = spent
        for name, safeguards in self._safeguards.items():
            earlier = spent.get(name, RoundsSpent())
            safeguards.ledger.restore_spent(run_name(name, job), earlier)


@dataclass(frozen=True)
class Unopened:
    """An institution whose records cannot be made: it declines whatever it is asked.

    Attributes:
        name: of the institution.
        error: what is wrong with its records.
    """

    name: str
    error: DataError

    def handle(self, kind: RequestKind, request: Request) -> Reply:
        """Decline a request."""
        return refusal(self.name, kind, self.error)


def opened_or_not(doors: Doors, name: str) -> Institution | Unopened:
    """Return an institution, or what declines in its place where its records cannot be made."""
    try:
        return doors[name]
    except DataError as error:
        return Unopened(name, error)


def open_doors(data: Mapping[str, InstitutionData], factory: InstitutionFactory) -> Doors:
    """Return the doors of institutions: on demand where their records are made so."""
    if isinstance(data, RecordsOnDemand):
        return DoorsOnDemand(data, factory)
    return AllDoors(data, factory)


__all__ = [
    "MOST_OPEN",
    "AllDoors",
    "Doors",
    "DoorsOnDemand",
    "Unopened",
    "open_doors",
    "opened_or_not",
]
