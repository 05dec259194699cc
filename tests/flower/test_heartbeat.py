"""What ends a task, and what does not."""

from typing import Any

import httpx
import pytest
from flwr.proto.runtime_pb2 import SendTaskHeartbeatResponse

from confide.flower.runtime import Heartbeat

REQUEST = httpx.Request("POST", "https://127.0.0.1/")


class Runtime:
    def __init__(self, outcome: Exception | bool) -> None:
        self._outcome = outcome

    def SendTaskHeartbeat(self, _: object) -> SendTaskHeartbeatResponse:  # noqa: N802 - Flower's name
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return SendTaskHeartbeatResponse(success=self._outcome)


def refused(status: int) -> httpx.HTTPStatusError:
    return httpx.HTTPStatusError(
        "", request=REQUEST, response=httpx.Response(status, request=REQUEST)
    )


def beat(outcome: Exception | bool) -> tuple[bool, bool]:
    runtime: Any = Runtime(outcome)
    heartbeat = Heartbeat(runtime)
    return heartbeat._beat(), heartbeat.is_lost


@pytest.mark.parametrize("outcome", [httpx.ConnectError(""), refused(503), refused(500)])
def test_what_may_pass_is_tried_again(outcome: Exception) -> None:
    assert beat(outcome) == (False, False)


@pytest.mark.parametrize("outcome", [refused(401), refused(403), False])
def test_a_refusal_loses_the_task(outcome: Exception | bool) -> None:
    assert beat(outcome) == (True, True)


def test_a_heartbeat_that_is_heard_keeps_it() -> None:
    assert beat(True) == (True, False)
