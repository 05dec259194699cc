"""How long work items take, and what a pool makes of it."""

from dataclasses import dataclass

_FIRST_S = 0.02
"""Seconds that an item is taken to last while nothing is known."""
_PATIENCE_S, _PATIENCE = 2.0, 50.0
"""Others do not wait behind an item that takes longer than so many seconds, and so many times the
mean."""
_SHARE_OF_DEADLINE = 0.25
_MOVES_BY = 0.1


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """How much a worker is given ahead of time: the last items of a round should be spread evenly.

    Attributes:
        seconds: of work.
        most_batches: messages that it is spread over, at most.
        most_items: items in one message, at most.
    """

    seconds: float
    most_batches: int
    most_items: int


class Pace:
    """Mean seconds of an item, for each kind of question; recent ones count more.

    Args:
        ahead: how much workers are given at a time.
    """

    def __init__(self, ahead: Ahead) -> None:
        self._ahead = ahead
        self._means_s: dict[str, float] = {}

    def note(self, kind: str, seconds: float) -> None:
        """Take in how long one item took."""
        mean = self._means_s.get(kind, seconds)
        self._means_s[kind] = mean + _MOVES_BY * (seconds - mean)

    def batch(self, kind: str, *, waiting: int, workers: int) -> int:
        """Return how many items go into one message; one while nothing is known.

        Args:
            kind: of the question.
            waiting: items that wait for a worker.
            workers: how many there are.
        """
        mean = self._means_s.get(kind)
        if mean is None:
            return 1
        ahead = self._ahead
        paced = int(ahead.seconds / ahead.most_batches / max(mean, 1e-6))
        fair = waiting // (ahead.most_batches * workers)
        return max(1, min(ahead.most_items, paced, fair))

    def most_batches(self, kind: str) -> int:
        """Return how many messages may wait at a worker."""
        mean = self._means_s.get(kind, _FIRST_S)  # a coarse clock may have measured 0
        return min(self._ahead.most_batches, max(1, int(self._ahead.seconds / max(mean, 1e-6))))

    def patience_s(self, kind: str, *, items: int, deadline_s: float) -> float:
        """Return how long others wait behind one message.

        Args:
            kind: of the question.
            items: in the message.
            deadline_s: seconds that institutions are given for an answer.
        """
        share = _SHARE_OF_DEADLINE * deadline_s
        mean = self._means_s.get(kind)
        return share if mean is None else min(share, max(_PATIENCE_S, _PATIENCE * mean * items))


__all__ = ["Ahead", "Pace"]
