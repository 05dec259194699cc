"""Starts and supervises what a coordinator runs: SuperLink on loopback, the TLS front before it, the process of the rounds."""

import contextlib
import fcntl
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from confide.errors import EXIT_FAILED, EXIT_USAGE, ConfigError, StorageError
from confide.files import make_private_folder, replace_file
from confide.flower.processes import LOOPBACK, SuperLinkControl, check_version, environment, superlink_command
from confide.server.kit import CoordinatorKit
from confide.supervisor import Program, Supervisor

_SECRET_BYTES = 32
_CONNECT_S = 1.0


@contextlib.contextmanager
def supervised(kit: CoordinatorKit, run_dir: Path) -> Iterator[Supervisor]:
    """Run a coordinator's processes until the rounds of RUN are done.

    Raises:
        ConfigError: if the kit is in use, its port is taken, or flwr is another release.
        StorageError: if the kit's state cannot be written.
    """
    check_version()
    make_private_folder(kit.state)
    with _alone(kit.state):
        _refuse_taken(kit)
        replace_file(kit.secret, lambda temporary: _write(temporary, secrets.token_bytes(_SECRET_BYTES)), mode=0o600)
        inner = f"{LOOPBACK}:{_free_port()}"
        programs = [_superlink(kit, inner), _front(kit, inner), _rounds(kit, run_dir, inner)]
        with Supervisor(programs, kit.state / "logs") as supervisor:
            yield supervisor


def _superlink(kit: CoordinatorKit, address: str) -> Program:
    port = int(address.rpartition(":")[2])
    command = superlink_command(port=port, tls=kit.inner, database=kit.database, secret=kit.secret)
    control = SuperLinkControl(address, kit.inner.ca)

    def is_ready() -> bool:
        """Register the institutions' keys before the front lets anybody through."""
        if not control.is_ready():
            return False
        control.register(kit.institutions)
        return True

    return Program(name="superlink", command=command, environment=environment(kit.state / "flower"), is_ready=is_ready)


def _front(kit: CoordinatorKit, upstream: str) -> Program:
    listen = kit.listens_on()
    command = [sys.executable, "-m", "confide.server.front", "--listen", listen]
    command += ["--certificate", str(kit.outer.certificate), "--key", str(kit.outer.key)]
    command += ["--upstream", upstream, "--upstream-ca", str(kit.inner.ca)]
    return Program(
        name="front", command=command, environment=environment(kit.state / "flower"), is_ready=lambda: _answers(kit.port)
    )


def _rounds(kit: CoordinatorKit, run_dir: Path, superlink: str) -> Program:
    command = [sys.executable, "-m", "confide.server.coordinate", str(run_dir), "--superlink", superlink]
    final = frozenset({0, EXIT_FAILED, EXIT_USAGE})
    return Program(name="rounds", command=command, environment=environment(kit.state / "flower"), shows=True, is_final=final)


def _answers(port: int) -> bool:
    try:
        socket.create_connection((LOOPBACK, port), timeout=_CONNECT_S).close()
    except OSError:
        return False
    return True


def _refuse_taken(kit: CoordinatorKit) -> None:
    if _answers(kit.port):
        raise ConfigError(
            f"Port {kit.port} of this machine is taken, and institutions are told to come there; end what listens on it, or "
            "provision another port."
        )


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        return int(listener.getsockname()[1])


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    try:
        file = (folder / ".lock").open("a+")
    except OSError as error:
        raise StorageError(f"{folder} cannot be written: {error}.") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(f"Another confide server runs from this kit ({folder} is locked); one at a time.") from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        yield


__all__ = ["supervised"]
