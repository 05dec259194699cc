"""Keys and certificates by which institutions' trainers sign for them in masked sums.

A key pair apart from the node's: with three users ``node.key`` is the SuperNode's user's, who must
not be able to sign for the trainer. The coordinator keeps each certificate, and so knows the key of
an institution whose kit is no longer here.
"""

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cryptography import x509

from confide.errors import ConfigError
from confide.security import certificates, ec_keys
from confide.server.provisioning.certificates import Authority, why_renew
from confide.server.provisioning.files import SECRET, Places, write_changed
from confide.server.provisioning.node_keys import NodeKey, RequestedKeys
from confide.storage.files import make_private_folder, write_text

CERTIFICATE, KEY = "trainer.crt", "trainer.key"


@dataclass(frozen=True, kw_only=True)
class TrainerKey:
    """The public key to certify an institution's trainer for.

    Attributes:
        public: the key; None if there is none yet.
        is_replaced: whether it replaces another one.
        made_here: whether it may be made here, as the node's key was or is.
    """

    public: ec_keys.PublicKey | None
    is_replaced: bool = False
    made_here: bool = True


@dataclass(frozen=True, kw_only=True)
class Certified:
    """What became of a trainer's certificate.

    Attributes:
        is_written: whether anything was written.
        note: a sentence, where somebody has to act.
    """

    is_written: bool = False
    note: str | None = None


def choose_trainer_keys(
    places: Places,
    nodes: Mapping[str, NodeKey],
    requested: RequestedKeys,
    replace: Sequence[str],
) -> dict[str, TrainerKey]:
    """Return the key of each institution's trainer; nothing is written.

    Args:
        places: folders of an earlier run, if any.
        nodes: key of each institution's node, as it was chosen.
        requested: public keys of certificate requests.
        replace: institutions whose key may change to that of their request.

    Raises:
        ConfigError: naming every key that cannot be used.
    """
    chosen, problems = {}, []
    for name, node in nodes.items():
        known, wanted = _known(places, name), requested.trainers.get(name)
        is_replaced = None not in (known, wanted) and known != wanted
        chosen[name] = TrainerKey(
            public=wanted or known,
            is_replaced=is_replaced,
            made_here=name not in requested.nodes
            and (node.public is None or (places.kit(name) / "node.key").exists()),
        )
        if known is not None and is_replaced and name not in replace:
            problems.append(
                f"The trainer of {name!r} is certified with key {ec_keys.key_fingerprint(known)},"
                " and its request has another; ask the institution by telephone, then give"
                f" --replace {name!r}, or leave the request out."
            )
    problems += _shared(chosen, nodes)
    if problems:
        raise ConfigError(problems)
    return chosen


def _shared(chosen: Mapping[str, TrainerKey], nodes: Mapping[str, NodeKey]) -> Iterator[str]:
    """Yield a reason for each trainer's key that a node or another trainer has too."""
    owners = {
        ec_keys.public_line(node.public): f"the node of {name!r}"
        for name, node in nodes.items()
        if node.public is not None
    }
    for name, key in chosen.items():
        if key.public is None:
            continue
        own = f"the trainer of {name!r}"
        owner = owners.setdefault(ec_keys.public_line(key.public), own)
        if owner != own:
            yield f"{own} has the public key of {owner}; each needs one of its own."


def _known(places: Places, name: str) -> ec_keys.PublicKey | None:
    """Return the key that an institution's trainer has; None if it has none yet."""
    certified, secret = places.certified(name), places.kit(name) / KEY
    for path in (certified, places.kit(name) / CERTIFICATE):
        if path.exists():
            return ec_keys.expect_public(
                str(path), certificates.read_certificate(path).public_key()
            )
    return ec_keys.read_private_key(secret).public_key() if secret.exists() else None


def certify_trainer(
    name: str,
    key: TrainerKey,
    authority: Authority,
    *,
    days: int,
    now: datetime.datetime,
) -> Certified:
    """Make an institution's trainer key and certificate, as far as they are missing.

    Args:
        name: name of the institution.
        key: its trainer's.
        authority: signs; where its key is elsewhere, nothing is certified.
        days: validity of a certificate.
        now: current time, with its time zone.

    Raises:
        ConfigError: if the authority is about to expire, or its key is not its own.
    """
    places = authority.places
    certified, kit = places.certified(name), places.kit(name)
    there = (path for path in (certified, kit / CERTIFICATE) if path.exists())
    before = next(map(certificates.read_certificate, there), None)
    reason = _why_issue(before, key, authority, now)
    if reason is None and before is not None:
        return Certified(is_written=_keep(name, before, places))
    if key.public is None and not key.made_here:
        return Certified(
            note=f"{name} has no {CERTIFICATE}, which masked sums need: it makes its own keys, so"
            " ask it for trainer.csr (`confide provision --request NAME`), and give --csr FILE."
        )
    if not authority.has_key:
        return Certified(
            note=f"{name} needs a new {CERTIFICATE} to take part in masked sums: {reason}. Bring"
            " authority/ back and run this again for it."
        )
    signer = authority.signer(f"{kit / CERTIFICATE} must be issued: {reason}", now=now)
    secret = kit / KEY
    if key.is_replaced:
        secret.unlink(missing_ok=True)
    if key.public is None:
        write_text(secret, ec_keys.new_pem(secret), mode=SECRET)
    public = key.public or ec_keys.read_private_key(secret).public_key()
    issued = certificates.issue_trainer_certificate(
        public, name, authority=(authority.certificate, signer), days=days, now=now
    )
    _keep(name, issued, places)
    replaced = f"{CERTIFICATE} of {name} was replaced: {reason}. Send it the file."
    return Certified(is_written=True, note=None if before is None else replaced)


def _keep(name: str, certificate: x509.Certificate, places: Places) -> bool:
    """Write a certificate to the kit and to the coordinator; say whether either lacked it."""
    text, certified = certificates.certificate_pem(certificate), places.certified(name)
    make_private_folder(certified.parent)
    # The kit first: what the coordinator has is what was sent.
    files = places.kit(name) / CERTIFICATE, certified
    return any([write_changed(path, text) for path in files])


def _why_issue(
    certificate: x509.Certificate | None,
    key: TrainerKey,
    authority: Authority,
    now: datetime.datetime,
) -> str | None:
    if certificate is None:
        return "it does not exist"
    if key.is_replaced:
        return "its key was replaced"
    if not certificates.is_issued_by(certificate, authority.certificate):
        return "it is of another authority"
    return why_renew(certificate, now=now)


__all__ = [
    "CERTIFICATE",
    "KEY",
    "Certified",
    "TrainerKey",
    "certify_trainer",
    "choose_trainer_keys",
]
