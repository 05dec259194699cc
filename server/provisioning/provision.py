"""Provisioning: a federation's authority, the coordinator's certificates, and a start-up kit for each institution.

Every file is written whole or not at all, and in an order in which what names a file comes after
it: an institution is known (``coordinator/nodes``) once its kit is complete. Running it again
therefore completes a run that was cut off, adds whoever is new, and leaves all else as it was.
Trusted with secrets: the coordinator, who makes node keys for institutions that send no certificate
request of their own; such a key is as secret as the way that the kit travels.
"""

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from confide.config.compose import compose
from confide.config.run import Config
from confide.deployment.federation import (
    FederationConfig,
    common_name_problems,
    join_address,
    parse_federation,
)
from confide.errors import ConfigError, UnreadableError
from confide.security import pki
from confide.server.provisioning.certificates import Authority, certify_coordinator, find_authority
from confide.server.provisioning.files import (
    SECRET,
    Places,
    alone,
    sweep,
    write_changed,
    write_missing,
)
from confide.server.provisioning.texts import client_yaml, coordinator_page, kit_page
from confide.storage.files import make_private_folder, write_json, write_text


@dataclass(frozen=True, kw_only=True)
class Kit:
    """What became of one institution's kit.

    Attributes:
        name: of the institution.
        folder: its kit.
        state: made, completed, unchanged or new key.
        has_key: whether the kit holds the private key.
        key_fingerprint: of its public key.
    """

    name: str
    folder: Path
    state: str
    has_key: bool
    key_fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Provisioned:
    """What one run made.

    Attributes:
        places: where.
        fingerprint: of the authority's certificate.
        kits: one an institution, in the YAML's order.
        removed: names of institutions that are no longer known.
        notes: what else somebody should know, a sentence each.
    """

    places: Places
    fingerprint: str
    kits: list[Kit]
    removed: list[str]
    notes: list[str]


@dataclass(frozen=True, kw_only=True)
class Requested:
    """What an institution made for itself, and the fingerprint of its public key."""

    folder: Path
    key_fingerprint: str


@dataclass
class _NodeKey:
    """The key that an institution is to be known by; None: one is to be made."""

    public: pki.PublicKey | None
    is_replaced: bool = False


@dataclass
class _Keys:
    """What each institution's keys are, and every reason why they cannot be."""

    chosen: dict[str, _NodeKey] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def read_federation(path: Path) -> tuple[FederationConfig, Config]:
    """Read a federation's YAML, and compose the config that its kits' task comes from.

    Raises:
        ConfigError: naming every mistake.
    """
    federation, problems = parse_federation(path)
    try:
        config = compose(federation.config)
    except ConfigError as error:
        raise ConfigError(
            [*problems, *(f"{path}: config: {problem}" for problem in error.problems)]
        ) from None
    if problems:
        raise ConfigError(problems)
    return federation, config


def provision(
    federation: FederationConfig,
    config: Config,
    out: Path,
    *,
    requests: Sequence[Path] = (),
    replace: Sequence[str] = (),
    now: datetime.datetime | None = None,
) -> Provisioned:
    """Make what is not there yet of a federation's certificates and kits.

    Args:
        federation: who takes part, checked.
        config: whose task the kits pin.
        out: folder of all of it.
        requests: certificate requests of institutions that made their own keys.
        replace: names of institutions whose key may change to that of their request.
        now: the time, with its zone.

    Returns:
        What was made.

    Raises:
        ConfigError: if a request, a name or a key does not fit; nothing was written for
            institutions then.
        StorageError: if a file cannot be written.
        UnreadableError: if a file that is there is damaged.
    """
    now = now or datetime.datetime.now(datetime.UTC)
    places = Places(out)
    asked = _read_requests(requests, federation)
    make_private_folder(out)
    with alone(out):
        sweep(out)
        keys = _choose_keys(places, federation, asked, replace)
        authority = find_authority(places, federation, now)
        notes = certify_coordinator(authority, federation, now)
        kits = [
            _kit(name, keys[name], federation, config, authority)
            for name in federation.institutions
        ]
        removed, changes = _roster(places, federation)
        page = coordinator_page(federation, fingerprint=pki.fingerprint(authority.certificate))
        write_changed(places.coordinator / "README.md", page)
    return Provisioned(
        places=places,
        fingerprint=pki.fingerprint(authority.certificate),
        kits=kits,
        removed=removed,
        notes=[*notes, *changes],
    )


