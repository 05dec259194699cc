"""A request that is not answered with predictions: the status, and the reason for its sender."""

from collections.abc import Mapping


class RefusedError(Exception):
    """A request that cannot be answered.

    Args:
        status: of HTTP.
        reason: one sentence or several: what was expected, what came, the fix.
        headers: of the answer.
    """

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.headers = status, reason, dict(headers or {})


def bad(reason: str) -> RefusedError:
    """Return the refusal of a request that is not as it should be."""
    return RefusedError(400, reason)


__all__ = ["RefusedError", "bad"]
