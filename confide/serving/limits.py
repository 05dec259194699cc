"""How much one asker, and all together, may ask for: bytes, requests a second, seconds."""

import asyncio
import collections
import time
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request

from confide.serving.refusal import RefusedError, bad

_MIB = 2**20
_MOST_ASKERS = 4096


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is refused, and when.

    Attributes:
        body_mb: of a request, in MiB.
        records: of a request.
        batch: records that are computed together.
        delay_s: that an idle model waits for more of them.
        waiting: requests that may wait.
        connections: open at once.
        rate: requests for predictions a second of one address; None: any number.
        timeout_s: from a request's last byte to its answer.
        read_s: for a request's headers, and again for its body.
        stop_s: that a stop waits for answers under way.
    """

    body_mb: float = 8.0
    records: int = 1024
    batch: int = 32
    delay_s: float = 0.0
    waiting: int = 1024
    connections: int = 512
    rate: float | None = None
    timeout_s: float = 60.0
    read_s: float = 10.0
    stop_s: float = 60.0

    @property
    def body_bytes(self) -> int:
        """Bytes of a body."""
        return int(self.body_mb * _MIB)


class Rate:
    """Counts each address's requests: a bucket that fills up steadily (token bucket).

    Args:
        per_s: requests a second; a second's worth may come at once.
    """

    def __init__(self, per_s: float) -> None:
        self._per_s, self._most = per_s, max(per_s, 1.0)
        self._buckets: collections.OrderedDict[str, tuple[float, float]] = collections.OrderedDict()

    def refuse_more(self, address: str) -> None:
        """Count a request.

        Raises:
            RefusedError: if it is one too many.
        """
        now = time.monotonic()
        left, since = self._buckets.pop(address, (self._most, now))
        left = min(self._most, left + (now - since) * self._per_s)
        self._buckets[address] = (left - 1 if left >= 1 else left, now)
        # Whoever was not heard of for longest is forgotten first, and begins anew
        if len(self._buckets) > _MOST_ASKERS:
            self._buckets.popitem(last=False)
        if left < 1:
            wait_s = max(1, round((1 - left) / self._per_s))
            raise RefusedError(
                429,
                f"More than {self._per_s:g} requests a second of one address (--max-rate).",
                {"retry-after": str(wait_s)},
            )


def refuse_announced(request: Request, limits: Limits) -> None:
    """Refuse a body that is too large by what its headers say.

    Raises:
        RefusedError: if so.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RefusedError(415, "Content-Encoding: send the body as it is, not compressed.")
    length = request.headers.get("content-length")
    if length is not None and (not length.isdecimal() or int(length) > limits.body_bytes):
        raise _too_large(limits)


async def read_body(request: Request, limits: Limits) -> bytes:
    """Read a body.

    Raises:
        RefusedError: if it is too large, or takes too long to come.
    """
    parts, count = [], 0
    try:
        async with asyncio.timeout(limits.read_s):
            async for part in request.stream():
                count += len(part)
                if count > limits.body_bytes:
                    raise _too_large(limits)
                parts.append(part)
    except TimeoutError:
        raise RefusedError(
            408,
            f"The body did not come within {limits.read_s:g} s (--read-timeout).",
            {"connection": "close"},
        ) from None
    except ClientDisconnect:
        raise bad("The connection was closed before the body had come.") from None
    return b"".join(parts)


def _too_large(limits: Limits) -> RefusedError:
    return RefusedError(
        413,
        f"The body has more than {limits.body_mb:g} MiB (--max-body); send fewer records at once.",
        # The rest of the body is not read
        {"connection": "close"},
    )


__all__ = ["Limits", "Rate", "read_body", "refuse_announced"]
