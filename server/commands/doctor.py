"""``confide doctor`` of a coordinator: its kit, this machine, who is connected, who was refused."""

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import replace
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
    server_authority,
    show,
    validity,
)
from confide.deployment.lifetime import processes
from confide.errors import ConfideError, ConfigError
from confide.flower.processes import SuperLinkControl, Tls
from confide.security import certificate_hosts, certificates, ec_keys
from confide.security.chain_checks import chain_notes, chain_problems
from confide.security.revocations import read_revocations
from confide.security.server_chain import read_chain, read_root, told
from confide.server.deployment.kit import CoordinatorKit, load_coordinator_kit
from confide.server.deployment.knocks import knocks
from confide.server.deployment.launch import is_taken
from confide.server.provisioning.certificates import LOOPBACK_HOSTS

_RENEW = (
    "run `confide provision` again where the authority's key is, and bring coordinator/ here; a"
    " front that runs takes server.crt up by itself."
)
_SIGN_AGAIN = (
    "have server.csr signed by your authority, and give what it sends to `confide provision"
    " --server-certificate`."
)
_NEW_FEDERATION = "provision a new federation, and send every institution its kit."
_LARGE_DATABASE = 2**30
_MOST_REFUSALS = 10


def examine(folder: Path, overrides: Sequence[str], *, as_json: bool) -> int:
    """Check a coordinator's kit and print the findings.

    Args:
        folder: folder of the kit.
        overrides: must be empty: a coordinator's kit takes none.
        as_json: whether to print JSON.

    Returns:
        Exit status.

    Raises:
        ConfigError: if there are overrides.
    """
    if overrides:
        raise ConfigError(
            f"confide doctor: a coordinator's kit takes no overrides, got {' '.join(overrides)}."
        )
    return show(diagnose(folder), as_json=as_json)


def diagnose(folder: Path) -> list[Finding]:
    """Check a coordinator's kit and this machine."""
    try:
        kit = load_coordinator_kit(folder)
    except ConfigError as error:
        broken = [
            Finding("federation.json", "error", problem, _RENEW) for problem in error.problems
        ]
        # Everything else needs the kit.
        return [*broken, *gather(("versions", releases))]
    who = f"{kit.name}, {len(kit.institutions)} institutions"
    return [
        ok("federation.json", f"{who}, {', '.join(kit.hosts)} port {kit.port}"),
        *gather(
            ("versions", releases),
            ("ca.crt", lambda: authority(kit.ca, _NEW_FEDERATION)),
            ("server.crt", lambda: _server(kit)),
            ("loopback.crt", lambda: _certificate(kit.inner, LOOPBACK_HOSTS)),
            ("heads.key", lambda: _heads_key(kit)),
            ("ca.key", lambda: _authority_key(kit)),
            ("institutions", lambda: _institutions(kit)),
            ("trainers", lambda: _trainers(kit)),
            ("revoked", lambda: _revoked(kit)),
            ("port", lambda: _port(kit)),
            ("connected", lambda: _connected(kit)),
            ("refused", lambda: _refused(kit)),
            ("database", lambda: _database(kit)),
            ("folders", lambda: private_folder("folders", kit.state)),
            ("disk", lambda: disk(kit.state)),
            ("memory", memory),
        ),
    ]


def _server(kit: CoordinatorKit) -> Iterator[Finding]:
    """Check the certificate that institutions see, of whichever authority."""
    tls, path = kit.outer, kit.server_ca
    if path is None:
        yield from _certificate(tls, kit.hosts)
        return
    yield from server_authority(path, _SIGN_AGAIN)
    yield from private_file(tls.key.name, tls.key)
    key = ec_keys.read_private_key(tls.key)
    chain = read_chain(tls.certificate, read_root(path), key.public_key())
    for problem in chain_problems(chain, kit.hosts, key):
        yield Finding("server.crt", "error", problem, _SIGN_AGAIN)
    for note in chain_notes(chain):
        yield Finding("server.crt", "warning", note, _SIGN_AGAIN)
    signer = told(chain.authorities[0])
    yield ok("server.crt", f"signed by {signer}, {len(chain.intermediates)} intermediates")
    yield validity("server.crt", chain.leaf, _SIGN_AGAIN)


def _certificate(tls: Tls, hosts: Sequence[str]) -> Iterator[Finding]:
    name = tls.certificate.name
    certificate = certificates.read_certificate(tls.certificate)
    key = ec_keys.read_private_key(tls.key)
    yield from private_file(tls.key.name, tls.key)
    if not certificates.is_key_of(key, certificate):
        yield Finding(name, "error", f"{tls.key.name} is not its key", _RENEW)
    if not certificates.is_issued_by(certificate, certificates.read_certificate(tls.ca)):
        yield Finding(name, "error", "ca.crt did not sign it: no institution will trust it", _RENEW)
    if not certificate_hosts.is_for(certificate, hosts):
        message = (
            f"for {', '.join(certificate_hosts.hosts_of(certificate))}, expected {', '.join(hosts)}"
        )
        yield Finding(name, "error", message, _RENEW)
    yield validity(name, certificate, _RENEW)


