"""The coordinator's kit: a folder with certificates, institutions' keys and processes' state."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from confide.deployment.federation import join_address
from confide.errors import ConfigError, UnreadableError, words_of
from confide.flower.processes import LOOPBACK, Tls
from confide.security.ec_keys import key_fingerprint, read_public_key
from confide.security.revocations import FILE as REVOKED
from confide.security.revocations import read_revocations
from confide.security.server_chain import FILE as SERVER_CA

FILE = "federation.json"


@dataclass(frozen=True, kw_only=True)
class CoordinatorKit:
    """A coordinator's kit on this machine.

    Attributes:
        folder: absolute path of the kit.
        name: name of the federation.
        hosts: DNS names and IP addresses by which institutions reach it.
        port: port that it listens on.
        institutions: file of the public key of each institution whose key is not revoked.
        client_certificates: whether institutions are asked for a certificate.
    """

    folder: Path
    name: str
    hosts: tuple[str, ...]
    port: int
    institutions: Mapping[str, Path]
    client_certificates: bool = False

    @property
    def ca(self) -> Path:
        """File of the federation's authority, which certifies trainers and nodes."""
        return self.folder / "ca.crt"

    @property
    def server_ca(self) -> Path | None:
        """File of the root of the server's certificate; None if that is the federation's too."""
        path = self.folder / SERVER_CA
        return path if path.is_file() else None

    @property
    def outer(self) -> Tls:
        """TLS identity that institutions see."""
        tls = self._tls("server")
        return tls if self.server_ca is None else replace(tls, ca=self.server_ca)

    @property
    def inner(self) -> Tls:
        """TLS identity of SuperLink on loopback, which the front sees."""
        return self._tls("loopback")

    def _tls(self, stem: str) -> Tls:
        return Tls(
            ca=self.ca,
            certificate=self.folder / f"{stem}.crt",
            key=self.folder / f"{stem}.key",
        )

    @property
    def heads(self) -> Path:
        """File of the key that countersigns heads of ledgers; earlier releases made none."""
        return self.folder / "heads.key"

    @property
    def revoked(self) -> Path:
        """File of the list of revoked keys; there is none before the first."""
        return self.folder / REVOKED

    @property
    def state(self) -> Path:
        """Folder of SuperLink's database, logs and secrets."""
        return self.folder / "state"

    @property
    def audit_log(self) -> Path:
        """Folder of the audit log."""
        return self.state / "audit"

    @property
    def under_way(self) -> Path:
        """File that says whom a run asks just now, for whoever watches."""
        return self.state / "under_way.json"

    @property
    def runs(self) -> Path:
        """File that says where the runs of this kit are, for whoever watches."""
        return self.state / "runs.jsonl"

    @property
    def database(self) -> Path:
        """SuperLink's database."""
        return self.state / "superlink.db"

    @property
    def secret(self) -> Path:
        """File of the secret shared by SuperLink and the process that takes its runs."""
        return self.state / "runtime.secret"

    @property
    def logs(self) -> Path:
        """Folder of logs and of the file of process ids."""
        return self.state / "logs"

    @property
    def address(self) -> Path:
        """File of SuperLink's address on loopback, while it runs."""
        return self.logs / "superlink.address"

    @property
    def certificates(self) -> list[Path]:
        """Files of certificates that end some day, institutions' included."""
        nodes = sorted((self.folder / "nodes").glob("*.crt"))
        return [*self.own_certificates, *self.trainer_certificates, *nodes]

    @property
    def own_certificates(self) -> list[Path]:
        """Files of the certificates by which this machine is known, and of who signed them."""
        roots = dict.fromkeys((self.ca, self.outer.ca))
        return [*roots, self.outer.certificate, self.inner.certificate]

    @property
    def trainer_certificates(self) -> list[Path]:
        """Files of the certificates of institutions' trainers."""
        return sorted((self.folder / "trainers").glob("*.crt"))

    def listens_on(self) -> str:
        """Return HOST:PORT that the front listens on."""
        # On all interfaces, since a host may be a name that only institutions' DNS knows; a
        # federation on one machine is not shown to the network.
        only_loopback = all(name in (LOOPBACK, "localhost", "::1") for name in self.hosts)
        return join_address(LOOPBACK if only_loopback else "0.0.0.0", self.port)


def load_coordinator_kit(folder: Path) -> CoordinatorKit:
    """Read a coordinator's kit.

    Raises:
        ConfigError: if the folder is not a kit, or a file is missing.
    """
    folder = folder.expanduser().resolve()
    try:
        raw = json.loads((folder / FILE).read_text())
        kit = CoordinatorKit(
            folder=folder,
            name=raw["name"],
            hosts=tuple(raw["hosts"]),
            port=int(raw["port"]),
            institutions={name: folder / path for name, path in raw["institutions"].items()},
            client_certificates=bool(raw.get("client_certificates", False)),
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(
            f"server.kit={folder}: {FILE} cannot be read ({words_of(error)}); name"
            " the folder `coordinator` that `confide provision` made."
        ) from None
    # All of them here: otherwise a missing one would only show in a process started later.
    tls = [path for it in (kit.outer, kit.inner) for path in (it.ca, it.certificate, it.key)]
    files = dict.fromkeys([*tls, *kit.institutions.values()])  # ca.crt is in both, and named once
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise ConfigError(
            f"server.kit={folder} lacks {', '.join(missing)}; run `confide provision` again, which"
            " says what it waits for if an external authority signs server.crt."
        )
    return replace(kit, institutions=_not_revoked(kit))


def _not_revoked(kit: CoordinatorKit) -> dict[str, Path]:
    """Leave out whose key is revoked: the list may have been brought here alone."""
    try:
        revoked = read_revocations(kit.revoked)
        if not revoked.keys:
            return dict(kit.institutions)
        return {
            name: path
            for name, path in kit.institutions.items()
            if revoked.get(key_fingerprint(read_public_key(path))) is None
        }
    except UnreadableError as error:
        raise ConfigError(f"server.kit={kit.folder}: {error}") from None


__all__ = ["FILE", "CoordinatorKit", "load_coordinator_kit"]
