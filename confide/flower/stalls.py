"""Limits how long an executor waits for the parts of a message, and how long between two looks.

Flower announces a message before its parts have arrived, and an executor asks for them for up to
two hours, after 1 s at the earliest. If a run ends while a SuperNode receives its message, the
parts never arrive and the task remains. So the wait ends once no part has arrived for a while.
(The grid does not wait for parts of a reply: it looks again later.) ``tests/flower/test_stalls.py``
checks what is relied on here.
"""

import time
from collections.abc import Callable

from flwr.proto.message_pb2 import PullObjectRequest, PullObjectResponse
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError
from flwr.supercore.runtime import RuntimeHttpClient

from confide.flower.pace import PATIENCE_S, part_pace

LONGEST_STALL_S = 30.0
"""Longest wait for one part, which has at most 5 MB: a connection must carry 1.4 Mbit/s."""

StalledError = ObjectPullError
"""The error then raised: Flower's own for a part that cannot be fetched."""


def bound_stalls(
    client: RuntimeHttpClient,
    *,
    stall_s: float = LONGEST_STALL_S,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Make a client ask often for parts, and abandon its message once none has arrived for a while.

    Args:
        client: client that asks for the parts of one message.
        stall_s: longest wait for a part, in seconds.
        clock: function that returns the time in seconds.
        sleep: function that pauses for so many seconds.
    """
    # The method is replaced on the client: `pull_task_input` takes nothing else, so no limit.
    pull, last = client.PullObject, clock()

    def bounded(request: PullObjectRequest) -> PullObjectResponse:
        nonlocal last
        pace = part_pace(clock)
        while True:
            answer = pull(request)
            if answer.object_available:
                last = clock()
            elif answer.object_found and clock() - last > stall_s:
                raise ObjectPullError(request.object_id, f"no part came for {stall_s:g} s")
            elif answer.object_found and pace.waited_s < PATIENCE_S:
                sleep(pace.pause_s)
                continue
            return answer

    client.PullObject = bounded  # type: ignore[method-assign]


__all__ = ["LONGEST_STALL_S", "StalledError", "bound_stalls"]
