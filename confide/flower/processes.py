"""Flower's processes: supported releases, their commands, and the SuperLink's control API.

``tests/flower/test_processes.py`` checks what is relied on here: command-line flags, environment
variables, and the protobuf messages of the control API, which has no stable interface for programs.
"""

import contextlib
import logging
import os
import re
import shutil
import socket
import ssl
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from flwr.common.serde import user_config_to_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from flwr.proto.fab_pb2 import Fab
from flwr.proto.fleet_pb2 import DeactivateNodeRequest
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from confide.errors import ConfideError, ConfigError, FlowerError
from confide.flower.bundle import bundle
from confide.security.client_tls import load_pair
from confide.security.ec_keys import read_node_key
from confide.security.proxies import settled

TESTED = ("1.41", "1.42")
"""Minor releases of flwr whose private parts are known; both sides need the same one."""
LOOPBACK = "127.0.0.1"
_CONTROL_TIMEOUT_S = 10.0
_GOOD_BYE_TIMEOUT_S = 3.0
_NODE_ID = re.compile(r"SuperNode ID: (\d+)")

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Tls:
    """Files of a server's TLS identity.

    Attributes:
        ca: certificate of the authority.
        certificate: certificate of the server.
        key: private key of the server's certificate.
    """

    ca: Path
    certificate: Path
    key: Path


def check_version() -> str:
    """Check that the installed flwr is a supported release, and return it.

    Raises:
        ConfigError: if it is not, with the supported releases and the fix.
    """
    installed = version("flwr")
    if ".".join(installed.split(".")[:2]) not in TESTED:
        raise ConfigError(
            f"flwr {installed} is installed; expected {' or '.join(TESTED)}, the same on both"
            f" sides. `pip install 'flwr~={TESTED[0]}.0'` brings one."
        )
    return installed


def environment(home: Path, *, coordinator: str | None = None) -> dict[str, str]:
    """Return the environment of a Flower process with its own home, which calls no other server.

    Args:
        home: folder of its files.
        coordinator: HOST:PORT that it connects to, perhaps through a proxy.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLWR_")}
    # SuperNode's HTTP client heeds HTTPS_PROXY, by rules of its own.
    return (
        kept
        | settled(os.environ, coordinator)
        | {
            "FLWR_HOME": str(home),
            # Behind a firewall that drops packets, telemetry delays each process's exit by seconds.
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        }
    )


def _program(name: str) -> str:
    """Return the path of one of Flower's programs, next to this Python or on the PATH."""
    # Next to this Python first: PATH may name another environment, with another release.
    neighbour = Path(sys.executable).parent / name
    path = str(neighbour) if neighbour.exists() else shutil.which(name)
    if path is None:
        raise ConfigError(
            f"{name} is not installed with {sys.executable}; `pip install flwr` installs it."
        )
    return path


