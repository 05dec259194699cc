"""``confide doctor`` of a coordinator.

Whether its kit and this machine are ready, who is there, and who was refused.
"""

import datetime
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from confide.deployment.checks import (
    Finding,
    authority,
    disk,
    gather,
    memory,
    ok,
    private_file,
    private_folder,
    releases,
    show,
    validity,
)
from confide.deployment.supervisor import log_tail, processes
from confide.errors import ConfideError, ConfigError
from confide.flower.processes import SuperLinkControl, Tls
from confide.security import certificates, ec_keys
from confide.server.deployment.kit import CoordinatorKit, load_coordinator_kit
from confide.server.deployment.launch import is_taken
from confide.server.provisioning.certificates import LOOPBACK_HOSTS

_RENEW = (
    "run `confide provision` again where the authority's key is, bring coordinator/ here, and start"
    " again."
)
_LARGE_DATABASE = 2**30
_RECENT = datetime.timedelta(hours=1)
_MOST_REFUSALS, _MOST_LOG = 10, 2**20
_REFUSED = re.compile(
    r"^(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+ WARNING (?:"
    r"POST '[^']*' from (?P<peer>\S+):\d+: \d+, refused, (?P<why>.*), (?P<key>key \S+|no key)"
    r"|TLS with (?P<stranger>\S+):\d+ fails: (?P<told>.*))",
    re.MULTILINE,
)


def examine(folder: Path, overrides: Sequence[str], *, as_json: bool) -> int:
    """Print what is wrong with a coordinator's kit.

    Returns:
        The exit status.

    Raises:
        ConfigError: if there are overrides, which a coordinator's kit has no use for.
    """
    if overrides:
        raise ConfigError(
            f"confide doctor: a coordinator's kit takes no overrides, got {' '.join(overrides)}."
        )
    return show(diagnose(folder), as_json=as_json)


def diagnose(folder: Path) -> list[Finding]:
    """Look at a coordinator's kit and this machine."""
    try:
        kit = load_coordinator_kit(folder)
    except ConfigError as error:
        broken = [
            Finding("federation.json", "error", problem, _RENEW) for problem in error.problems
        ]
        return [*broken, *gather(("versions", releases))]
    outer, inner = kit.outer, kit.inner
    return [
        ok(
            "federation.json",
            f"{kit.name}, {len(kit.institutions)} institutions, {', '.join(kit.hosts)} port"
            f" {kit.port}",
        ),
        *gather(
            ("versions", releases),
            (
                "ca.crt",
                lambda: authority(
                    outer.ca, "provision a new federation, and send every institution its kit."
                ),
            ),
            ("server.crt", lambda: _certificate(outer, kit.hosts)),
            ("loopback.crt", lambda: _certificate(inner, LOOPBACK_HOSTS)),
            ("ca.key", lambda: _authority_key(kit)),
            ("institutions", lambda: _institutions(kit)),
            ("port", lambda: _port(kit)),
            ("connected", lambda: _connected(kit)),
            ("refused", lambda: _refused(kit)),
            ("database", lambda: _database(kit)),
            ("folders", lambda: private_folder("folders", kit.state)),
            ("disk", lambda: disk(kit.state)),
            ("memory", memory),
        ),
    ]


def _certificate(tls: Tls, hosts: Sequence[str]) -> Iterator[Finding]:
    name = tls.certificate.name
    certificate, key = (
        certificates.read_certificate(tls.certificate),
        ec_keys.read_private_key(tls.key),
    )
    yield from private_file(tls.key.name, tls.key)
    if not certificates.is_key_of(key, certificate):
        yield Finding(name, "error", f"{tls.key.name} is not its key", _RENEW)
    if not certificates.is_issued_by(certificate, certificates.read_certificate(tls.ca)):
        yield Finding(name, "error", "ca.crt did not sign it: no institution will trust it", _RENEW)
    if not certificates.is_for(certificate, hosts):
        told = f"for {', '.join(certificates.hosts_of(certificate))}, expected {', '.join(hosts)}"
        yield Finding(name, "error", told, _RENEW)
    yield validity(name, certificate, _RENEW)


