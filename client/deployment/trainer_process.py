"""The trainer: the one process with records, backbone, policy and ledger; it has no network."""

import argparse
import functools
import logging
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from confide.client.deployment.audited import AuditedHandler, watched
from confide.client.deployment.job_files import is_stopped
from confide.client.deployment.kit import InstitutionKit, load_kit
from confide.client.deployment.kit_audit import log_start, open_audit_log
from confide.client.deployment.served import DeployedInstitution
from confide.client.service.chunks import WireLimits
from confide.client.service.remembered import ReplyCache
from confide.client.service.server import ServiceLimits, serve
from confide.client.training.deadline import Deadline
from confide.deployment.lifetime import end_with_parent, stop_signals
from confide.deployment.logs import log_to_stderr
from confide.errors import EXIT_FAILED, EXIT_USAGE, ConfideError, ConfigError
from confide.storage.files import make_private_folder, share

log = logging.getLogger(__name__)

_MIB = 2**20


def main(argv: Sequence[str]) -> int:
    """Serve one institution until told to stop.

    Args:
        argv: folder of the kit, then overrides.

    Returns:
        Exit status: 1 the ledger or the socket cannot be used, 2 the kit is wrong.
    """
    parser = argparse.ArgumentParser(
        prog="python -m confide.client.deployment.trainer_process", description=__doc__
    )
    parser.add_argument("kit", type=Path)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args(argv)
    log_to_stderr()
    # Tokenizers warn, and fall back, when a process forks after they used threads.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with stop_signals() as stop:
        end_with_parent(stop)
        try:
            _serve(load_kit(arguments.kit, arguments.overrides), stop)
        except ConfideError as error:
            log.error("%s", error)
            return EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED
    return 0


def _serve(kit: InstitutionKit, stop: threading.Event) -> None:
    deadline = Deadline()
    make_private_folder(kit.socket.parent)
    audit_log = open_audit_log(kit)
    institution = DeployedInstitution(kit, deadline=deadline)
    log_start(audit_log, kit, institution.ledger_events)
    # Outermost: an answer that is given again is one that leaves, too
    handler = AuditedHandler(
        ReplyCache(institution, is_stopped=functools.partial(is_stopped, kit)),
        audit_log,
        watched(kit, lambda: institution.ledger_events),
    )
    group = kit.config.socket_group
    if group is not None:
        # Of the state folder another user's service may be the owner. 0710 lets the group through
        # to the socket, and does not let it list what else is there.
        owned = (
            folder
            for folder in (kit.state, kit.socket.parent)
            if folder.stat().st_uid == os.geteuid()
        )
        share(dict.fromkeys(owned, 0o710), group, setting="socket_group")
    limits = ServiceLimits(wire=WireLimits(max_bytes=round(kit.max_message_mb * _MIB)))
    mode = 0o600 if group is None else 0o660
    with serve(
        handler, socket=kit.socket, deadline=deadline, limits=limits, mode=mode, group=group
    ):
        log.info("%s is ready and answers on %s.", handler.name, kit.socket)
        stop.wait()
    audit_log.append("ended", {"process": "trainer"})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
