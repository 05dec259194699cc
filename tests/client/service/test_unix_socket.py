"""The socket: its mode, its owner, and what is replaced."""

import os
import socket as sockets
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from connected import QUESTION, Connected, Door
from service_child import SOCKET

from confide.client.service.server import serve
from confide.client.training.deadline import Deadline
from confide.deployment.unix_socket import bound_privately
from confide.errors import ConfigError
from confide.protocol.messages import Reply

# --- the socket


def test_the_socket_is_never_open_to_more_than_its_mode(folder: Path) -> None:
    path = folder / SOCKET
    with sockets.socket(sockets.AF_UNIX) as listener:
        with bound_privately(path, mode=0o660, group=None) as absolute:
            listener.bind(str(absolute))
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_the_socket_has_its_mode_and_goes_with_the_service(folder: Path) -> None:
    before = os.umask(0o022)
    try:
        with serve(Door(), socket=folder / SOCKET, deadline=Deadline()):
            assert stat.S_IMODE((folder / SOCKET).stat().st_mode) == 0o600
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
    assert not (folder / SOCKET).exists()


def test_the_socket_of_a_process_that_died_is_replaced(folder: Path) -> None:
    with sockets.socket(sockets.AF_UNIX) as dead:
        dead.bind(str(folder / SOCKET))
    with Connected(Door(lambda: Reply(institution="ward")), folder) as there:
        assert there.stub.handle("query", QUESTION).refusal is None


def test_a_socket_that_somebody_listens_on_is_left_alone(folder: Path) -> None:
    with Connected(Door(lambda: Reply(institution="ward")), folder) as there:
        with pytest.raises(ConfigError, match="another process listens there"):
            serve(Door(), socket=folder / SOCKET, deadline=Deadline())
        assert there.stub.handle("query", QUESTION).refusal is None


def test_a_file_is_not_replaced(folder: Path) -> None:
    (folder / SOCKET).write_text("precious")
    with pytest.raises(ConfigError, match="expected a socket or nothing there"):
        serve(Door(), socket=folder / SOCKET, deadline=Deadline())
    assert (folder / SOCKET).read_text() == "precious"


def test_an_unfit_place_is_refused(folder: Path) -> None:
    for path, match in (
        (folder / "none" / SOCKET, r"mkdir -m 700"),
        (folder / ("x" * 120) / SOCKET, "at most 107 bytes"),
    ):
        with pytest.raises(ConfigError, match=match):
            serve(Door(), socket=path, deadline=Deadline())
    folder.chmod(0o702)
    with pytest.raises(ConfigError, match=r"mode=702; .*chmod go-w"):
        serve(Door(), socket=folder / SOCKET, deadline=Deadline())


def test_an_unknown_group_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="group=no-such-group"):
        serve(Door(), socket=folder / SOCKET, deadline=Deadline(), group="no-such-group")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user_may_not_connect(folder: Path) -> None:
    folder.chmod(0o755)  # the socket alone decides
    connect = f"socket.socket(socket.AF_UNIX).connect({str(folder / SOCKET)!r})"
    with Connected(Door(), folder):
        for user, allowed in ((65534, False), (0, True)):
            code = (
                f"import os, socket; os.setgroups([]); os.setgid({user}); os.setuid({user});"
                f" {connect}"
            )
            done = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=False
            )
            assert (done.returncode == 0) is allowed, done.stderr
            assert allowed or "PermissionError" in done.stderr
