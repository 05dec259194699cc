"""What becomes of a work item in a pool whose workers may die or stand still.

::

    ASKED --reply--> REPORTED --its sum dies with the worker--> REDONE --reply--> REPORTED
      |                                                           |
      +--third death--> FAILED                                    +--third death, no update this
                                                                     time, or no time--> LOST

An item waits in the pool's queue or is in a worker's hands while it is ASKED or REDONE. Each reply
reaches the coordinator once: a REDONE item is carried out again for the sum alone.
"""

from dataclasses import dataclass
from enum import Enum, auto

from confide.simulations.engines.worker import WorkItem


class Stage(Enum):
    """How far a work item is."""

    ASKED = auto()
    """Its reply has not come."""
    REPORTED = auto()
    """Its reply was handed over; its update, if any, is in a sum that is safe or still there."""
    REDONE = auto()
    """Its reply was handed over, its update was lost with a sum and is computed again."""
    LOST = auto()
    """Its reply was handed over and its update is in no sum."""
    FAILED = auto()
    """No worker survived it; there is no reply."""


MOST_DEATHS = 3
"""A work item that so many workers died with is given up."""


@dataclass(eq=False)
class TrackedItem:
    """A work item and what became of it.

    Attributes:
        item: what is to be done.
        stage: how far it is.
        deaths: of workers that were busy with it.
        is_alone: whether it is handed out alone: it kept a worker for so long that it is done last,
            or a worker died with it and others.
        weight: of its update in its worker's sum; 0 where there is none.
    """

    item: WorkItem
    stage: Stage = Stage.ASKED
    deaths: int = 0
    is_alone: bool = False
    weight: int = 0

    @property
    def is_redone(self) -> bool:
        """Whether it is carried out again, for the sum alone."""
        return self.stage is Stage.REDONE

    def report(self, weight: int) -> bool:
        """Move on when its reply came, with an update of this weight in the sum.

        Returns:
            Whether the reply is news to the coordinator.
        """
        is_news = self.stage is Stage.ASKED
        self.weight = weight
        self.stage = Stage.REPORTED if is_news or weight else Stage.LOST
        return is_news

    def lose_sum(self) -> None:
        """Move on when the sum that held its update is gone."""
        self.stage = Stage.REDONE
        self.weight = 0

    def give_up(self) -> None:
        """Move on when it will not be carried out any more."""
        self.stage = Stage.LOST if self.is_redone else Stage.FAILED

    def survive_death(self) -> bool:
        """Count a worker that died with it; return whether it is tried again."""
        self.deaths += 1
        if self.deaths >= MOST_DEATHS:
            self.give_up()
            return False
        return True


__all__ = ["MOST_DEATHS", "Stage", "TrackedItem"]
