"""The front as a process: how it starts, ends and writes its log, and its command."""

import contextlib
import logging
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from front_process import (
    HOST,
    PATIENCE_S,
    PULL,
    PUSH,
    ROOT,
    Certificates,
    FakeSuperLink,
    eventually,
    front_command,
    hear,
    is_refused,
    running_front,
    status_of,
    wait_for_port,
)

from confide.errors import ConfigError
from confide.server.deployment.fleet_proxy import Upstream
from confide.server.deployment.front import main
from confide.server.deployment.listener import FewLines, Limits

# Its life


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_in_time_with_connections_open(
    certificates: Certificates, super_link: FakeSuperLink, tmp_path: Path, signal_: signal.Signals
) -> None:
    with running_front(
        certificates, tmp_path, super_link.server_port, "--upstream-timeout-s", "30"
    ) as front:
        idle, uploading, waiting = (front.raw() for _ in range(3))
        with idle, uploading, waiting:
            uploading.sendall(
                f"POST {PUSH} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc".encode()
            )
            super_link.answer_fn = lambda handler, _: time.sleep(3)
            waiting.sendall(
                f"POST {PULL} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode()
            )
            eventually(lambda: super_link.seen)
            start = time.monotonic()
            front.process.send_signal(signal_)
            assert front.process.wait(PATIENCE_S) == (0 if signal_ == signal.SIGTERM else 130)
            assert time.monotonic() - start < 2
            # 500 would end a SuperNode's call for good.
            assert [status_of(hear(connection)) for connection in (uploading, waiting)] == [
                503,
                503,
            ]
        assert "Traceback" not in front.log.read_text()


PARENT = """
import subprocess, sys, time
child = subprocess.Popen(sys.argv[1:])
print(child.pid, flush=True)
time.sleep(60)
"""


def test_it_ends_when_its_parent_is_killed(
    certificates: Certificates, super_link: FakeSuperLink, tmp_path: Path
) -> None:
    log = tmp_path / "front.log"
    command = [sys.executable, "-c", PARENT, *front_command(certificates, super_link.server_port)]
    with log.open("wb") as stderr:
        parent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, cwd=ROOT)
    child = int(parent.stdout.readline())
    try:
        port = wait_for_port(log)
        parent.kill()
        parent.wait(PATIENCE_S)
        eventually(lambda: is_refused(port), log)
        assert "started this one is gone" in log.read_text()
    finally:
        parent.kill()
        parent.communicate()
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def test_it_starts_without_torch_and_flower() -> None:
    heavy = "[name for name in ('torch', 'flwr', 'numpy') if name in sys.modules]"
    code = f"import sys, confide.server.deployment.front; print({heavy})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"


# Its log


def test_scanner_does_not_fill_the_log(
    certificates: Certificates, super_link: FakeSuperLink, tmp_path: Path
) -> None:
    with running_front(certificates, tmp_path, super_link.server_port) as front:
        with front.client() as client:
            client.post(PULL, content=b"ordinary")
            for number in range(50):
                client.get(f"/{number}/%1b[31m{'x' * 1000}")
        lines = front.log.read_text().splitlines()
    refused = [line for line in lines if ": 404, " in line]
    assert len(refused) == 10
    assert all(len(line) < 250 and line.isprintable() for line in lines)
    assert "GET '/0/%1b[31mxxx" in refused[0]
    assert HOST in refused[0]
    assert not [line for line in lines if PULL in line]


@dataclass
class Clock:
    """A clock that is set by hand."""

    now: float = 0.0
    lines: list[str] = field(default_factory=list)

    def emit(self, limited: logging.Filter, lineno: int, text: str) -> None:
        record = logging.LogRecord("name", logging.WARNING, "file.py", lineno, "%s", (text,), None)
        if limited.filter(record):
            self.lines.append(record.getMessage())


def test_lines_left_out_are_counted_and_other_places_are_heard() -> None:
    clock = Clock()
    limited = FewLines(now_fn=lambda: clock.now)
    for number in range(25):
        clock.emit(limited, 1, str(number))
    clock.emit(limited, 2, "other")
    clock.now = 61.0
    clock.emit(limited, 1, "again")
    clock.emit(limited, 1, "and again")
    assert clock.lines == [
        *map(str, range(10)),
        "other",
        "again (15 such lines were left out)",
        "and again",
    ]


# Its command


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--listen": "8443"}, "Expected listen='8443' as HOST:PORT"),
        ({"--upstream": "127.0.0.1:"}, "Expected upstream='127.0.0.1:' as HOST:PORT"),
        ({"--certificate": "gone.crt"}, "certificate=gone.crt and key="),
        ({"--upstream-ca": "gone.crt"}, "upstream_ca=gone.crt cannot be used"),
        ({"--stall-s": "0"}, "Expected stall_s=0.0 >= 0.001"),
        ({"--max-body-mb": "nan"}, "max-body-mb"),
    ],
)
def test_mistakes_of_the_command_are_told(
    certificates: Certificates,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, str],
    message: str,
) -> None:
    command = front_command(certificates, 1)[3:]
    words = dict(zip(command[::2], command[1::2], strict=True)) | change
    assert main([word for pair in words.items() for word in pair]) == 2
    assert message in capsys.readouterr().err


def test_port_in_use_is_told(
    certificates: Certificates, super_link: FakeSuperLink, capsys: pytest.CaptureFixture[str]
) -> None:
    command = front_command(certificates, 1)[3:]
    command[command.index("--listen") + 1] = f"{HOST}:{super_link.server_port}"
    assert main(command) == 2
    assert "cannot be used" in capsys.readouterr().err


def test_limits_report_every_mistake() -> None:
    with pytest.raises(ConfigError, match="2 mistakes") as caught:
        Limits(max_body=0, stall_s=math.nan)
    assert len(caught.value.problems) == 2
    with pytest.raises(ConfigError, match=r"timeout_s=0"):
        Upstream(address="127.0.0.1:1", ca=Path("ca.crt"), timeout_s=0)
