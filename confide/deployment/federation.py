"""A federation as its coordinator declares it: institutions, its own address, the task."""

import fnmatch
import ipaddress
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import yaml

from confide.config.composing.own_files import in_file
from confide.config.fields import STRICT, range_problems, setting
from confide.errors import ConfigError, words_of
from confide.protocol.masked_sums import EVERYBODY

_LONGEST_NAME, _LONGEST_COMMON_NAME = 100, 64
_DNS_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")


@dataclass
class FederationConfig:
    """What ``confide provision`` makes certificates and kits from."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: str = setting("", "Name of the federation, and of its certificate authority.")
    hosts: list[str] = setting(
        list,
        "DNS names or IP addresses of the coordinator for institutions; kits use the first.",
    )
    port: int = setting(8443, "TCP port that institutions connect to.", ge=1, le=65535)
    institutions: list[str] = setting(list, "Names of the institutions that take part.")
    config: list[str] = setting(
        list, "Overrides that the kits' task is composed from, such as experiment=heart_disease."
    )
    days: int = setting(365, "Days that the coordinator's certificates are valid.", ge=1, le=825)

    client_certificates: bool = setting(
        False,
        "Whether the coordinator asks institutions for a certificate before anything else, so that"
        " strangers cannot hold its connections; kits then have a node.crt.",
    )
    server_certificate: str = setting(
        "authority",
        "Who signs the certificate by which institutions recognise the coordinator: the"
        " federation's own authority, or an external one, to which server.csr is sent.",
        choices=("authority", "external"),
    )

    @property
    def is_certified_elsewhere(self) -> bool:
        """Whether an external authority signs the coordinator's certificate."""
        return self.server_certificate == "external"

    @property
    def address(self) -> str:
        """HOST:PORT that kits use."""
        return join_address(self.hosts[0], self.port)

    def problems(self) -> Iterator[str]:
        """Yield contradictions, one sentence each."""
        for problem in common_name_problems(self.name):
            yield f"name={problem}"
        for key, values in (("hosts", self.hosts), ("institutions", self.institutions)):
            if not values:
                yield f"{key}=[]: expected at least one."
            for names in _look_alikes(values):
                yield (
                    f"{key}: {', '.join(map(repr, names))} look the same; expected names that"
                    " differ by more than case."
                )
        for host in self.hosts:
            if not _is_host(host):
                yield (
                    f"hosts={host!r}: expected a DNS name or an IP address alone: no scheme, no"
                    " port, no wildcard, and letters outside ASCII as xn--."
                )
        for name in self.institutions:
            yield from (f"institutions={it}" for it in (*name_problems(name), *self._poses(name)))

    def _poses(self, name: str) -> Iterator[str]:
        for host in self.hosts:
            if _is_name_of(host, name):
                yield (
                    f"{name!r}: TLS would take the certificate of its trainer for the coordinator's"
                    f" at {host}; choose another name."
                )


_KEYS = ", ".join(item.name for item in fields(FederationConfig))


def name_problems(name: str) -> Iterator[str]:
    """Yield reasons why a name cannot be an institution's, each beginning with the name."""
    if not 1 <= len(name) <= _LONGEST_NAME or not name.isprintable() or name != name.strip():
        yield (
            f"{name!r}: expected 1 to {_LONGEST_NAME} printable characters, none of them a space at"
            " either end."
        )
    if "${" in name or name == "???":
        yield f"{name!r}: ${{ and ??? mean something else in a config; choose another name."
    if name == EVERYBODY:
        yield f"{name!r}: stands for all institutions together; choose another name."


def common_name_problems(name: str) -> Iterator[str]:
    """Yield reasons why a name cannot be a common name in a certificate or certificate request."""
    yield from name_problems(name)
    size = len(name.encode("utf-8", "replace"))
    if size > _LONGEST_COMMON_NAME:
        yield (
            f"{name!r} takes {size} bytes in UTF-8, and a certificate holds {_LONGEST_COMMON_NAME};"
            " choose a shorter name."
        )


def join_address(host: str, port: int) -> str:
    """Return HOST:PORT, with an IPv6 address in brackets.

    >>> join_address("::1", 8443)
    '[::1]:8443'
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_federation(path: Path) -> tuple[FederationConfig, list[str]]:
    """Read a federation's YAML.

    Args:
        path: file to read.

    Returns:
        The federation, with defaults for mistyped values, and its mistakes, one sentence each.

    Raises:
        ConfigError: if the file is missing, or is not YAML with keys.
    """
    from pydantic import TypeAdapter, ValidationError

    raw = _read_yaml(path)
    wrong = {}
    try:
        federation = TypeAdapter(FederationConfig).validate_json(json.dumps(raw))
    except ValidationError as error:
        wrong = {
            ".".join(map(str, mistake["loc"])): mistake
            for mistake in error.errors(include_url=False)
        }
        keys = {str(mistake["loc"][0]) for mistake in wrong.values()}
        federation = FederationConfig(
            **{key: value for key, value in raw.items() if str(key) not in keys}
        )
    problems = []
    for key, mistake in wrong.items():
        is_unknown = mistake["type"] == "unexpected_keyword_argument"
        hint = f"; the keys are {_KEYS}" if is_unknown else ""
        problems.append(f"{key}={mistake['input']!r}: {mistake['msg']}{hint}.")
    # Its range is not complained about as well: what is mistyped has its default by now.
    mistyped = tuple(f"{key.partition('.')[0]}{sign}" for key in wrong for sign in "=:")
    problems += [
        problem for problem in range_problems(federation) if not problem.startswith(mistyped)
    ]
    return federation, [in_file(path, problem) for problem in problems]


def _read_yaml(path: Path) -> dict[Any, Any]:
    """Read a YAML file of keys and values that JSON can hold too."""
    try:
        raw: Any = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
        raw = {} if raw is None else raw
        json.dumps(raw)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(
            f"{path}{line}: is not YAML: {error.problem}; expected that of a federation."
        ) from None
    except (OSError, TypeError, UnicodeError, yaml.YAMLError) as error:
        raise ConfigError(
            f"{path} cannot be read ({words_of(error)}); expected the YAML of a federation."
        ) from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected keys and values ({_KEYS}), got {type(raw).__name__}.")
    return raw


def _look_alikes(names: Iterable[str]) -> list[list[str]]:
    """Group names that are equal to a reader, or on a disk that does not distinguish case."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(unicodedata.normalize("NFKC", name).casefold(), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def _is_name_of(host: str, common_name: str) -> bool:
    """Tell whether a certificate without alternative names may be taken for a host's."""
    # More than the wildcards that TLS knows, so that none is missed
    return fnmatch.fnmatchcase(host.lower(), common_name.lower().rstrip("."))


def _is_host(host: str) -> bool:
    """Return whether this is an IP address or DNS name that a certificate can hold."""
    try:
        ipaddress.ip_address(host)
        # A zone index (fe80::1%eth0) means something on one machine only.
        return "%" not in host
    except ValueError:
        labels = host.split(".")
        is_name = len(host) <= 253 and all(map(_DNS_LABEL.fullmatch, labels))
        # 10.0.0 or 10.0.0.300 is a mistyped address, for which a DNS name would pass.
        return is_name and not labels[-1].isdecimal()


__all__ = [
    "FederationConfig",
    "common_name_problems",
    "join_address",
    "name_problems",
    "parse_federation",
]
