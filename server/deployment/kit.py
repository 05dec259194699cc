"""The coordinator's kit: one folder with certificates, keys of institutions, and what its processes keep."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from confide.deployment.federation import join_address
from confide.errors import ConfigError
from confide.flower.processes import LOOPBACK, Tls

FILE = "federation.json"


@dataclass(frozen=True, kw_only=True)
class CoordinatorKit:
    """A coordinator's kit on this machine.

    Attributes:
        folder: absolute.
        name: of the federation.
        hosts: that institutions may reach it by.
        port: that it listens on.
        institutions: name -> public key.
    """

    folder: Path
    name: str
    hosts: tuple[str, ...]
    port: int
    institutions: Mapping[str, Path]

    @property
    def outer(self) -> Tls:
        """What institutions see."""
        return Tls(
            ca=self.folder / "ca.crt",
            certificate=self.folder / "server.crt",
            key=self.folder / "server.key",
        )

    @property
    def inner(self) -> Tls:
        """What the front sees of SuperLink, on loopback."""
        return Tls(
            ca=self.folder / "ca.crt",
            certificate=self.folder / "loopback.crt",
            key=self.folder / "loopback.key",
        )

    @property
    def state(self) -> Path:
        """Folder of SuperLink's database, logs and secrets."""
        return self.folder / "state"

    @property
    def database(self) -> Path:
        """SuperLink's."""
        return self.state / "superlink.db"

    @property
    def secret(self) -> Path:
        """Of SuperLink and the process that takes its runs."""
        return self.state / "runtime.secret"

    @property
    def logs(self) -> Path:
        """Folder of logs, and of the file that tells process ids."""
        return self.state / "logs"

    @property
    def address(self) -> Path:
        """File that tells where SuperLink is on loopback, while it runs."""
        return self.logs / "superlink.address"

    def listens_on(self) -> str:
        """Return HOST:PORT that the front listens on.

        On every interface, unless only loopback was provisioned.
        """
        only_loopback = all(name in (LOOPBACK, "localhost", "::1") for name in self.hosts)
        return join_address(LOOPBACK if only_loopback else "0.0.0.0", self.port)


def load_coordinator_kit(folder: Path) -> CoordinatorKit:
    """Read a coordinator's kit.

    Raises:
        ConfigError: if it is none, or something is missing.
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
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        told = f"{type(error).__name__}: {error}"
        raise ConfigError(
            f"server.kit={folder}: {FILE} cannot be read ({told}); name the folder `coordinator`"
            " that `confide provision` made."
        ) from None
    files = [
        kit.outer.ca,
        kit.outer.certificate,
        kit.outer.key,
        kit.inner.certificate,
        kit.inner.key,
    ]
    missing = [path.name for path in (*files, *kit.institutions.values()) if not path.is_file()]
    if missing:
        raise ConfigError(
            f"server.kit={folder} lacks {', '.join(missing)}; run `confide provision` again."
        )
    return kit


__all__ = ["FILE", "CoordinatorKit", "load_coordinator_kit"]
