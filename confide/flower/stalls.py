"""An end to waiting for parts of a message that never come.

Flower tells of a message before its parts are there, and who receives it asks for them up to two hours. Some never come: a
reply whose sender lost its connection between telling and sending, for the second telling is refused; a message of a run that
ended while a SuperNode received it, whose task stays. So parts are waited for only as long as one comes now and then.
``tests/flower/test_stalls.py`` holds what is relied on.
"""

import time
from collections.abc import Callable

from flwr.proto.message_pb2 import PullObjectRequest, PullObjectResponse
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError
from flwr.supercore.runtime import RuntimeHttpClient

LONGEST_STALL_S = 30.0
"""Without any part; one has at most 5 MB, so a connection must carry 1.4 Mbit/s."""

StalledError = ObjectPullError
"""What is raised then; :class:`~flwr.superlink.grid.HttpGrid` makes an error reply of it."""


def bound_stalls(
    client: RuntimeHttpClient, *, stall_s: float = LONGEST_STALL_S, clock: Callable[[], float] = time.monotonic
) -> Callable[[], None]:
    """Have a client give a message up when none of its parts comes for so long.

    Args:
        client: asks for parts, one message at a time.
        stall_s: longest silence.
        clock: seconds.

    Returns:
        What begins the time anew, for another message.
    """
    pull, last = client.PullObject, clock()

    def begin() -> None:
        nonlocal last
        last = clock()

    def bounded(request: PullObjectRequest) -> PullObjectResponse:
        answer = pull(request)
        if answer.object_available:
            begin()
        elif answer.object_found and clock() - last > stall_s:
            raise ObjectPullError(request.object_id, f"no part came for {stall_s:g} s")
        return answer

    client.PullObject = bounded  # type: ignore[method-assign]
    return begin


__all__ = ["LONGEST_STALL_S", "StalledError", "bound_stalls"]
