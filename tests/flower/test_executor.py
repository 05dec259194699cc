"""What becomes of a task that cannot be answered.

It must not end without a reply, or its SuperNode waits for ever.
"""

import threading
from pathlib import Path
from typing import Any, cast

import pytest
from flwr.clientapp import ClientApp
from flwr.proto.runtime_pb2 import SendTaskHeartbeatResponse
from flwr.supercore.runtime import RuntimeHttpClient
from google.protobuf.message import DecodeError

from confide.errors import FlowerError
from confide.flower import executor
from confide.flower.executor import _carry_out, run_tasks
from confide.flower.runtime import Runtime


class Client:
    """A runtime API whose messages cannot be read."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        self.ended = self.closed = False

    def PullTaskInput(self, request: Any) -> Any:  # noqa: N802
        raise self._error

    def PullObject(self, request: Any) -> Any:  # noqa: N802
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

    def task_client(self, component: str, token: str) -> RuntimeHttpClient:
        return cast(RuntimeHttpClient, self._client)


@pytest.mark.parametrize(
    "error",
    [DecodeError("x"), KeyError("ghost"), TypeError("x"), ValueError("x"), RuntimeError("x")],
)
def test_task_whose_message_cannot_be_read_is_left_to_run_out(error: Exception) -> None:
    client = Client(error)
    with pytest.raises(FlowerError):
        _carry_out(cast(Runtime, Holding(client)), "token", ClientApp())
    assert not client.ended
    assert client.closed


class Restarted:
    """A SuperNode that was started anew, with another secret.

    It refuses whoever signs with the old one.
    """

    def __init__(self, secret: Path, stop: threading.Event) -> None:
        self._secret, self._stop = secret, stop
        self.signed: list[bytes] = []

    @property
    def secret(self) -> Path:
        return self._secret

    def client(self, component: str, *interceptors: object) -> Any:
        self.signed.append(self._secret.read_bytes())
        self._secret.write_bytes(bytes([len(self.signed)]) * 32)
        if len(self.signed) == 2:
            self._stop.set()
        return self

    def AcquireTask(self, request: Any) -> Any:  # noqa: N802
        raise ValueError("refused")

    def close(self) -> None:
        pass


def test_secret_is_read_again_once_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "_PAUSE_S", 0.01)
    secret, stop = tmp_path / "secret", threading.Event()
    secret.write_bytes(bytes(32))
    restarted = Restarted(secret, stop)
    run_tasks(cast(Runtime, restarted), ClientApp(), stop)
    assert restarted.signed == [bytes(32), bytes([1]) * 32]
