"""Starts and supervises what a coordinator runs.

SuperLink on loopback, the TLS front before it, the process of the rounds.
"""

import contextlib
import secrets
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from confide.deployment.supervisor import Program, Supervisor
from confide.errors import EXIT_FAILED, EXIT_USAGE, ConfigError, FlowerError
from confide.flower.processes import (
    LOOPBACK,
    SuperLinkControl,
    check_version,
    environment,
    free_port,
    superlink_command,
)
from confide.server.deployment.kit import CoordinatorKit
from confide.storage.files import locked, make_private_folder, write_secret, write_text

_SECRET_BYTES = 32
_CONNECT_S = 1.0
_MOST_FAILURES = 8
"""In a row, over about a minute: a SuperLink or a front that cannot start at all ends the
command."""


@contextlib.contextmanager
def supervised(kit: CoordinatorKit, run_dir: Path) -> Iterator[Supervisor]:
    """Run a coordinator's processes until the rounds of RUN are done.

    Raises:
        ConfigError: if the kit is in use, its port is taken, or flwr is another release.
        StorageError: if the kit's state cannot be written.
    """
    check_version()
    make_private_folder(kit.state)
    busy = f"Another confide server runs from this kit ({kit.state} is locked); one at a time."
    with locked(kit.state / ".lock", otherwise=busy):
        _refuse_taken(kit)
        write_secret(kit.secret, secrets.token_bytes(_SECRET_BYTES))
        inner = f"{LOOPBACK}:{free_port()}"
        programs = [_superlink(kit, inner), _front(kit, inner), _rounds(kit, run_dir, inner)]
        with Supervisor(programs, kit.logs) as supervisor:
            write_text(kit.address, f"{inner}\n", mode=0o600)
            yield supervisor


def _superlink(kit: CoordinatorKit, address: str) -> Program:
    port = int(address.rpartition(":")[2])
    command = superlink_command(port=port, tls=kit.inner, database=kit.database, secret=kit.secret)
    control = SuperLinkControl(address, kit.inner.ca)

    def is_ready() -> bool:
        """Register the institutions' keys before the front lets anybody through."""
        try:
            control.register(kit.institutions)
        except FlowerError:
            return False
        return True

    return Program(
        name="superlink",
        command=command,
        environment=environment(kit.state / "flower"),
        is_ready=is_ready,
        most_failures=_MOST_FAILURES,
    )


def _front(kit: CoordinatorKit, upstream: str) -> Program:
    listen = kit.listens_on()
    command = [sys.executable, "-m", "confide.server.deployment.front", "--listen", listen]
    command += ["--certificate", str(kit.outer.certificate), "--key", str(kit.outer.key)]
    command += ["--upstream", upstream, "--upstream-ca", str(kit.inner.ca)]
    return Program(
        name="front",
        command=command,
        environment=environment(kit.state / "flower"),
        is_ready=lambda: is_taken(kit.port),
        most_failures=_MOST_FAILURES,
    )


def _rounds(kit: CoordinatorKit, run_dir: Path, superlink: str) -> Program:
    command = [
        sys.executable,
        "-m",
        "confide.server.deployment.coordinate",
        str(run_dir),
        "--superlink",
        superlink,
    ]
    final = frozenset({0, EXIT_FAILED, EXIT_USAGE})
    return Program(
        name="rounds",
        command=command,
        environment=environment(kit.state / "flower"),
        shows=True,
        is_final=final,
    )


def is_taken(port: int) -> bool:
    """Say whether something listens on a port of this machine."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=_CONNECT_S).close()
    except OSError:
        return False
    return True


def _refuse_taken(kit: CoordinatorKit) -> None:
    if is_taken(kit.port):
        raise ConfigError(
            f"Port {kit.port} of this machine is taken, and institutions are told to come there;"
            " end what listens on it, or provision another port."
        )


__all__ = ["is_taken", "supervised"]