def free_port() -> int:
    """Return a port on loopback that is free now."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        return int(listener.getsockname()[1])


def superlink_command(*, port: int, tls: Tls, database: Path, secret: Path) -> list[str]:
    """Return the command of a SuperLink on loopback that recognises nodes by their keys.

    Args:
        port: port of all its APIs.
        tls: TLS identity; node authentication requires it, even on loopback.
        database: SQLite file.
        secret: file of the secret shared with the process that takes its runs.
    """
    return [
        *(_program("flower-superlink"), "--host", LOOPBACK, "--port", str(port)),
        *(
            "--ssl-ca-certfile",
            str(tls.ca),
            "--ssl-certfile",
            str(tls.certificate),
            "--ssl-keyfile",
            str(tls.key),
        ),
        *("--enable-supernode-auth", "--database", str(database)),
        *("--isolation", "process", "--superexec-auth-secret-file", str(secret)),
        "--disable-runtime-dependency-installation",
    ]


def supernode_command(
    *, coordinator: str, ca: Path, key: Path, port: int, secret: Path, shown: Path | None = None
) -> list[str]:
    """Return the command of a SuperNode that runs no application code itself.

    Args:
        coordinator: HOST:PORT of the coordinator's front.
        ca: certificate of the authority that signed the front's.
        key: the node's own, OpenSSH.
        port: of its runtime API, on loopback.
        secret: file of the secret shared with the executor.
        shown: certificate that the node shows to the front; None if it asks for none.
    """
    return [
        *(sys.executable, "-m", "confide.flower.supernode"),
        *(() if shown is None else ("--client-certificate", str(shown))),
        *("--superlink", coordinator, "--root-certificates", str(ca)),
        *("--auth-supernode-private-key", str(key), "--host", LOOPBACK, "--port", str(port)),
        *("--isolation", "process", "--superexec-auth-secret-file", str(secret)),
    ]


def say_good_bye(
    written: str, *, coordinator: str, ca: Path, key: Path, shown: Path | None = None
) -> bool:
    """Sign a SuperNode off that was killed before it could do so itself.

    Args:
        written: output of the SuperNode since it started, in which it names its node id once the
            coordinator has accepted it.
        coordinator: HOST:PORT of the coordinator's front.
        ca: certificate of the authority that signed the front's.
        key: private key of the node, in OpenSSH's form.
        shown: certificate that the node shows to the front; None if it asks for none.

    Returns:
        Whether the coordinator took note; False if the SuperNode had not been accepted at all.
    """
    # The coordinator would otherwise refuse this node for a minute.
    node_id = _NODE_ID.search(written)
    if node_id is None:
        return False
    try:
        private = read_node_key(key)
        signed = NodeAuthHttpInterceptor(private, private.public_key())
        release = RuntimeVersionHttpInterceptor(component_name="SuperNode")
        context = ssl.create_default_context(cafile=ca)
        if shown is not None:
            load_pair(context, shown, key)
        client = FleetHttpClient(
            f"https://{coordinator}", interceptors=[release, signed], verify=context
        )
        client._client.timeout = httpx.Timeout(_GOOD_BYE_TIMEOUT_S)
        with contextlib.closing(client):
            client.DeactivateNode(DeactivateNodeRequest(node_id=int(node_id[1])))
    except (ConfideError, httpx.HTTPError, OSError, RuntimeError, ValueError) as error:
        log.info(
            "%s could not be told that a SuperNode is gone (%s).",
            coordinator,
            type(error).__name__,
        )
        return False
    return True


class SuperLinkControl:
    """The control API of a SuperLink on loopback.

    Args:
        address: HOST:PORT of the SuperLink.
        ca: certificate of the authority that signed the SuperLink's.
    """

    def __init__(self, address: str, ca: Path) -> None:
        self._address, self._ca = address, ca

    def register(self, keys: Mapping[str, Path]) -> dict[int, str]:
        """Register institutions' public keys, and unregister all others.

        Args:
            keys: file of the OpenSSH public key of each institution.

        Returns:
            Name of each node id.

        Raises:
            ConfigError: if a key cannot be read, or was unregistered before.
            FlowerError: if the SuperLink refuses or does not answer.
        """
        wanted = {key_bytes(path): name for name, path in keys.items()}
        with self._client() as client:
            known = {
                node.public_key: node for node in client.ListNodes(ListNodesRequest()).nodes_info
            }
            there = {key: node for key, node in known.items() if node.status != "unregistered"}
            gone = sorted(
                name for key, name in wanted.items() if key in known.keys() - there.keys()
            )
            if gone:
                raise ConfigError(
                    f"{', '.join(gone)} took part before and was removed, and SuperLink accepts no"
                    " key a second time; have a new one made (`confide provision --request`), or"
                    " remove state/superlink.db while nothing is running."
                )
            for key in there.keys() - wanted.keys():
                client.UnregisterNode(UnregisterNodeRequest(node_id=there[key].node_id))
            names = {}
            for key, name in wanted.items():
                node = there.get(key) or client.RegisterNode(
                    RegisterNodeRequest(public_key=key, name=name)
                )
                names[int(node.node_id)] = name
        return names

    def unregister(self, node: int) -> None:
        """Refuse a node from now on; one that is not registered is left as it is."""
        with contextlib.suppress(FlowerError), self._client() as client:
            client.UnregisterNode(UnregisterNodeRequest(node_id=node))

    def online(self) -> set[int]:
        """Return the ids of connected nodes."""
        with self._client() as client:
            return {
                int(node.node_id)
                for node in client.ListNodes(ListNodesRequest()).nodes_info
                if node.status == "online"
            }

    def connected(self, keys: Mapping[str, Path]) -> list[str]:
        """Return the names of connected institutions, found by their public keys."""
        names = {key_bytes(path): name for name, path in keys.items()}
        with self._client() as client:
            nodes = client.ListNodes(ListNodesRequest()).nodes_info
        return sorted(
            names[node.public_key]
            for node in nodes
            if node.status == "online" and node.public_key in names
        )

    def start_run(self, job: str) -> int:
        """Submit a run, and return its number; what SuperLink keeps of earlier ones is deleted."""
        # Every node sees the run config, so it holds nothing but the job's name.
        with self._client() as client:
            # Whoever lists runs has the messages of those that have ended deleted
            client.ListRuns(ListRunsRequest())
            fab = Fab(content=bundle())
            run = int(
                client.StartRun(
                    StartRunRequest(fab=fab, override_config=user_config_to_proto({"job": job}))
                ).run_id
            )
        if not run:
            raise FlowerError(
                f"SuperLink at {self._address} did not accept the run; its log says why."
            )
        return run

    def stop_run(self, run_id: int) -> None:
        """End a run; one that has already ended is left as it is."""
        with contextlib.suppress(FlowerError), self._client() as client:
            client.StopRun(StopRunRequest(run_id=run_id))

    @contextlib.contextmanager
    def _client(self) -> Iterator[ControlHttpClient]:
        client = ControlHttpClient.from_server_address(
            server_address=self._address,
            insecure=False,
            root_certificates=self._ca.read_bytes(),
            interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
        )
        client._client.timeout = httpx.Timeout(_CONTROL_TIMEOUT_S)
        try:
            yield client
        except httpx.HTTPStatusError as error:
            reason = f"{error.response.status_code} {error.response.text[:300]}"
            raise FlowerError(f"SuperLink at {self._address} refuses: {reason}.") from None
        except httpx.HTTPError as error:
            raise FlowerError(
                f"SuperLink at {self._address} does not answer ({type(error).__name__}: {error})."
            ) from None
        finally:
            client.close()


def key_bytes(path: Path) -> bytes:
    """Return a public key as SuperLink keeps it.

    Args:
        path: its file, in OpenSSH's form.

    Raises:
        ConfigError: if it cannot be read.
    """
    try:
        key = load_ssh_public_key(path.read_bytes())
        return public_key_to_bytes(key)  # type: ignore[arg-type]  # a key of another kind raises below
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"{path} is not a public key in OpenSSH format ({error}); run `confide provision`"
            " again."
        ) from None


__all__ = [
    "LOOPBACK",
    "TESTED",
    "SuperLinkControl",
    "Tls",
    "check_version",
    "environment",
    "free_port",
    "key_bytes",
    "say_good_bye",
    "superlink_command",
    "supernode_command",
]
