"""Makes a federation's authority, the coordinator's certificates and each institution's kit.

Every file is written completely or not at all, and before anything that refers to it: an
institution is registered (``coordinator/nodes``) once its kit is complete. Running it again
therefore completes a run that was interrupted, adds new institutions, and changes nothing else.
Trusted with secrets: the coordinator, who makes node keys for institutions that send no certificate
request of their own; such a key is as secret as the channel that the kit is sent over.
"""

import contextlib
import dataclasses
import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from confide.config.composing.compose import compose
from confide.config.composing.main_job import without_records
from confide.config.composing.own_files import in_file
from confide.config.run import Config
from confide.deployment.federation import (
    FederationConfig,
    common_name_problems,
    parse_federation,
)
from confide.errors import ConfigError
from confide.security import certificates, ec_keys, signing_requests
from confide.security.signing_requests import KeyRequest
from confide.server.provisioning import monitoring, server_certificate
from confide.server.provisioning.certificates import Authority, certify_coordinator, find_authority
from confide.server.provisioning.files import (
    SECRET,
    Places,
    only_run,
    remove_leftovers,
    write_changed,
    write_missing,
)
from confide.server.provisioning.node_certificates import certify_node
from confide.server.provisioning.node_keys import NodeKey, choose_keys, read_requests
from confide.server.provisioning.revoke import admitted, publish
from confide.server.provisioning.roster import write_roster
from confide.server.provisioning.services import coordinator, institution, write_services
from confide.server.provisioning.texts import client_yaml, coordinator_page, kit_page
from confide.server.provisioning.trainer_keys import KEY as TRAINER_KEY
from confide.server.provisioning.trainer_keys import (
    TrainerKey,
    certify_trainer,
    choose_trainer_keys,
)
from confide.storage.files import make_private_folder, write_text


@dataclass(frozen=True, kw_only=True)
class ProvisionedKit:
    """One institution's start-up kit, and what provisioning did to it.

    Attributes:
        name: name of the institution.
        folder: folder of the kit.
        state: one of made, completed, unchanged, new key.
        has_key: whether the kit holds the private key.
        key_fingerprint: fingerprint of the institution's public key.
    """

    name: str
    folder: Path
    state: str
    has_key: bool
    key_fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Provisioned:
    """Result of one run.

    Attributes:
        places: folders that were written to.
        fingerprint: fingerprint of the authority's certificate.
        kits: one kit per institution, in the YAML's order.
        removed: names of institutions that are no longer registered.
        notes: changes that need somebody's attention, one sentence each.
    """

    places: Places
    fingerprint: str
    kits: list[ProvisionedKit]
    removed: list[str]
    notes: list[str]


@dataclass(frozen=True, kw_only=True)
class Requested:
    """A folder with an institution's own key and certificate request.

    Attributes:
        folder: the folder.
        key_fingerprint: fingerprint of the public key.
    """

    folder: Path
    key_fingerprint: str


