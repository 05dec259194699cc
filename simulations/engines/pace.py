"""How long work items take, and what a pool makes of it."""

_MOST_IN_HAND = 8
_IN_HAND_S = 0.02
"""Items are handed out ahead, but not more than this much work: the last ones of a round should be
spread evenly."""
_PATIENCE_S, _PATIENCE = 2.0, 50.0
"""Others do not wait behind an item that takes longer than so many seconds, and so many times the
mean."""
_SHARE_OF_DEADLINE = 0.25
_MOVES_BY = 0.1


class Pace:
    """Mean seconds of an item, for each kind of question; recent ones count more."""

    def __init__(self) -> None:
        self._means_s: dict[str, float] = {}

    def note(self, kind: str, seconds: float) -> None:
        """Take in how long one item took."""
        mean = self._means_s.get(kind, seconds)
        self._means_s[kind] = mean + _MOVES_BY * (seconds - mean)

    def most_in_hand(self, kind: str) -> int:
        """Return how many items a worker may be given at a time; one while nothing is known."""
        mean = self._means_s.get(kind, _IN_HAND_S)  # a coarse clock may have measured 0
        return min(_MOST_IN_HAND, max(1, int(_IN_HAND_S / max(mean, 1e-6))))

    def patience_s(self, kind: str, *, deadline_s: float) -> float:
        """Return how long others wait behind one item.

        Args:
            kind: of the question.
            deadline_s: seconds that institutions are given for an answer.
        """
        share = _SHARE_OF_DEADLINE * deadline_s
        mean = self._means_s.get(kind)
        return share if mean is None else min(share, max(_PATIENCE_S, _PATIENCE * mean))


__all__ = ["Pace"]
