"""``confide dashboard`` as a process: it listens, answers, and ends when it is told to."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from small_kit import write_kit

from confide.cli import main
from confide.monitoring.program import dashboard

LONG_S = 120.0
ADDRESS = re.compile(r"Listening on (http://127\.0\.0\.1:\d+/|unix:\S+)\.")


@pytest.fixture(autouse=True)
def _log_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("confide.monitoring.command.log_to_stderr", lambda: None)


@contextlib.contextmanager
def started(*words: str, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    command = [sys.executable, "-m", "confide.cli", "dashboard", *words]
    with log.open("wb") as file:
        child = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        end = time.monotonic() + LONG_S
        while (found := ADDRESS.search(log.read_text())) is None:
            assert child.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        yield child, found[1]
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_answers_on_loopback_until_it_is_told_to_end(tmp_path: Path, number: int) -> None:
    kit, log = write_kit(tmp_path / "kit"), tmp_path / "log"
    with started(str(kit), "--listen", "127.0.0.1:0", log=log) as (child, address):
        assert "confide_build_info" in httpx.get(f"{address}metrics", timeout=LONG_S).text
        assert httpx.get(f"{address}health", timeout=LONG_S).status_code == 503
        child.send_signal(number)
        assert child.wait(LONG_S) == 0
    assert "Traceback" not in log.read_text()
    assert "GET " not in log.read_text()


def test_a_socket_is_answered_and_gone_afterwards(tmp_path: Path) -> None:
    kit, log = write_kit(tmp_path / "kit"), tmp_path / "log"
    path = tmp_path / "page.sock"
    with started(str(kit), "--listen", f"unix:{path}", log=log) as (child, _):
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), timeout=LONG_S) as client:
            assert client.get("http://localhost/health").status_code == 503
            assert client.get("http://other.example/health").status_code == 400
        child.terminate()
        assert child.wait(LONG_S) == 0
    assert not path.exists()


def test_it_ends_with_the_process_that_keeps_it_running(tmp_path: Path) -> None:
    kit = write_kit(tmp_path / "kit")
    program = dashboard(kit, "127.0.0.1:0")
    script = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen(sys.argv[1:], stderr=subprocess.STDOUT)\n"
        "print(f'pid {child.pid}.', flush=True)\n"
        "time.sleep(600)\n"
    )
    log = tmp_path / "log"
    with log.open("wb") as file:
        parent = subprocess.Popen([sys.executable, "-c", script, *program.command], stdout=file)
    try:
        end = time.monotonic() + LONG_S
        while ADDRESS.search(log.read_text()) is None:
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        found = re.search(r"pid (\d+)\.", log.read_text())
        assert found is not None
        pid = int(found[1])
        os.kill(pid, 0)
    finally:
        parent.kill()
        parent.wait()
    end = time.monotonic() + LONG_S
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--listen", "0.0.0.0:9108"], "neither password nor TLS"),
        (["--listen", "nonsense"], "Expected listen='nonsense'"),
        (["--listen"], "expected one argument"),
        (["--port", "1"], "expected \\[KIT\\]"),
        (["elsewhere"], "expected \\[KIT\\]"),
    ],
)
def test_a_wrong_command_is_refused_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["dashboard", str(write_kit(tmp_path)), *words]) == 2
    assert re.search(said, capsys.readouterr().err)


def test_a_folder_that_is_no_kit_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dashboard", str(tmp_path)]) == 2
    assert "holds neither of client.yaml and federation.json" in capsys.readouterr().err


def test_a_port_in_use_is_a_wrong_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert main(["dashboard", str(write_kit(tmp_path)), "--listen", address]) == 2
    assert f"listen={address} cannot be used" in capsys.readouterr().err


def test_help_says_who_can_read_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboard", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "Over loopback the page is for that user alone; every user of this machine" in told