def _authority_key(kit: CoordinatorKit) -> Iterator[Finding]:
    found = sorted(kit.folder.rglob("ca.key"))
    for path in found:
        told = f"{path}: whoever takes this machine could be any coordinator"
        yield Finding(
            "ca.key",
            "error",
            told,
            "move it off this machine; it is needed only to renew certificates.",
        )
    if not found:
        yield ok("ca.key", "not in this folder, as it should be")


def _institutions(kit: CoordinatorKit) -> Iterator[Finding]:
    owners: dict[str, str] = {}
    for name, path in kit.institutions.items():
        try:
            shown = ec_keys.key_fingerprint(ec_keys.read_public_key(path))
        except ConfideError as error:
            yield Finding(
                "institutions", "error", f"{name}: {error}", "run `confide provision` again."
            )
            continue
        owner = owners.setdefault(shown, name)
        if owner != name:
            yield Finding(
                "institutions",
                "error",
                f"{owner} and {name} have the same key {shown}",
                "give each its own.",
            )
        else:
            yield ok("institutions", f"{name}: {shown}")


def _port(kit: CoordinatorKit) -> Iterator[Finding]:
    runs = bool(processes(kit.logs))
    if runs:
        yield ok("port", f"{kit.port} is held by the `confide server` that runs from this kit")
    elif is_taken(kit.port):
        told = f"{kit.port} is taken, and no `confide server` runs from this kit"
        yield Finding("port", "error", told, "end what listens there, or provision another port.")
    else:
        yield ok("port", f"{kit.port} is free; no `confide server` runs from this kit")


def _connected(kit: CoordinatorKit) -> Iterator[Finding]:
    if not processes(kit.logs):
        return
    there = SuperLinkControl(kit.address.read_text().strip(), kit.inner.ca).connected(
        kit.institutions
    )
    absent = [name for name in kit.institutions if name not in there]
    if there:
        yield ok("connected", ", ".join(there))
    if absent:
        yield Finding(
            "connected",
            "warning",
            f"not there: {', '.join(absent)}",
            "`confide doctor` on their side says why.",
        )


def _refused(kit: CoordinatorKit) -> Iterator[Finding]:
    """Tell who knocked in the last hour and was refused, by what the front wrote."""
    since = datetime.datetime.now() - _RECENT
    names = {
        f"key {ec_keys.key_fingerprint(ec_keys.read_public_key(path))}": name
        for name, path in kit.institutions.items()
    }
    seen: Counter[str] = Counter()
    for match in _REFUSED.finditer(log_tail(kit.logs / "front.log", most=_MOST_LOG)):
        if datetime.datetime.fromisoformat(match["time"]) >= since:
            seen[_knock(match, names)] += 1
    for told, times in seen.most_common(_MOST_REFUSALS):
        often = "once" if times == 1 else f"{times} times"
        fix = (
            "if it should take part: `confide doctor` on its side, and compare key and ca.crt by"
            " telephone."
        )
        yield Finding(
            "refused",
            "warning",
            f"knocked in the last hour, {often}, and was refused: {told}",
            fix,
        )


def _knock(match: re.Match[str], names: dict[str, str]) -> str:
    if match["told"] is not None:
        return f"{match['stranger']}: {match['told']}"
    return f"{match['peer']}, {names.get(match['key'], match['key'])}: {match['why']}"


def _database(kit: CoordinatorKit) -> Iterator[Finding]:
    if not kit.database.exists():
        return
    size = kit.database.stat().st_size
    told = f"{kit.database.name} has {size / 2**20:.0f} MiB"
    if size > _LARGE_DATABASE:
        fix = (
            f"between two runs, remove {kit.database}: checkpoints are in RUN, and keys are"
            " registered at each start."
        )
        yield Finding("database", "warning", told, fix)
    else:
        yield ok("database", told)


__all__ = ["diagnose", "examine"]
