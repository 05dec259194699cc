"""``confide serve``: a model that answers over HTTP."""

import argparse
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from confide.client.commands.given import add_model_options, given_model, model_parser
from confide.client.commands.writing_options import add_writing_options, writing_of
from confide.deployment.either_kit import kit_and_overrides
from confide.deployment.logs import log_to_stderr
from confide.errors import EXIT_FAILED, ConfigError
from confide.monitoring.address import is_loopback, is_unix

if TYPE_CHECKING:
    from confide.inference.predictor import Predictor
    from confide.serving.limits import Limits
    from confide.serving.tls import Tls

log = logging.getLogger(__name__)

_T = TypeVar("_T")
DEFAULT = "127.0.0.1:9110"
_DESCRIPTION = f"""Answer over HTTP with the model of a run or an exported one.

The Open Inference Protocol, version 2, which the clients of KServe and Triton speak, and plain
records, as JSON or CSV:

  confide serve runs/2026-11-22/00-26-38
  confide serve RUN/export/onnx --name heart --listen unix:/run/user/1000/heart.sock
  curl localhost:9110/predict -H 'content-type: text/csv' --data-binary @new.csv
  confide serve RUN --listen 10.0.0.5:8443 --token-file token --certificate c.pem --key k.pem

Records are checked as `confide predict` checks them, and what it would say is the answer's error.
Without --listen it is {DEFAULT}: this machine alone. Any other address takes a token and TLS.
No record is written anywhere, and none is in a log or a metric. SIGTERM or Ctrl-C: what was taken
is answered, then it ends; a second one ends it at once."""


def main(argv: Sequence[str]) -> int:
    """Run ``confide serve`` until it is told to end.

    Args:
        argv: arguments after ``serve``.

    Returns:
        The exit status: 0 if all that was taken was answered.

    Raises:
        ConfigError: if the command is wrong, or the address cannot be used.
        ModelError: if there is no model, or it cannot be used.
    """
    try:
        arguments = _parser().parse_args(list(argv) or ["--help"])
    except SystemExit as stop:
        return int(stop.code or 0)
    tls, token = _checked(arguments)
    log_to_stderr()
    with given_model(arguments) as predictor:
        return EXIT_FAILED if _serve(arguments, predictor, tls, token) else 0


def _parser() -> argparse.ArgumentParser:
    parser = model_parser("confide serve", _DESCRIPTION)
    add = parser.add_argument
    add("--name", help="name that the model is asked by (default: of its task and backbone)")
    add_model_options(parser)
    group = parser.add_argument_group("where it listens, and to whom")
    group.add_argument(
        "--listen",
        metavar="ADDRESS",
        default=DEFAULT,
        help=f"HOST:PORT, or unix:/PATH, a socket of this user's (default: {DEFAULT})",
    )
    group.add_argument(
        "--token-file",
        metavar="FILE",
        type=Path,
        help="file with the token that each request has to bring, which no other user can read",
    )
    group.add_argument(
        "--certificate", metavar="FILE", type=Path, help="TLS: the server's chain, in PEM"
    )
    group.add_argument("--key", metavar="FILE", type=Path, help="TLS: its private key, in PEM")
    group.add_argument(
        "--kit",
        metavar="FOLDER",
        type=Path,
        help="TLS: the coordinator's kit, whose certificate institutions trust by their ca.crt",
    )
    _add_limits(parser)
    group = add_writing_options(parser)
    # Of `confide predict`: refused with the reason
    group.add_argument("--past", help=argparse.SUPPRESS)
    return parser


_LIMITS: dict[str, tuple[str, type[int] | type[float], float, str]] = {
    "--max-body": ("body_mb", float, 1e-3, "MiB of a request"),
    "--max-records": ("records", int, 1, "records of a request"),
    "--max-batch": ("batch", int, 1, "records of several requests that are checked together"),
    "--max-delay-ms": ("delay_s", float, 0, "milliseconds that a batch waits for more"),
    "--max-waiting": ("waiting", int, 1, "requests that wait; more are answered 503"),
    "--max-connections": ("connections", int, 1, "connections open at once"),
    "--max-rate": ("rate", float, 1e-3, "requests a second of one address; more are answered 429"),
    "--timeout": ("timeout_s", float, 1e-3, "seconds until a request without answer gets 504"),
    "--read-timeout": ("read_s", float, 1e-3, "seconds for a request's headers, and for its body"),
    "--stop-timeout": ("stop_s", float, 0, "seconds that a stop waits for answers under way"),
}
"""Option -> name in Limits, type, smallest value, meaning."""
_IN_MS = {"--max-delay-ms"}


def _add_limits(parser: argparse.ArgumentParser) -> None:
    from confide.serving.limits import Limits

    group, usual = parser.add_argument_group("limits"), Limits()
    for option, (name, kind, smallest, meaning) in _LIMITS.items():
        value = getattr(usual, name)
        told = "any" if value is None else f"{value * (1000 if option in _IN_MS else 1):g}"
        group.add_argument(
            option,
            metavar="N",
            type=_at_least(kind, smallest),
            help=f"{meaning} (default: {told})",
        )
    group.add_argument(
        "--rows",
        metavar="N",
        type=_at_least(int, 1),
        default=1,
        help="records that the model computes in one pass. 1, the default: each answer is bit for"
        " bit what predict gives for that record alone; more is faster, and may differ in the last"
        " digits",
    )


