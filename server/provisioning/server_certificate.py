"""The coordinator's certificate of an external authority: request, check, root for every kit.

Its key is made here and stays; the authority gets ``server.csr``. What it sends is taken only if
institutions will recognise the coordinator by it. The federation's own authority goes on to certify
trainers and nodes, and to sign the list of revoked keys.
"""

import datetime
from pathlib import Path

from cryptography import x509

from confide.deployment.federation import FederationConfig
from confide.errors import ConfideError, ConfigError
from confide.security import certificates, ec_keys, signing_requests
from confide.security.chain_checks import chain_notes, chain_problems
from confide.security.server_chain import FILE, read_chain, read_root, told
from confide.server.provisioning.files import (
    SECRET,
    Places,
    only_run,
    remove_leftovers,
    write_changed,
    write_missing,
)
from confide.storage.files import write_text

REQUEST = "server.csr"
_COMMAND = (
    "`confide provision FEDERATION.yaml --server-certificate chain.pem --server-authority root.pem`"
)


def install(
    federation: FederationConfig,
    places: Places,
    files: tuple[Path, Path],
    *,
    now: datetime.datetime | None = None,
) -> list[str]:
    """Put what an external authority sent into the coordinator's kit, if it is sound.

    Args:
        federation: the federation, checked.
        places: folders of an earlier run, which made the key.
        files: of the chain with the coordinator's certificate, and of the root at its end.
        now: current time, with its time zone.

    Returns:
        Sentences on what was done, and what is left to do.

    Raises:
        ConfigError: if nothing was requested, or with each mistake of the chain; then nothing is
            written.
        StorageError: if a file cannot be written.
        UnreadableError: if a file is damaged.
    """
    certificate, key_path = places.server_files("server")
    if not federation.is_certified_elsewhere:
        raise ConfigError(
            f"--server-certificate: server_certificate={federation.server_certificate}; set"
            " server_certificate: external in the federation's YAML."
        )
    if not key_path.is_file():
        raise ConfigError(
            f"--server-certificate: {key_path} does not exist; run `confide provision"
            f" FEDERATION.yaml` first, and send the {REQUEST} that it makes to your authority."
        )
    path, root_path = files
    with only_run(places.out):
        remove_leftovers(places.out)
        key, root = ec_keys.read_private_key(key_path), read_root(root_path)
        chain = read_chain(path, root, key.public_key())
        problems = chain_problems(chain, federation.hosts, key, now=now)
        if problems:
            raise ConfigError([f"{path}: {problem}" for problem in problems])
        write_changed(places.server_ca, certificates.certificate_pem(root))
        if not write_changed(certificate, chain.served()):
            return [f"server.crt is that of {path} already."]
    end = f"{chain.leaf.not_valid_after_utc:%Y-%m-%d}"
    return [
        f"server.crt is now that of {path}, signed by {told(chain.authorities[0])}, valid until"
        f" {end}. Bring coordinator/ to its machine; a front that runs takes it up by itself.",
        *chain_notes(chain, now=now),
    ]


def request(federation: FederationConfig, places: Places, *, now: datetime.datetime) -> list[str]:
    """Make the coordinator's key and its certificate request, unless they are there.

    Returns:
        A sentence, where somebody has to act.

    Raises:
        StorageError: if a file cannot be written.
        UnreadableError: if an existing file is damaged.
    """
    certificate, key_path = places.server_files("server")
    write_missing(key_path, lambda: ec_keys.new_pem(key_path), mode=SECRET)
    key, path = ec_keys.read_private_key(key_path), places.coordinator / REQUEST
    if not signing_requests.is_server_request(path, key.public_key(), federation.hosts):
        write_text(path, signing_requests.make_server_request(key, federation.hosts))
    send = (
        f"Send {path} to your authority, for a server's certificate with the names"
        f" {', '.join(federation.hosts)}; then run {_COMMAND}."
    )
    if not places.server_ca.is_file():
        until = "there is no server.crt, and the coordinator cannot start"
        if certificate.is_file():
            until = "institutions go on to recognise the coordinator by ca.crt"
        return [f"{send} Until then {until}."]
    try:
        chain = read_chain(certificate, read_root(places.server_ca), key.public_key())
        problems = chain_problems(chain, federation.hosts, key, now=now) or chain_notes(
            chain, now=now
        )
    except ConfigError as error:
        problems = error.problems
    except ConfideError as error:
        problems = [str(error)]
    return [*problems, send] if problems else []


def distribute(federation: FederationConfig, places: Places) -> list[str]:
    """Put the root of the coordinator's certificate into each kit, or take it out again.

    Returns:
        A sentence, where somebody has to act.

    Raises:
        StorageError: if a file cannot be written.
        UnreadableError: if an existing file is damaged.
    """
    kits = [kit / FILE for kit in map(places.kit, federation.institutions)]
    if not federation.is_certified_elsewhere:
        there = [path for path in (places.server_ca, *kits) if path.exists()]
        for path in (*there, places.coordinator / REQUEST):
            path.unlink(missing_ok=True)
        return [_no_more()] if there else []
    if not places.server_ca.is_file():
        return []
    root = read_root(places.server_ca)
    before = [read_root(path) if path.exists() else None for path in kits]
    if all(it == root for it in before):
        return []
    for path in kits:
        write_changed(path, certificates.certificate_pem(root))
    return [_bring(root, next((it for it in before if it is not None and it != root), None))]


def _bring(root: x509.Certificate, before: x509.Certificate | None) -> str:
    now = certificates.fingerprint(root)
    change = "" if before is None else f", another root than before ({told(before)})"
    return (
        f"Send each institution {FILE} from its kit{change}: {told(root)}, SHA-256 fingerprint"
        f" {now}, to be compared by telephone. With it in its kit an institution recognises the"
        " coordinator by that root alone, from its next start on: between runs, put it there, bring"
        " coordinator/ to its machine, and start both sides again."
    )


def _no_more() -> str:
    return (
        f"{FILE} was removed: the coordinator's certificate is again of the federation's own"
        f" authority. Between runs, have each institution remove {FILE} from its kit, remove it on"
        " the coordinator's machine, bring coordinator/ there, and start both sides again."
    )


__all__ = ["REQUEST", "distribute", "install", "request"]
