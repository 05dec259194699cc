"""An end to waiting for parts of a message that never come.

Flower tells of a message before its parts are there, and an executor asks for them up to two hours.
Those of a run that ended while a SuperNode received its message never come, and its task stays. So
parts are waited for only as long as one comes now and then. (The grid waits for no reply: it looks
again.) ``tests/flower/test_stalls.py`` holds what is relied on.
"""

import time
from collections.abc import Callable

from flwr.proto.message_pb2 import PullObjectRequest, PullObjectResponse
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError
from flwr.supercore.runtime import RuntimeHttpClient

LONGEST_STALL_S = 30.0
"""Without any part; one has at most 5 MB, so a connection must carry 1.4 Mbit/s."""

StalledError = ObjectPullError
"""What is raised then."""


def bound_stalls(
    client: RuntimeHttpClient,
    *,
    stall_s: float = LONGEST_STALL_S,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Have a client give its message up when none of the parts comes for so long.

    Args:
        client: asks for the parts of one message.
        stall_s: longest silence.
        clock: seconds.
    """
    pull, last = client.PullObject, clock()

    def bounded(request: PullObjectRequest) -> PullObjectResponse:
        nonlocal last
        answer = pull(request)
        if answer.object_available:
            last = clock()
        elif answer.object_found and clock() - last > stall_s:
            raise ObjectPullError(request.object_id, f"no part came for {stall_s:g} s")
        return answer

    client.PullObject = bounded  # type: ignore[method-assign]


__all__ = ["LONGEST_STALL_S", "StalledError", "bound_stalls"]