def _at_least(kind: type[int] | type[float], smallest: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        value = kind(text)
        if not math.isfinite(value) or value < smallest:
            raise ValueError
        return value

    read.__name__ = f"{'integer' if kind is int else 'number'} of at least {smallest:g}:"
    return read


def _limits(arguments: argparse.Namespace) -> "Limits":
    from confide.serving.limits import Limits

    given = {}
    for option, (name, *_) in _LIMITS.items():
        value = getattr(arguments, option.removeprefix("--").replace("-", "_"))
        if value is not None:
            given[name] = value / 1000 if option in _IN_MS else value
    return Limits(**given)


def _checked(arguments: argparse.Namespace) -> "tuple[Tls | None, str | None]":
    """Return how TLS is spoken, and the token, before a model is loaded.

    Raises:
        ConfigError: naming all that is wrong.
    """
    problems: list[str] = []

    def tried(read: Callable[[argparse.Namespace], _T]) -> _T | None:
        try:
            return read(arguments)
        except ConfigError as error:
            problems.extend(error.problems)
            return None

    tls, token = tried(_tls), tried(_token)
    tried(_refuse_open)
    tried(_refuse_past)
    tried(_check_name)
    if problems:
        raise ConfigError(problems)
    return tls, token


def _refuse_past(arguments: argparse.Namespace) -> None:
    if arguments.past is not None:
        raise ConfigError(
            f"--past {arguments.past}: whoever asks over HTTP would be told conversations of"
            " others; use `confide predict RUN INPUT --past` where these may be read, or leave it"
            " out."
        )


def _check_name(arguments: argparse.Namespace) -> None:
    from confide.serving.identity import check_name

    if arguments.name is not None:
        check_name(arguments.name)


def _token(arguments: argparse.Namespace) -> str | None:
    from confide.serving.access import read_token

    return None if arguments.token_file is None else read_token(arguments.token_file)


def _tls(arguments: argparse.Namespace) -> "Tls | None":
    """Return the files of TLS that are named; None if none is.

    Raises:
        ConfigError: if one of two is missing, or a kit has none.
    """
    from confide.serving.tls import Tls

    named = (arguments.certificate, arguments.key)
    if arguments.kit is None:
        if named == (None, None):
            return None
        if None in named:
            raise ConfigError("--certificate and --key: expected both, the chain and its key.")
        tls = Tls(*named)
        tls.context()  # reports files that cannot be used
        return tls
    if named != (None, None):
        raise ConfigError("--kit brings a certificate and its key; leave --certificate, --key out.")
    folder, _, side = kit_and_overrides([str(arguments.kit)], [], [])
    if side != "server":
        raise ConfigError(
            f"--kit {arguments.kit}: an institution's certificate says who asks, and no authority"
            " of a federation signs for its hosts; name the coordinator's kit, or a certificate of"
            " this machine's by --certificate and --key."
        )
    tls = Tls(folder / "server.crt", folder / "server.key")
    tls.context()
    return tls


def _refuse_open(arguments: argparse.Namespace) -> None:
    """Refuse to answer other machines without a token, or without TLS."""
    where, has_token = arguments.listen, arguments.token_file is not None
    has_tls = any((arguments.certificate, arguments.key, arguments.kit))
    if is_unix(where):
        if has_tls:
            raise ConfigError(f"--listen {where}: TLS is for addresses; leave it out.")
        return
    if is_loopback(where, "--listen"):
        return
    lacking = [
        *([] if has_token else ["--token-file FILE"]),
        *([] if has_tls else ["--certificate FILE --key FILE, or --kit FOLDER"]),
    ]
    if lacking:
        raise ConfigError(
            f"--listen {where}: other machines reach it, which takes a token and TLS; add"
            f" {' and '.join(lacking)}, or listen on {DEFAULT} or unix:/PATH."
        )


def _serve(
    arguments: argparse.Namespace,
    predictor: "Predictor",
    tls: "Tls | None",
    token: str | None,
) -> int:
    """Serve; return how many requests have no answer at the end."""
    from confide.serving.access import Access
    from confide.serving.build import build_served
    from confide.serving.identity import identity_of
    from confide.serving.serving import serve

    identity = identity_of(predictor, arguments.run, arguments.name)
    served = build_served(
        replace(predictor, most_rows=arguments.rows),
        identity,
        limits=_limits(arguments),
        access=Access(token, is_named=not is_unix(arguments.listen)),
        writing=writing_of(arguments),
    )
    told = ", ".join(f"{one.name} {one.datatype}" for one in served.signature.inputs)
    log.info("Model %s of run %s takes %s.", identity.model_sha256, predictor.plan.job, told)
    return serve(served, arguments.listen, tls)


__all__ = ["main"]
