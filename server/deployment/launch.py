"""Starts and supervises a coordinator's processes: SuperLink, the TLS front, and the rounds."""

import contextlib
import functools
import secrets
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from confide.deployment.renewals import warn_of_ends
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
from confide.monitoring.program import dashboard
from confide.security.ec_keys import read_private_key
from confide.server.deployment.kit import CoordinatorKit, load_coordinator_kit
from confide.storage.files import locked, make_private_folder, write_secret, write_text

_SECRET_BYTES = 32
_CONNECT_S = 1.0
_RENEW = (
    "run `confide provision` again where authority/ is, and bring coordinator/ here: server.crt is"
    " taken up at once, loopback.crt with the next start; send an institution its trainer.crt."
)
_MOST_FAILURES = 8
"""In a row, over about a minute: then SuperLink or the front cannot start at all."""


@contextlib.contextmanager
def supervised(
    kit: CoordinatorKit, run_dir: Path, *, listen: str | None = None
) -> Iterator[Supervisor]:
    """Supervise a coordinator's processes inside this context.

    Args:
        kit: the coordinator's kit.
        run_dir: folder of the run.
        listen: address at which this side's state is shown; None for none.

    Raises:
        ConfigError: if the kit or its port is in use, or flwr is another release.
        StorageError: if the kit's state cannot be written.
        UnreadableError: if the coordinator's key cannot be read.
    """
    check_version()
    make_private_folder(kit.state)
    busy = f"Another confide server is running from this kit ({kit.state} is locked)."
    with locked(kit.state / ".lock", otherwise=busy):
        # Checked here, because the front would be restarted again and again, and whatever listens
        # there would make it look ready.
        if is_taken(kit.port):
            raise ConfigError(
                f"Port {kit.port} of this machine is in use, and institutions are told to connect"
                " to it; end the program that listens there, or provision another port."
            )
        # Here, where it is one sentence, and not in a front that is started again and again
        read_private_key(kit.outer.key)
        # New at each start, so that one that leaked is soon worth nothing.
        write_secret(kit.secret, secrets.token_bytes(_SECRET_BYTES))
        inner = f"{LOOPBACK}:{free_port()}"
        # In this order: the front only once SuperLink has the keys, the rounds once both are ready.
        programs = [_superlink(kit, inner), _front(kit, inner), _rounds(kit, run_dir, inner)]
        if listen is not None:
            programs.insert(0, dashboard(kit.folder, listen))
        warn = functools.partial(warn_of_ends, kit.certificates, _RENEW)
        with Supervisor(programs, kit.logs, daily_fn=warn) as supervisor:
            write_text(kit.address, f"{inner}\n", mode=0o600)
            yield supervisor


def _superlink(kit: CoordinatorKit, address: str) -> Program:
    port = int(address.rpartition(":")[2])
    command = superlink_command(port=port, tls=kit.inner, database=kit.database, secret=kit.secret)
    control = SuperLinkControl(address, kit.inner.ca)

    def is_ready() -> bool:
        # As the kit is now: somebody may have been revoked since SuperLink ran last. A SuperNode
        # whose key is unknown would end, so keys are registered before the front opens.
        try:
            control.register(load_coordinator_kit(kit.folder).institutions)
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
    command += ["--revoked", str(kit.revoked)]
    if kit.client_certificates:
        command += ["--client-ca", str(kit.ca)]
    return Program(
        name="front",
        command=command,
        environment=environment(kit.state / "flower"),
        is_ready=lambda: is_taken(kit.port),
        most_failures=_MOST_FAILURES,
    )


def _rounds(kit: CoordinatorKit, run_dir: Path, superlink: str) -> Program:
    command = [sys.executable, "-m", "confide.server.deployment.coordinate"]
    command += [str(run_dir), "--superlink", superlink]
    # It was done, has failed, or its config is wrong; only a process that was killed is restarted,
    # and goes on from its last checkpoint.
    final = frozenset({0, EXIT_FAILED, EXIT_USAGE})
    return Program(
        name="rounds",
        command=command,
        environment=environment(kit.state / "flower"),
        shows=True,
        is_final=final,
    )


def is_taken(port: int) -> bool:
    """Return whether a program listens on a port of this machine."""
    # By connecting: this is also how the front is seen to be ready.
    try:
        socket.create_connection((LOOPBACK, port), timeout=_CONNECT_S).close()
    except OSError:
        return False
    return True


__all__ = ["is_taken", "supervised"]