def _heads_key(kit: CoordinatorKit) -> Iterator[Finding]:
    if not kit.heads.exists():
        message = "missing: heads of institutions' ledgers are not countersigned"
        fix = "run `confide provision` again, and send each institution its heads.pub."
        yield Finding("heads.key", "warning", message, fix)
        return
    key = ec_keys.read_private_key(kit.heads).public_key()
    yield from private_file("heads.key", kit.heads)
    yield ok("heads.key", f"EC P-384, fingerprint {ec_keys.key_fingerprint(key)}")


def _authority_key(kit: CoordinatorKit) -> Iterator[Finding]:
    # At any depth: where it lies makes no difference to whoever takes over the machine.
    paths = sorted(kit.folder.rglob("ca.key"))
    for path in paths:
        yield Finding(
            "ca.key",
            "error",
            f"{path}: anyone who takes over this machine could pose as the coordinator",
            "move it off this machine; it is needed only to renew certificates.",
        )
    if not paths:
        yield ok("ca.key", "not in this folder, as it should be")


def _institutions(kit: CoordinatorKit) -> Iterator[Finding]:
    owners: dict[str, str] = {}
    for name, path in kit.institutions.items():
        try:
            fingerprint = ec_keys.key_fingerprint(ec_keys.read_public_key(path))
        except ConfideError as error:
            yield Finding(
                "institutions", "error", f"{name}: {error}", "run `confide provision` again."
            )
            continue
        # SuperLink knows a node by its key alone, so two with one key would be the same node.
        owner = owners.setdefault(fingerprint, name)
        if owner != name:
            yield Finding(
                "institutions",
                "error",
                f"{owner} and {name} have the same key {fingerprint}",
                "give each its own.",
            )
        else:
            yield ok("institutions", f"{name}: {fingerprint}")


def _trainers(kit: CoordinatorKit) -> Iterator[Finding]:
    fix = "run `confide provision` again where the authority's key is, and send it trainer.crt."
    for path in kit.trainer_certificates:
        certificate = certificates.read_certificate(path)
        finding = validity("trainers", certificate, fix)
        name = certificates.common_name(certificate.subject)
        yield replace(finding, message=f"trainer.crt of {name} {finding.message}")


def _revoked(kit: CoordinatorKit) -> Iterator[Finding]:
    revoked = read_revocations(kit.revoked)
    if not revoked.keys:
        return
    names = ", ".join(dict.fromkeys(f"{it.name} ({it.since})" for it in revoked.keys))
    listed = f"list {revoked.number}, {len(revoked.keys)} keys: {names}"
    if revoked.signature:
        revoked.check(certificates.read_certificate(kit.ca), str(kit.revoked))
        yield ok("revoked", listed)
    else:
        fix = "run `confide provision` again where the authority's key is, and send the list."
        yield Finding("revoked", "warning", f"{listed}; not signed: others take no notice", fix)


def _port(kit: CoordinatorKit) -> Iterator[Finding]:
    # A port that is in use is right while the coordinator runs, and wrong before.
    if processes(kit.logs):
        yield ok("port", f"{kit.port} is used by the `confide server` running from this kit")
    elif is_taken(kit.port):
        yield Finding(
            "port",
            "error",
            f"{kit.port} is in use, and no `confide server` is running from this kit",
            "end the program that listens there, or provision another port.",
        )
    else:
        yield ok("port", f"{kit.port} is free; no `confide server` is running from this kit")


def _connected(kit: CoordinatorKit) -> Iterator[Finding]:
    # SuperLink alone knows, and it runs only with the coordinator.
    if not processes(kit.logs):
        return
    control = SuperLinkControl(kit.address.read_text().strip(), kit.inner.ca)
    connected = control.connected(kit.institutions)
    absent = [name for name in kit.institutions if name not in connected]
    if connected:
        yield ok("connected", ", ".join(connected))
    if absent:
        yield Finding(
            "connected",
            "warning",
            f"not connected: {', '.join(absent)}",
            "`confide doctor` on their side shows why.",
        )


def _refused(kit: CoordinatorKit) -> Iterator[Finding]:
    """Report clients that the front refused in the last hour, according to its log."""
    seen = knocks(kit, within=datetime.timedelta(hours=1))
    for client, times in seen.most_common(_MOST_REFUSALS):
        often = "once" if times == 1 else f"{times} times"
        yield Finding(
            "refused",
            "warning",
            f"tried to connect in the last hour, {often}, and was refused: {client}",
            "if it should take part: `confide doctor` on its side, and compare key and ca.crt by"
            " telephone.",
        )


def _database(kit: CoordinatorKit) -> Iterator[Finding]:
    if not kit.database.exists():
        return
    size = kit.database.stat().st_size
    message = f"{kit.database.name} has {size / 2**20:.0f} MiB"
    if size > _LARGE_DATABASE:
        fix = (
            f"between two runs, remove {kit.database}: checkpoints are in RUN, and keys are"
            " registered at each start."
        )
        yield Finding("database", "warning", message, fix)
    else:
        yield ok("database", message)


__all__ = ["diagnose", "examine"]