def make_request(name: str, folder: Path) -> Requested:
    """Make an institution's node key and a certificate request for it.

    A key that is there already is used again.

    Args:
        name: of the institution, as the federation's YAML has it.
        folder: where ``node.key``, ``node.pub`` and ``node.csr`` are written.

    Raises:
        ConfigError: if the name fits no certificate request.
    """
    problems = [f"--request={problem}" for problem in common_name_problems(name)]
    if problems:
        raise ConfigError(problems)
    make_private_folder(folder)
    with alone(folder):
        path = folder / "node.key"
        if not path.exists():
            write_text(path, pki.node_key_text(pki.make_key()), mode=SECRET)
        key = pki.read_node_key(path)
        write_changed(folder / "node.pub", pki.public_line(key.public_key()))
        if not _is_request_of(folder / "node.csr", name, key):
            write_text(folder / "node.csr", pki.make_request(key, name))
    return Requested(folder=folder, key_fingerprint=pki.key_fingerprint(key.public_key()))


def _is_request_of(path: Path, name: str, key: pki.PrivateKey) -> bool:
    try:
        request = pki.read_request(path)
    except ConfigError:
        return False
    return request.name == name and pki.is_pair(key, request.public_key)


# --- who has which key


def _read_requests(paths: Sequence[Path], federation: FederationConfig) -> dict[str, pki.PublicKey]:
    asked: dict[str, pki.PublicKey] = {}
    problems = []
    for path in paths:
        try:
            request = pki.read_request(path)
        except ConfigError as error:
            problems += error.problems
            continue
        if request.name not in federation.institutions:
            known = ", ".join(federation.institutions)
            problems.append(
                f"{path} is of {request.name!r}, which institutions=[{known}] lacks; add it there,"
                " or correct the name."
            )
        elif request.name in asked:
            problems.append(
                f"{path} is a second request of {request.name!r}; give the one that counts."
            )
        asked[request.name] = request.public_key
    if problems:
        raise ConfigError(problems)
    return asked


def _choose_keys(
    places: Places,
    federation: FederationConfig,
    asked: Mapping[str, pki.PublicKey],
    replace: Sequence[str],
) -> dict[str, _NodeKey]:
    """Say which public key each institution is known by; nothing is written."""
    keys = _Keys()
    for name in sorted(set(replace) - set(asked)):
        keys.problems.append(
            f"--replace {name!r} needs the request of the new key; give --csr FILE too."
        )
    for name in federation.institutions:
        _choose_key(keys, places, name, asked.get(name), may_replace=name in replace)
    owners: dict[str, str] = {}
    for name, key in keys.chosen.items():
        if (
            key.public is not None
            and (owner := owners.setdefault(pki.public_line(key.public), name)) != name
        ):
            keys.problems.append(
                f"{owner!r} and {name!r} have the same public key; each institution needs its own."
            )
    if keys.problems:
        raise ConfigError(keys.problems)
    return keys.chosen


