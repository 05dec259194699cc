"""Revokes an institution's keys, and lets it in again with others.

The list in the coordinator's folder takes effect by itself: what runs there reads it again within
seconds. It is written before anything else, also where the authority's key is in its safe: then it
is not signed yet, the coordinator heeds it, and institutions get it once it is signed.
"""

import datetime
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from confide.deployment.federation import FederationConfig
from confide.errors import ConfigError
from confide.security import certificates, ec_keys
from confide.security.revocations import FILE, Revocations, RevokedKey, read_revocations
from confide.server.provisioning.certificates import Authority, known_authority
from confide.server.provisioning.files import Places, only_run, remove_leftovers, write_changed
from confide.server.provisioning.node_keys import RequestedKeys
from confide.server.provisioning.roster import strike
from confide.server.provisioning.trainer_keys import CERTIFICATE

_AGAIN = (
    "It can be admitted again with new keys: `confide provision --request NAME` there, then"
    " `confide provision FEDERATION.yaml --csr node.csr --csr trainer.csr --replace NAME` here."
)


def revoke(
    federation: FederationConfig,
    places: Places,
    names: Sequence[str],
    *,
    now: datetime.datetime | None = None,
) -> list[str]:
    """Revoke all keys that institutions have.

    Args:
        federation: the federation, checked.
        places: folders of an earlier run.
        names: of the institutions.
        now: current time, with its time zone.

    Returns:
        Sentences on what was done, and what is left to do.

    Raises:
        ConfigError: if a name is unknown, or nothing was provisioned; then nothing is written.
        StorageError: if a file cannot be written.
        UnreadableError: if an existing file is damaged.
    """
    today = f"{now or datetime.datetime.now(datetime.UTC):%Y-%m-%d}"
    authority = known_authority(places)
    if authority is None:
        raise ConfigError(
            f"--revoke: {places.out} holds no federation; give --out with the folder that `confide"
            " provision` wrote."
        )
    with only_run(places.out):
        remove_leftovers(places.out)
        before = read_revocations(places.revoked)
        found = {name: _keys_of(places, name) for name in dict.fromkeys(names)}
        _check_known(found, before, federation)
        after, told = before, []
        for name, keys in found.items():
            told.append(_told(name, keys, before))
            new = [RevokedKey(key=key, name=name, since=today) for key in keys.values()]
            after = after.plus(new)
        if after is not before:
            after = replace(after, authority=certificates.fingerprint(authority.certificate))
            write_changed(places.revoked, after.to_text())
        strike(places, found)
        for name in found:
            places.certified(name).unlink(missing_ok=True)
        left = [it for it in federation.institutions if not is_revoked(places, it, after)]
        told += publish(authority, left)
        if not left:
            told.append(
                "Nobody is left: a run that is under way ends, and none begins before somebody is"
                " admitted."
            )
    return told


def _check_known(
    found: Mapping[str, Mapping[str, str]], revoked: Revocations, federation: FederationConfig
) -> None:
    known = ", ".join(federation.institutions)
    unknown = [name for name, keys in found.items() if not keys and not revoked.of(name)]
    if unknown:
        raise ConfigError(
            [
                f"--revoke {name!r}: no key of it is known here; institutions=[{known}], correct"
                " the name."
                for name in unknown
            ]
        )


def _told(name: str, keys: Mapping[str, str], revoked: Revocations) -> str:
    new = {role: key for role, key in keys.items() if revoked.get(key) is None}
    if not new:
        since = revoked.of(name)[-1].since
        return f"{name} was revoked on {since}, and has no other key to revoke. {_AGAIN}"
    listed = " and ".join(f"its {role}'s key {key}" for role, key in new.items())
    return (
        f"{name} is revoked: {listed}. Where coordinator/ is on another machine, copy"
        f" coordinator/{FILE} into it: front and run heed it within seconds, nothing is restarted."
        f" {_AGAIN}"
    )


