"""The trainer: the one process with records, backbone, policy and ledger; it has no network."""

import argparse
import functools
import logging
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from confide.client.deployment.kit import Kit, is_stopped, load_kit
from confide.client.deployment.served import DeployedInstitution
from confide.client.service.codec import WireLimits
from confide.client.service.remembered import ReplyCache
from confide.client.service.server import ServiceLimits, serve
from confide.client.training.deadline import Deadline
from confide.deployment.supervisor import end_with_parent, log_to_stderr, stop_signals
from confide.errors import EXIT_FAILED, EXIT_USAGE, ConfideError, ConfigError
from confide.storage.files import make_private_folder, share

log = logging.getLogger(__name__)

_MIB = 2**20


def main(argv: Sequence[str]) -> int:
    """Serve one institution until told to stop.

    Args:
        argv: the kit's folder, then overrides.

    Returns:
        The exit status: 1 the ledger or the socket is not fit, 2 the kit is wrong.
    """
    parser = argparse.ArgumentParser(
        prog="python -m confide.client.deployment.trainer_process", description=__doc__
    )
    parser.add_argument("kit", type=Path)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args(argv)
    log_to_stderr()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with stop_signals() as stop:
        end_with_parent(stop)
        try:
            _serve(load_kit(arguments.kit, arguments.overrides), stop)
        except ConfideError as error:
            log.error("%s", error)
            return EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED
    return 0


def _serve(kit: Kit, stop: threading.Event) -> None:
    deadline = Deadline()
    door = ReplyCache(
        DeployedInstitution(kit, deadline=deadline), is_stopped=functools.partial(is_stopped, kit)
    )
    make_private_folder(kit.socket.parent)
    group = kit.config.socket_group
    if group is not None:
        mine = (
            folder
            for folder in (kit.state, kit.socket.parent)
            if folder.stat().st_uid == os.geteuid()
        )
        share(
            dict.fromkeys(mine, 0o710), group, setting="socket_group"
        )  # through to the socket, no further
    limits = ServiceLimits(wire=WireLimits(max_bytes=round(kit.max_message_mb * _MIB)))
    mode = 0o600 if group is None else 0o660
    with serve(door, socket=kit.socket, deadline=deadline, limits=limits, mode=mode, group=group):
        log.info(
            "%s is ready: policy, ledger and records are its own, socket %s.", door.name, kit.socket
        )
        stop.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