def _choose_key(
    keys: _Keys, places: Places, name: str, asked: pki.PublicKey | None, *, may_replace: bool
) -> None:
    kit, registered = places.kit(name), places.registered(name)
    private = (
        pki.read_node_key(kit / "node.key").public_key() if (kit / "node.key").exists() else None
    )
    written = pki.read_public_key(kit / "node.pub") if (kit / "node.pub").exists() else None
    known = pki.read_public_key(registered) if registered.exists() else private or written
    if asked is not None:
        keys.chosen[name] = _NodeKey(asked, is_replaced=known is not None and asked != known)
        if known is not None and asked != known and not may_replace:
            keys.problems.append(
                f"{name!r} is known by key {pki.key_fingerprint(known)}, and its request has"
                f" {pki.key_fingerprint(asked)}; ask the institution by telephone, then give"
                f" --replace {name!r}, or leave the request out."
            )
        return
    keys.chosen[name] = _NodeKey(known)
    for file, found in (("node.key", private), ("node.pub", written)):
        if known is not None and found is not None and found != known:
            keys.problems.append(
                f"{kit / file} does not fit {registered}, which {name!r} is known by; give its"
                f" request with --csr FILE --replace {name!r}, or remove the file that is wrong."
            )


def _roster(places: Places, federation: FederationConfig) -> tuple[list[str], list[str]]:
    """Write who takes part, forget whoever no longer does, and say what kits do not know yet."""
    path = places.coordinator / "federation.json"
    before = _read_roster(path)
    files = {
        name: str(places.registered(name).relative_to(places.coordinator))
        for name in federation.institutions
    }
    roster = {
        "name": federation.name,
        "hosts": federation.hosts,
        "port": federation.port,
        "institutions": files,
    }
    if roster != before:
        write_json(path, roster)
    kept = {places.registered(name) for name in federation.institutions}
    names = {places.registered(name): name for name in before.get("institutions", {})}
    removed = []
    for file in sorted((places.coordinator / "nodes").glob("*.pub")):
        if file not in kept:
            file.unlink()
            removed.append(names.get(file, unquote(file.stem)))
    old = join_address(before["hosts"][0], before["port"]) if before else federation.address
    if old == federation.address:
        return removed, []
    return removed, [
        f"The address changed from {old} to {federation.address}: kits that were there already"
        " still say the old one; those institutions change coordinator.address in their"
        " client.yaml."
    ]


def _read_roster(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        roster: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        join_address(roster["hosts"][0], roster["port"])
        dict(roster["institutions"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UnreadableError(
            f"{path} is not as it was written ({error}); remove it, and run this again."
        ) from None
    return roster


# --- kits


def _kit(
    name: str, key: _NodeKey, federation: FederationConfig, config: Config, authority: Authority
) -> Kit:
    """Make what an institution's kit lacks; what is there stays, unless its key is replaced."""
    places = authority.places
    folder, registered = places.kit(name), places.registered(name)
    was_there = folder.exists()
    make_private_folder(folder)
    make_private_folder(registered.parent)
    secret = folder / "node.key"
    if key.is_replaced and secret.exists():
        secret.unlink()
    if key.public is None:
        write_text(secret, pki.node_key_text(pki.make_key()), mode=SECRET)
    public = key.public or pki.read_node_key(secret).public_key()
    fingerprint = pki.fingerprint(authority.certificate)
    page = kit_page(name, federation, fingerprint=fingerprint, has_key=secret.exists())
    written = [
        write_changed(folder / "node.pub", pki.public_line(public)),
        write_missing(folder / "ca.crt", lambda: pki.certificate_pem(authority.certificate)),
        write_missing(folder / "client.yaml", lambda: client_yaml(name, federation, config)),
        (
            write_changed(folder / "README.md", page)
            if key.is_replaced
            else write_missing(folder / "README.md", lambda: page)
        ),
        write_changed(registered, pki.public_line(public)),
    ]
    state = (
        "new key"
        if key.is_replaced
        else "made"
        if not was_there
        else "completed"
        if any(written)
        else "unchanged"
    )
    return Kit(
        name=name,
        folder=folder,
        state=state,
        has_key=secret.exists(),
        key_fingerprint=pki.key_fingerprint(public),
    )


__all__ = [
    "Kit",
    "Provisioned",
    "Requested",
    "make_request",
    "provision",
    "read_federation",
]
