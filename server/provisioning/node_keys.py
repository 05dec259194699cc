"""Chooses the key to register each institution by, from requests, kits and earlier runs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from confide.deployment.federation import FederationConfig
from confide.errors import ConfigError
from confide.security import ec_keys, signing_requests
from confide.server.provisioning.files import Places


@dataclass
class NodeKey:
    """The public key to register an institution by.

    Attributes:
        public: the key; None if it has yet to be made.
        is_replaced: whether it replaces another one.
    """

    public: ec_keys.PublicKey | None
    is_replaced: bool = False


@dataclass
class _Keys:
    """The key of each institution by name, and every reason why one cannot be used."""

    chosen: dict[str, NodeKey] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def choose(
        self, places: Places, name: str, requested: ec_keys.PublicKey | None, *, may_replace: bool
    ) -> None:
        """Choose an institution's key, or add the reasons why that is not possible."""
        kit, registered = places.kit(name), places.registered(name)
        secret = kit / "node.key"
        private = ec_keys.read_node_key(secret).public_key() if secret.exists() else None
        written = _public_key_in(kit / "node.pub")
        # A run that was interrupted may have written the kit and not yet the registration.
        known = _public_key_in(registered) or private or written
        if requested is not None:
            is_replaced = known is not None and requested != known
            self.chosen[name] = NodeKey(requested, is_replaced=is_replaced)
            # Not without --replace: whoever could slip in a request would take its place.
            if known is not None and is_replaced and not may_replace:
                self.problems.append(
                    f"{name!r} is registered with key {ec_keys.key_fingerprint(known)}, and its"
                    f" request has {ec_keys.key_fingerprint(requested)}; ask the institution by"
                    f" telephone, then give --replace {name!r}, or leave the request out."
                )
            return
        self.chosen[name] = NodeKey(known)
        for file, present in (("node.key", private), ("node.pub", written)):
            if known is not None and present is not None and present != known:
                self.problems.append(
                    f"{kit / file} does not fit {registered}, the registered key of {name!r}; give"
                    f" its request with --csr FILE --replace {name!r}, or remove the file that is"
                    " wrong."
                )

    def refuse_shared(self) -> None:
        """Add a reason for each key that two institutions have: they would be one node."""
        owners: dict[str, str] = {}
        for name, key in self.chosen.items():
            if key.public is None:
                continue
            owner = owners.setdefault(ec_keys.public_line(key.public), name)
            if owner != name:
                self.problems.append(
                    f"{owner!r} and {name!r} have the same public key; each institution needs its"
                    " own."
                )


@dataclass(frozen=True)
class RequestedKeys:
    """Public keys that institutions sent requests of, by name.

    Attributes:
        nodes: of their nodes.
        trainers: of their trainers.
    """

    nodes: dict[str, ec_keys.PublicKey] = field(default_factory=dict)
    trainers: dict[str, ec_keys.PublicKey] = field(default_factory=dict)


def read_requests(paths: Sequence[Path], federation: FederationConfig) -> RequestedKeys:
    """Return the public keys that institutions sent certificate requests of to a federation.

    Raises:
        ConfigError: naming every request that cannot be used.
    """
    read = RequestedKeys()
    problems = []
    for path in paths:
        try:
            request = signing_requests.read_request(path)
        except ConfigError as error:
            problems += error.problems
            continue
        requested = read.nodes if request.role == "node" else read.trainers
        if request.name not in federation.institutions:
            known = ", ".join(federation.institutions)
            problems.append(
                f"{path} is of {request.name!r}, which institutions=[{known}] lacks; add it there,"
                " or correct the name."
            )
        elif request.name in requested:
            problems.append(
                f"{path} is a second request of {request.name!r}; give the one that counts."
            )
        requested[request.name] = request.public_key
    if problems:
        raise ConfigError(problems)
    return read


def choose_keys(
    places: Places,
    federation: FederationConfig,
    requested: RequestedKeys,
    replace: Sequence[str],
) -> dict[str, NodeKey]:
    """Return the public key to register each institution by; nothing is written.

    Args:
        places: folders of an earlier run, if any.
        federation: the federation.
        requested: public keys of certificate requests.
        replace: institutions whose key may change to that of their request.

    Raises:
        ConfigError: naming every key that cannot be used.
    """
    keys = _Keys()
    for name in sorted(set(replace) - set(requested.nodes) - set(requested.trainers)):
        keys.problems.append(
            f"--replace {name!r} needs the request of the new key; give --csr FILE too."
        )
    for name in federation.institutions:
        keys.choose(places, name, requested.nodes.get(name), may_replace=name in replace)
    keys.refuse_shared()
    # All at once: whoever provisions asks each institution by telephone.
    if keys.problems:
        raise ConfigError(keys.problems)
    return keys.chosen


def _public_key_in(path: Path) -> ec_keys.PublicKey | None:
    return ec_keys.read_public_key(path) if path.exists() else None


__all__ = ["NodeKey", "RequestedKeys", "choose_keys", "read_requests"]