def read_federation(path: Path) -> tuple[FederationConfig, Config]:
    """Read a federation's YAML, and compose the config that the task of its kits comes from.

    Raises:
        ConfigError: naming every mistake.
    """
    federation, problems = parse_federation(path)
    try:
        # As a coordinator will compose it: some settings mean nothing in a simulation
        config = compose([*without_records(federation.config), "server.kit=coordinator"])
    except ConfigError as error:
        raise ConfigError(
            [*problems, *(in_file(path, f"config: {problem}") for problem in error.problems)]
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
    """Make those of a federation's certificates and kits that are missing.

    Args:
        federation: the federation, checked.
        config: config whose task the kits pin.
        out: folder to write everything to.
        requests: certificate requests of institutions that made their own keys.
        replace: names of institutions whose key may be replaced by that of their request.
        now: current time, with its time zone.

    Raises:
        ConfigError: if a request, name or key does not fit; then no kit has been written.
        StorageError: if a file cannot be written.
        UnreadableError: if an existing file is damaged.
    """
    now = now or datetime.datetime.now(datetime.UTC)
    places = Places(out)
    requested = read_requests(requests, federation)
    make_private_folder(out)
    with only_run(out):
        remove_leftovers(out)
        # All keys are chosen before anything is written, so that a mistake leaves no half a kit.
        federation, left_out = admitted(places, federation, requested, replace)
        keys = choose_keys(places, federation, requested, replace)
        trainers = choose_trainer_keys(places, keys, requested, replace)
        authority = find_authority(places, federation, now)
        fingerprint = certificates.fingerprint(authority.certificate)
        notes = left_out + certify_coordinator(authority, federation, now)
        if federation.is_certified_elsewhere:
            notes += server_certificate.request(federation, places, now=now)
        write_missing(places.heads, lambda: ec_keys.new_pem(places.heads), mode=SECRET)
        kits, making = [], _Making(federation, config, authority, now)
        for name in federation.institutions:
            kit, told = _provision_kit(name, keys[name], trainers[name], making)
            kits.append(kit)
            notes += told
        removed, changes = write_roster(places, federation)
        page = coordinator_page(federation, fingerprint=fingerprint)
        write_changed(places.coordinator / "README.md", page)
        write_services(places.coordinator, coordinator(federation), federation.config)
        monitoring.write_coordinator(places.coordinator, federation.name)
        notes += changes + publish(authority, federation.institutions)
        notes += server_certificate.distribute(federation, places)
    return Provisioned(
        places=places, fingerprint=fingerprint, kits=kits, removed=removed, notes=notes
    )


def make_request(name: str, folder: Path) -> Requested:
    """Make an institution's keys, unless they are there, and certificate requests for them.

    Args:
        name: name of the institution, as in the federation's YAML.
        folder: folder to write ``node.key``, ``node.pub``, ``node.csr``, ``trainer.key`` and
            ``trainer.csr`` to.

    Raises:
        ConfigError: if a certificate request cannot hold the name.
    """
    problems = [f"--request={problem}" for problem in common_name_problems(name)]
    if problems:
        raise ConfigError(problems)
    make_private_folder(folder)
    with only_run(folder):
        path = folder / "node.key"
        if not path.exists():
            write_text(path, ec_keys.new_node_text(path), mode=SECRET)
        key = ec_keys.read_node_key(path)
        write_changed(folder / "node.pub", ec_keys.public_line(key.public_key()))
        _write_request(folder / "node.csr", key, KeyRequest(name, key.public_key(), "node"))
        path = folder / TRAINER_KEY
        write_missing(path, lambda: ec_keys.new_pem(path), mode=SECRET)
        trainer = ec_keys.read_private_key(path)
        wanted = KeyRequest(name, trainer.public_key(), "trainer")
        _write_request(folder / "trainer.csr", trainer, wanted)
    return Requested(folder=folder, key_fingerprint=ec_keys.key_fingerprint(key.public_key()))


def _write_request(path: Path, key: ec_keys.PrivateKey, wanted: KeyRequest) -> None:
    """Write a request, unless the one that is there is it."""
    # ECDSA signatures are random: the file that was sent has to stay the one that is here.
    with contextlib.suppress(ConfigError):
        if signing_requests.read_request(path) == wanted:
            return
    write_text(path, signing_requests.make_request(key, wanted.name, wanted.role))


# --- kits


@dataclass(frozen=True)
class _Making:
    """What all kits are made of.

    Attributes:
        federation: the federation, checked.
        config: config whose task the kits pin.
        authority: signs.
        now: current time, with its time zone.
    """

    federation: FederationConfig
    config: Config
    authority: Authority
    now: datetime.datetime


def _provision_kit(
    name: str, key: NodeKey, trainer: TrainerKey, making: _Making
) -> tuple[ProvisionedKit, list[str]]:
    """Make what is missing of an institution's kit; return it, and what people are told."""
    federation, authority, now = making.federation, making.authority, making.now
    folder = authority.places.kit(name)
    was_there = folder.exists()
    make_private_folder(folder.parent)
    make_private_folder(folder)
    certified = certify_trainer(name, trainer, authority, days=federation.days, now=now)
    told = [certified.note] if certified.note else []
    kit = _make_kit(name, key, making)
    monitoring.write_institution(folder, name)
    if federation.client_certificates:
        note = certify_node(name, authority, days=federation.days, now=now)
        told += [note] if note and was_there else []
    state = _state(kit, was_there=was_there, is_certified=certified.is_written)
    return dataclasses.replace(kit, state=state), told


def _state(kit: ProvisionedKit, *, was_there: bool, is_certified: bool) -> str:
    """Return what became of a kit, of which the trainer's certificate is a part."""
    if not was_there:
        return "made"
    return "completed" if kit.state == "unchanged" and is_certified else kit.state


def _make_kit(name: str, key: NodeKey, making: _Making) -> ProvisionedKit:
    """Write the files that an institution's kit lacks, and those that change with its key."""
    federation, config, authority = making.federation, making.config, making.authority
    places = authority.places
    folder, registered = places.kit(name), places.registered(name)
    make_private_folder(registered.parent)
    secret = folder / "node.key"
    if key.is_replaced and secret.exists():
        secret.unlink()
    if key.public is None:
        write_text(secret, ec_keys.new_node_text(secret), mode=SECRET)
    public = key.public or ec_keys.read_node_key(secret).public_key()
    line = ec_keys.public_line(public)
    fingerprint = certificates.fingerprint(authority.certificate)
    heads = ec_keys.public_line(ec_keys.read_private_key(places.heads).public_key())
    page = kit_page(name, federation, fingerprint=fingerprint, has_key=secret.exists())
    # client.yaml is the institution's own once it is written, and the page may be: neither is
    # brought up to date, except that the page says whether the kit holds the key.
    if key.is_replaced:
        page_written = write_changed(folder / "README.md", page)
    else:
        page_written = write_missing(folder / "README.md", lambda: page)
    written = [
        page_written,
        write_changed(folder / "node.pub", line),
        write_missing(
            folder / "ca.crt", lambda: certificates.certificate_pem(authority.certificate)
        ),
        write_changed(folder / "heads.pub", heads),
        write_missing(folder / "client.yaml", lambda: client_yaml(name, federation, config)),
        write_services(folder, institution(name, federation)),
        # Last: an institution is registered once its kit is complete.
        write_changed(registered, line),
    ]
    state = "new key" if key.is_replaced else "completed" if any(written) else "unchanged"
    return ProvisionedKit(
        name=name,
        folder=folder,
        state=state,
        has_key=secret.exists(),
        key_fingerprint=ec_keys.key_fingerprint(public),
    )


__all__ = [
    "Provisioned",
    "ProvisionedKit",
    "Requested",
    "make_request",
    "provision",
    "read_federation",
]
