"""A page listens on loopback, or on a socket of its user's, and nowhere else."""

import fcntl
import os
import socket
import stat
import threading
from pathlib import Path

import httpx
import pytest

from confide.deployment import unix_socket
from confide.errors import ConfigError
from confide.monitoring.address import check, is_loopback, listening, loopback, shown


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0:9108", "10.0.0.5:9108", "[::]:9108", "fed.example.org:9108", "*:9108"),
        "127.0.0.2:9108",  # loopback, and none of the names that requests may bear
    ],
)
def test_an_address_that_others_reach_is_refused_with_the_reason(address: str) -> None:
    with pytest.raises(ConfigError, match=r"server\.dashboard=.*neither password nor TLS"):
        check(address, "server.dashboard")
    with pytest.raises(ConfigError, match="neither password nor TLS"), listening(address):
        pass


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.1:", ":9108", "9108", "127.0.0.1:70000"])
def test_a_mistyped_address_is_refused_with_an_example(address: str) -> None:
    with pytest.raises(ConfigError, match=r"such as 127\.0\.0\.1:9108"):
        loopback(address)


def test_loopback_is_listened_on_once() -> None:
    with listening("127.0.0.1:0") as listener:
        host, port = listener.getsockname()
        assert host == "127.0.0.1"
        assert shown(listener) == f"http://127.0.0.1:{port}/"
        socket.create_connection((host, port)).close()
        with (
            pytest.raises(ConfigError, match="Address already in use"),
            listening(f"127.0.0.1:{port}"),
        ):
            pass


def test_a_socket_is_its_users_alone_and_goes_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "m.sock"
    with listening(f"unix:{path}") as listener:
        status = path.stat()
        assert stat.S_ISSOCK(status.st_mode)
        assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o600, os.geteuid())
        assert shown(listener) == f"unix:{path}"
        with pytest.raises(ConfigError, match="another process listens"), listening(f"unix:{path}"):
            pass
    assert not path.exists()


def test_a_stale_socket_is_replaced_and_a_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "m.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with listening(f"unix:{path}"):
        pass
    path.write_text("kept")
    with pytest.raises(ConfigError, match="expected a socket"), listening(f"unix:{path}"):
        pass
    assert path.read_text() == "kept"


def test_a_socket_in_a_folder_of_others_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with (
        pytest.raises(ConfigError, match="written by this user alone"),
        listening(f"unix:{tmp_path}/m.sock"),
    ):
        pass


def test_a_lock_of_others_on_the_folder_delays_a_start_and_does_not_hang_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unix_socket, "_LONGEST_WAIT_S", 0.1)
    handle = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with (
            pytest.raises(ConfigError, match="another process holds a lock"),
            listening(f"unix:{tmp_path}/m.sock"),
        ):
            pass
    finally:
        os.close(handle)
    with listening(f"unix:{tmp_path}/m.sock"):
        pass


def test_a_unix_socket_answers_http(tmp_path: Path) -> None:
    path = tmp_path / "m.sock"
    with listening(f"unix:{path}") as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

        thread = threading.Thread(target=answer)
        thread.start()
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
            assert client.get("http://localhost/health").text == "ok"
        thread.join()


def test_what_asks_for_a_password_may_listen_on_any_address() -> None:
    with listening("0.0.0.0:0", anywhere=True) as listener:
        assert shown(listener, scheme="https").startswith("https://0.0.0.0:")
    with pytest.raises(ConfigError, match="neither password nor TLS"), listening("0.0.0.0:0"):
        pass


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("10.0.0.5:1", False),
        ("[::]:1", False),
        ("ward.example.org:1", False),
    ],
)
def test_loopback_is_told_from_other_addresses(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected
