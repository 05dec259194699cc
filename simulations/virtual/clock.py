"""A clock that shows virtual seconds."""

import time

_NAP_S = 0.001


class VirtualClock:
    """A clock that stands still unless it is set: what takes real time takes none of its own.

    Args:
        start: seconds that it shows at first.
    """

    is_virtual = True

    def __init__(self, start: float = 0.0) -> None:
        self._now = start

    def now(self) -> float:
        """Return the seconds that it shows."""
        return self._now

    def advance_to(self, when: float) -> None:
        """Set it to a later time."""
        self._now = max(self._now, when)

    def sleep(self, seconds: float) -> None:
        """Let worker processes compute for an instant; no virtual time passes."""
        time.sleep(min(seconds, _NAP_S))


__all__ = ["VirtualClock"]
