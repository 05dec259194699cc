"""Starts and supervises what an institution runs.

SuperNode, executor, trainer, each with less reach than the one before.
"""

import contextlib
import functools
import os
import secrets
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from confide.client.deployment.kit import Kit
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
from confide.storage.files import locked, make_private_folder, share, write_secret

ROLES = ("trainer", "executor", "supernode")
"""In the order in which they start: nobody is asked before there is somebody to answer."""
_SECRET_BYTES = 32
_LONGEST_PAUSE_S = 5.0
"""Of a SuperNode that the coordinator does not take back yet, or that finds nobody."""
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
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
"""What SuperNode and executor see of the environment. Passwords of databases are kept in it too
(``${oc.env:NAME}``)."""


@contextlib.contextmanager
def supervised(kit: Kit, only: str | None = None) -> Iterator[Supervisor]:
    """Run an institution's processes, or one of them.

    Args:
        kit: of the institution.
        only: one of ``ROLES``, where each is a service of its own with its own user; None for all.

    Raises:
        ConfigError: if they run already, or flwr is another release.
        StorageError: if the kit's state cannot be written.
    """
    check_version()
    if only is not None and kit.config.runtime_port is None:
        raise ConfigError(
            f"--only {only}: services that start one by one need a port to meet at; set"
            " runtime_port in client.yaml."
        )
    folder = kit.state / ("logs" if only is None else only)
    make_private_folder(folder)
    with locked(
        folder / ".lock",
        otherwise=f"This kit runs already ({folder} is locked); `confide client status` shows it.",
    ):
        port = kit.config.runtime_port or free_port()
        if only in (None, "supernode"):
            _make_secret(kit)
        programs = {role: _PROGRAMS[role](kit, port) for role in ROLES if only in (None, role)}
        with Supervisor(list(programs.values()), folder) as supervisor:
            yield supervisor


def secret_path(kit: Kit) -> Path:
    """Return the file of the secret that SuperNode and executor share."""
    return kit.state / "runtime" / "secret"


def _trainer(kit: Kit, port: int) -> Program:
    command = [
        sys.executable,
        "-m",
        "confide.client.deployment.trainer_process",
        str(kit.folder),
        *kit.overrides,
    ]
    wrong = frozenset({EXIT_USAGE})  # what is wrong with a kit is not fixed by starting again
    return Program(
        name="trainer",
        command=command,
        environment=_without_network(),
        is_ready=kit.socket.exists,
        is_final=wrong,
    )


def _executor(kit: Kit, port: int) -> Program:
    command = [
        sys.executable,
        "-m",
        "confide.client.deployment.executor",
        "--name",
        kit.config.name,
    ]
    command += [
        "--runtime",
        f"{LOOPBACK}:{port}",
        "--secret",
        str(secret_path(kit)),
        "--socket",
        str(kit.socket),
    ]
    command += ["--max-mb", f"{kit.max_message_mb:g}"]
    # A SuperNode waits a minute for the answer of an executor that is gone; begun anew, it takes
    # messages at once.
    return Program(
        name="executor",
        command=command,
        environment=_without_secrets(kit, "executor"),
        takes_along=frozenset({"supernode"}),
    )


def _supernode(kit: Kit, port: int) -> Program:
    coordinator = kit.config.coordinator
    command = supernode_command(
        coordinator=coordinator.address,
        ca=kit.path(coordinator.ca),
        key=kit.path(coordinator.key),
        port=port,
        secret=secret_path(kit),
    )
    # Told to end, it says good-bye; for one that is killed we do, since it would not be taken back
    # for a minute.
    return Program(
        name="supernode",
        command=command,
        environment=_without_secrets(kit, "supernode"),
        death_signal=signal.SIGTERM,
        longest_pause_s=_LONGEST_PAUSE_S,
        explain_fn=explain,
        died_fn=functools.partial(
            say_good_bye,
            coordinator=coordinator.address,
            ca=kit.path(coordinator.ca),
            key=kit.path(coordinator.key),
        ),
    )


_PROGRAMS = {"trainer": _trainer, "executor": _executor, "supernode": _supernode}


def _without_secrets(kit: Kit, role: str) -> dict[str, str]:
    """Return the environment of a process that reads no records.

    What may open a database stays with the trainer.
    """
    whole = environment(kit.state / role / "flower")
    return {
        name: value
        for name, value in whole.items()
        if name.upper() in _PLAIN or name.startswith(_PLAIN_PREFIXES)
    }


def _without_network() -> dict[str, str]:
    """Return an environment in which nothing is looked up or downloaded by libraries."""
    quiet = {
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "FLWR_TELEMETRY_ENABLED": "0",
        "TQDM_DISABLE": "1",
    }
    return dict(os.environ) | quiet


def _make_secret(kit: Kit) -> None:
    path, group = secret_path(kit), kit.config.runtime_group
    make_private_folder(path.parent)
    write_secret(path, secrets.token_bytes(_SECRET_BYTES))
    if group is not None:
        share({path.parent: 0o710, path: 0o640}, group, setting="runtime_group")


__all__ = ["ROLES", "secret_path", "supervised"]
