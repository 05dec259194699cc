"""A federation whose hosts are network namespaces, those of its trainers without a network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from subprocess import Popen

from deployment_run import ALLOWING, Deployment
from network_hosts import Host

from confide.storage.files import folder_name

COORDINATOR = "10.77.0.1"
PORT = 8443
ROLES = ("trainer", "executor", "supernode")
_RUNTIME_PORT = 8470


@dataclass
class HostedDeployment(Deployment):
    """Kits for hosts of a network; a client is three services, as on an institution's machine.

    Attributes:
        places: host of ``server`` and of each institution.
        rooms: host of each institution's trainer.
    """

    client_overrides: Sequence[str] = (
        *ALLOWING,
        "data.id_column=id",
        f"runtime_port={_RUNTIME_PORT}",
    )
    port: int = PORT
    hosts: Sequence[str] = (COORDINATOR,)
    places: Mapping[str, Host] = field(default_factory=dict)
    rooms: Mapping[str, Host] = field(default_factory=dict)

    def start_client(self, name: str, *overrides: str) -> Popen[bytes]:
        """Start an institution's services; return the SuperNode's."""
        records = self.folder / "records" / f"{folder_name(name)}.csv"
        given = [f"data.path={records}", *self.client_overrides, *overrides]
        kit = str(self.kit(name))
        for role in ROLES:
            started = self._start(f"{name}/{role}", ["client", kit, "--only", role, *given])
        return started

    def within(self, name: str) -> list[str]:
        """Return what the command begins with, by which it runs on its host."""
        place, _, role = name.partition("/")
        return (self.rooms if role == "trainer" else self.places)[place].within

    def told(self, name: str, role: str) -> str:
        """Return what an institution's service printed."""
        return (self.folder / f"{folder_name(f'{name}/{role}')}.out").read_text()