def _keys_of(places: Places, name: str) -> dict[str, str]:
    """Return fingerprints of the keys that an institution has now: node's and trainer's."""
    kit, keys = places.kit(name), {}
    for path in (kit / "node.pub", places.registered(name)):
        if path.exists():
            keys["node"] = ec_keys.key_fingerprint(ec_keys.read_public_key(path))
    for path in (kit / CERTIFICATE, places.certified(name)):
        if path.exists():
            public = certificates.read_certificate(path).public_key()
            expected = ec_keys.expect_public(str(path), public)
            keys["trainer"] = ec_keys.key_fingerprint(expected)
    return keys


def is_revoked(places: Places, name: str, revoked: Revocations) -> bool:
    """Return whether an institution was revoked, and not admitted again since."""
    registered = places.registered(name)
    if registered.exists():
        key = ec_keys.key_fingerprint(ec_keys.read_public_key(registered))
        return revoked.get(key) is not None
    return bool(revoked.of(name))


def admitted(
    places: Places,
    federation: FederationConfig,
    requested: RequestedKeys,
    replaced: Collection[str],
) -> tuple[FederationConfig, list[str]]:
    """Return the federation without those who are revoked, and a note for each of them.

    Args:
        places: folders of an earlier run, if any.
        federation: the federation.
        requested: public keys of certificate requests; who sends new ones may be admitted again.
        replaced: institutions whose key may change to that of their request.

    Raises:
        ConfigError: if a request has a revoked key, or admits somebody without ``--replace``.
    """
    revoked = read_revocations(places.revoked)
    problems, notes, left = [], [], []
    for name in federation.institutions:
        asked = (requested.nodes.get(name), requested.trainers.get(name))
        for key in (ec_keys.key_fingerprint(it) for it in asked if it is not None):
            entry = revoked.get(key)
            if entry is not None:
                problems.append(
                    f"The request of {name!r} has key {key}, which was revoked on {entry.since}; it"
                    " needs a new one (`confide provision --request NAME --out` another folder)."
                )
        if not is_revoked(places, name, revoked):
            left.append(name)
            continue
        since = revoked.of(name)[-1].since
        if not any(asked):
            notes.append(f"{name} was revoked on {since} and is left out. {_AGAIN}")
            continue
        left.append(name)
        if None in asked or name not in replaced:
            problems.append(
                f"{name!r} was revoked on {since}; to admit it again, ask it by telephone whether"
                f" the keys are its own, then give both node.csr and trainer.csr by --csr, and"
                f" --replace {name!r}."
            )
    if problems:
        raise ConfigError(problems)
    return replace(federation, institutions=left), notes


def publish(authority: Authority, institutions: Sequence[str]) -> list[str]:
    """Sign the list, if that was not done, and put it into each kit; say what is to be done.

    Args:
        authority: signs, where its key is here.
        institutions: whose kits get the list.

    Returns:
        A sentence where somebody has to act.
    """
    places = authority.places
    revoked = read_revocations(places.revoked)
    if not revoked.keys:
        return []
    if not revoked.signature:
        if not authority.has_key:
            return [
                f"coordinator/{FILE} is not signed: the coordinator heeds it, and institutions do"
                " not. Bring authority/ back and run `confide provision FEDERATION.yaml`."
            ]
        revoked = revoked.signed_by(authority.key("the list of revoked keys is not signed"))
        write_changed(places.revoked, revoked.to_text())
    kits = [it for it in map(places.kit, institutions) if it.is_dir()]
    if any([write_changed(kit / FILE, revoked.to_text()) for kit in kits]):
        return [
            f"Send each institution {FILE} from its kit: with it in place, masked sums with a"
            f" revoked key are refused there, whatever the coordinator says (list"
            f" {revoked.number}, {len(revoked.keys)} keys)."
        ]
    return []


__all__ = ["admitted", "is_revoked", "publish", "revoke"]
