"""The coordinator's TLS front: lets institutions reach the fleet API of a SuperLink, nothing else.

A SuperLink serves three APIs on one port: the fleet API, which SuperNodes sign in to, and the
control and runtime APIs, of which the first has no authentication. So it listens on loopback, and
this process, which knows the twelve paths that SuperNodes use, stands in front of it. It
authenticates nobody; that remains the SuperLink's task. But it refuses nodes of another minor
release of Flower, which SuperLink 1.41 accepts, and its log says who was refused.

Where it asks for client certificates, who has none is cut at the handshake and holds no connection.
Not covered: nobody is limited by address, so a flood needs a firewall; a body may be as slow as
4 KiB/s. A connection that
is closed during its handshake, as may happen while this process ends, is a certificate's error to a
SuperNode, which gives up: it needs a supervisor.
"""

import argparse
import logging
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from confide.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, ConfigError, UnreadableError
from confide.security.ec_keys import read_private_key
from confide.server.deployment.fleet_proxy import Upstream, create_app
from confide.server.deployment.handshakes import listen
from confide.server.deployment.listener import FewLines, Limits, ListenerConfig, Server
from confide.server.deployment.revoked import RevokedKeys
from confide.terminal import plain

_MIB = 1024 * 1024

log = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    """Serve until SIGTERM, or until the parent process is gone.

    Args:
        argv: words of the command.

    Returns:
        Exit status.
    """
    try:
        arguments = _parser().parse_args(list(argv))
    except SystemExit as stop:
        return int(stop.code or 0)
    handler = logging.StreamHandler()
    handler.addFilter(FewLines())
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING, handlers=[handler]
    )
    log.setLevel(logging.INFO)
    try:
        config = _configure(arguments)
        listener = listen(arguments.listen, config.handshakes)
    except (ConfigError, UnreadableError) as error:
        print(plain(f"confide.server.deployment.front: {error}"), file=sys.stderr)
        return EXIT_USAGE
    # Asked of the socket, since port 0 takes any that is free.
    host, port = listener.getsockname()[:2]
    log.info("Listening on %s:%d in front of https://%s.", host, port, arguments.upstream)
    return _serve(config, listener)


def _configure(arguments: argparse.Namespace) -> ListenerConfig:
    limits = Limits(
        max_body=arguments.max_body_mb * _MIB,
        stall_s=arguments.stall_s,
        max_connections=arguments.max_connections,
    )
    upstream = Upstream(
        address=arguments.upstream,
        ca=arguments.upstream_ca,
        timeout_s=arguments.upstream_timeout_s,
    )
    revoked = None if arguments.revoked is None else RevokedKeys(arguments.revoked)
    config = ListenerConfig(
        create_app(upstream, limits, revoked),
        limits,
        certificate=arguments.certificate,
        key=arguments.key,
        client_ca=arguments.client_ca,
        revoked=revoked,
    )
    # Before uvicorn does it, so that a wrong file is a mistake in the command.
    try:
        read_private_key(arguments.key)
        config.load()
    except OSError as error:
        asked = "" if arguments.client_ca is None else f", or client-ca={arguments.client_ca},"
        raise ConfigError(
            f"certificate={arguments.certificate} and key={arguments.key}{asked} cannot be used"
            f" ({error}); name PEM files that belong together."
        ) from None
    return config


def _serve(config: ListenerConfig, listener: socket.socket) -> int:
    server = Server(config)
    # uvicorn handles both, then raises them again for the handlers set here. SIGINT is set even if
    # a shell had it ignored, as for jobs in the background.
    signal.signal(signal.SIGTERM, server.handle_exit)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        server.run([listener])
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return 0 if server.started else EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m confide.server.deployment.front", description=__doc__.partition("\n")[0]
    )
    required: list[tuple[str, dict[str, Any]]] = [
        ("listen", {"metavar": "HOST:PORT", "help": "where institutions connect; port 0 for any"}),
        ("certificate", {"type": Path, "help": "this server's certificate, PEM"}),
        ("key", {"type": Path, "help": "its private key, PEM"}),
        ("upstream", {"metavar": "HOST:PORT", "help": "the SuperLink, on loopback"}),
        ("upstream-ca", {"type": Path, "help": "authority of the SuperLink's certificate, PEM"}),
    ]
    for name, settings in required:
        parser.add_argument(f"--{name}", required=True, **settings)
    parser.add_argument(
        "--client-ca", type=Path, help="authority of the certificate that clients must show, PEM"
    )
    parser.add_argument("--revoked", type=Path, help="list of revoked keys, heeded as it changes")
    limits: list[tuple[str, int | float, str]] = [
        ("upstream-timeout-s", Upstream.timeout_s, "longest silence of the SuperLink"),
        ("max-body-mb", Limits.max_body // _MIB, "largest body in MiB"),
        ("stall-s", Limits.stall_s, "longest silence of a client"),
        ("max-connections", Limits.max_connections, "most connections at a time"),
    ]
    for name, default, meaning in limits:
        text = f"{meaning}; default %(default)g"
        parser.add_argument(f"--{name}", type=type(default), default=default, help=text)
    return parser


__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
