"""Parts of a message that never come: the wait for them ends."""

from typing import Any

import pytest
from flwr.proto.message_pb2 import PullObjectRequest, PullObjectResponse
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_protobuf_utils import make_pull_object_fn_protobuf
from flwr.supercore.inflatable.inflatable_utils import pull_objects

from confide.flower.stalls import StalledError, bound_stalls


class Runtime:
    """Has ``parts``; of others it says that they will come."""

    def __init__(self, parts: dict[str, bytes]) -> None:
        self.parts = parts
        self.asked = 0

    def PullObject(self, request: PullObjectRequest) -> PullObjectResponse:  # noqa: N802 - Flower's name
        self.asked += 1
        part = self.parts.get(request.object_id, b"")
        return PullObjectResponse(
            object_found=True, object_available=bool(part), object_content=part
        )


def pull(runtime: Any, *ids: str) -> dict[str, bytes]:
    """Pull as Flower's own functions do."""
    pull_fn = make_pull_object_fn_protobuf(runtime.PullObject, Node(node_id=1), 1)
    return pull_objects(list(ids), pull_fn, initial_backoff=0.02, backoff_cap=0.02)


def test_a_part_that_never_comes_ends_the_wait() -> None:
    runtime: Any = Runtime({"a": b"here"})
    bound_stalls(runtime, stall_s=0.1)
    with pytest.raises(StalledError, match="no part came"):
        pull(runtime, "a", "b")
    assert runtime.asked > 2


def test_parts_that_are_there_are_pulled() -> None:
    runtime: Any = Runtime({"a": b"1", "b": b"2"})
    bound_stalls(runtime, stall_s=0.1)
    assert pull(runtime, "a", "b") == {"a": b"1", "b": b"2"}


def test_each_part_that_comes_begins_the_time_anew() -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    runtime: Any = Runtime({"a": b"1"})
    bound_stalls(runtime, stall_s=10, clock=lambda: now[0], sleep=sleep)
    now[0] = 60.0
    assert runtime.PullObject(PullObjectRequest(object_id="a")).object_available
    assert not runtime.PullObject(PullObjectRequest(object_id="b")).object_available
    now[0] = 71.0
    with pytest.raises(StalledError):
        runtime.PullObject(PullObjectRequest(object_id="b"))


def test_a_part_that_is_late_is_pulled_without_flowers_own_pause() -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds
        if now[0] > 2.0:
            runtime.parts["a"] = b"1"

    runtime: Any = Runtime({})
    bound_stalls(runtime, clock=lambda: now[0], sleep=sleep)
    assert runtime.PullObject(PullObjectRequest(object_id="a")).object_content == b"1"
    assert now[0] < 2.3
    assert runtime.asked < 60


def test_a_part_that_cannot_be_found_is_not_waited_for() -> None:
    runtime: Any = Runtime({})
    runtime.PullObject = lambda request: PullObjectResponse(object_found=False)
    bound_stalls(runtime, sleep=lambda seconds: pytest.fail("waited"))
    assert not runtime.PullObject(PullObjectRequest(object_id="a")).object_found
