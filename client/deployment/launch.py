"""Starts and supervises an institution's processes: SuperNode, executor and trainer.

Each can reach less than the one before: the SuperNode the network, the executor only the other two,
the trainer only records.
"""

import contextlib
import functools
import logging
import os
import secrets
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from confide.client.deployment.kit import InstitutionKit
from confide.deployment.renewals import warn_of_ends
from confide.deployment.supervisor import Program, Supervisor
from confide.errors import EXIT_USAGE, ConfigError
from confide.flower.explain import explain
from confide.flower.processes import (
    LOOPBACK,
    check_version,
    environment,
    free_port,
    say_good_bye,
    supernode_command,
)
from confide.flower.supernode import UNKNOWN, is_known
from confide.monitoring.program import dashboard
from confide.security.ec_keys import is_encrypted, read_node_key
from confide.security.passphrases import CREDENTIALS
from confide.security.passphrases import FOLDER as PASSPHRASES
from confide.storage.files import locked, make_private_folder, share, write_secret

ROLES = ("trainer", "executor", "supernode")
"""In the order in which they start, so that each finds the one that answers it."""
_SECRET_BYTES = 32
_RENEW = (
    "ask the coordinator to run `confide provision` again, and put the file that it sends here."
)
_LONGEST_PAUSE_S = 5.0
"""Before a restart of the SuperNode, which the coordinator may refuse for a minute."""
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "NO_GRPC_PROXY")
_PLAIN = {
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "VIRTUAL_ENV",
    "LD_LIBRARY_PATH",
    *_PROXIES,
}
_PLAIN_PREFIXES = ("FLWR_", "LC_", "PYTHON", "SSL_CERT_", "GRPC_", "COVERAGE_")
"""Variables passed to SuperNode and executor. All others stay with the trainer, since passwords of
databases may be among them (``${oc.env:NAME}`` in client.yaml)."""

log = logging.getLogger(__name__)


@contextlib.contextmanager
def supervised(kit: InstitutionKit, only: str | None = None) -> Iterator[Supervisor]:
    """Supervise an institution's processes, or one of them, inside this context.

    Args:
        kit: the institution's kit.
        only: one of ``ROLES`` if each is a separate service with its own user; None for all.

    Raises:
        ConfigError: if they are running already, or flwr is another release.
        StorageError: if the kit's state cannot be written.
    """
    check_version()
    if only is not None and kit.config.runtime_port is None:
        raise ConfigError(
            f"--only {only}: services that start one by one must agree on a port; set runtime_port"
            " in client.yaml."
        )
    folder = kit.state / ("logs" if only is None else only)
    make_private_folder(folder)
    with locked(
        folder / ".lock",
        otherwise=(
            f"This kit is running already ({folder} is locked); `confide client status` shows it."
        ),
    ):
        port = kit.config.runtime_port or free_port()
        programs = [_PROGRAMS[role](kit, port) for role in ROLES if only in (None, role)]
        if kit.config.dashboard is not None and only is None:
            # First: it shows the others while they start
            programs.insert(0, dashboard(kit.folder, kit.config.dashboard, kit.overrides))
        warn = functools.partial(warn_of_ends, kit.certificates, _RENEW)
        with Supervisor(programs, folder, daily_fn=warn) as supervisor:
            yield supervisor


def secret_path(kit: InstitutionKit) -> Path:
    """Return the file of the secret shared by SuperNode and executor."""
    return kit.state / "runtime" / "secret"


def _trainer(kit: InstitutionKit, port: int) -> Program:
    command = [
        sys.executable,
        "-m",
        "confide.client.deployment.trainer_process",
        str(kit.folder),
        *kit.overrides,
    ]
    return Program(
        name="trainer",
        command=command,
        # Libraries must not look anything up or download it: this process has the records.
        environment=dict(os.environ)
        | {
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "FLWR_TELEMETRY_ENABLED": "0",
            "TQDM_DISABLE": "1",
        },
        is_ready=kit.socket.exists,
        # A restart does not correct a kit.
        is_final=frozenset({EXIT_USAGE}),
    )


def _executor(kit: InstitutionKit, port: int) -> Program:
    command = [sys.executable, "-m", "confide.client.deployment.executor"]
    command += ["--name", kit.config.name]
    command += ["--runtime", f"{LOOPBACK}:{port}"]
    command += ["--secret", str(secret_path(kit))]
    command += ["--socket", str(kit.socket)]
    # By argument, so that the executor needs no access to the kit with the node's private key.
    command += ["--max-mb", f"{kit.max_message_mb:g}"]
    # A SuperNode waits a minute for the answer of an executor that has died; restarted with it, it
    # takes messages at once.
    return Program(
        name="executor",
        command=command,
        environment=_without_secrets(kit, "executor"),
        takes_along=frozenset({"supernode"}),
    )


def _supernode(kit: InstitutionKit, port: int) -> Program:
    coordinator, group = kit.config.coordinator, kit.config.runtime_group
    # Written by the service that starts the SuperNode, which reads it once; the executor reads it
    # again whenever it connects.
    path = secret_path(kit)
    make_private_folder(path.parent)
    write_secret(path, secrets.token_bytes(_SECRET_BYTES))
    if group is not None:
        share({path.parent: 0o710, path: 0o640}, group, setting="runtime_group")
    ca, key = kit.server_ca, kit.path(coordinator.key)
    if not is_known():
        log.warning(UNKNOWN)
    if is_encrypted(key):
        read_node_key(key)  # here and not in a process that would end again and again
    certificate = kit.path(coordinator.certificate)
    shown = certificate if certificate.is_file() else None
    address = coordinator.address
    command = supernode_command(
        coordinator=address, ca=ca, key=key, port=port, secret=path, shown=shown
    )
    # SIGTERM instead of SIGKILL if the supervisor dies: a SuperNode that ends in order signs off at
    # the coordinator. For one that is killed `say_good_bye` does, or it would be refused for a
    # minute.
    return Program(
        name="supernode",
        command=command,
        environment=_without_secrets(kit, "supernode"),
        death_signal=signal.SIGTERM,
        longest_pause_s=_LONGEST_PAUSE_S,
        explain_fn=explain,
        died_fn=functools.partial(say_good_bye, coordinator=address, ca=ca, key=key, shown=shown),
    )


_PROGRAMS = {"trainer": _trainer, "executor": _executor, "supernode": _supernode}


def _without_secrets(kit: InstitutionKit, role: str) -> dict[str, str]:
    """Return the environment of a process that reads no records, without databases' passwords."""
    whole = environment(kit.state / role / "flower", coordinator=kit.config.coordinator.address)
    plain = _PLAIN if role != "supernode" else {*_PLAIN, CREDENTIALS, PASSPHRASES}
    return {
        name: value
        for name, value in whole.items()
        if name.upper() in plain or name.startswith(_PLAIN_PREFIXES)
    }


__all__ = ["ROLES", "secret_path", "supervised"]
