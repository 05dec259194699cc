"""What becomes of a task that cannot be answered: it must not end without a reply, or its SuperNode waits for ever."""

from typing import Any, cast

import pytest
from flwr.clientapp import ClientApp
from flwr.proto.runtime_pb2 import SendTaskHeartbeatResponse
from flwr.supercore.runtime import RuntimeHttpClient
from google.protobuf.message import DecodeError

from confide.errors import FlowerError
from confide.flower.executor import _carry_out
from confide.flower.runtime import Runtime


class Client:
    """A runtime API whose messages cannot be read."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        self.ended = self.closed = False

    def PullTaskInput(self, request: Any) -> Any:  # noqa: N802
        raise self._error

    def PushTaskOutput(self, request: Any) -> None:  # noqa: N802
        self.ended = True

    def SendTaskHeartbeat(self, request: Any) -> Any:  # noqa: N802
        return SendTaskHeartbeatResponse(success=True)

    def close(self) -> None:
        self.closed = True


class Holding:
    def __init__(self, client: Client) -> None:
        self._client = client

    def holding(self, component: str, token: str) -> RuntimeHttpClient:
        return cast(RuntimeHttpClient, self._client)


@pytest.mark.parametrize("error", [DecodeError("x"), KeyError("ghost"), TypeError("x"), ValueError("x"), RuntimeError("x")])
def test_task_whose_message_cannot_be_read_is_left_to_run_out(error: Exception) -> None:
    client = Client(error)
    with pytest.raises(FlowerError):
        _carry_out(cast(Runtime, Holding(client)), "token", ClientApp())
    assert not client.ended
    assert client.closed
