"""A real SuperLink on loopback, a real SuperNode, and an executor of the tests, each a process."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from confide.errors import FlowerError
from confide.flower.processes import (
    LOOPBACK,
    SuperLinkControl,
    Tls,
    environment,
    free_port,
    superlink_command,
    supernode_command,
)
from confide.flower.runtime import Runtime
from confide.security import certificates, ec_keys
from confide.storage.files import write_secret

CHILD = Path(__file__).parent / "flower" / "executor_child.py"
START_S = 40.0


@dataclass(frozen=True, kw_only=True)
class SuperLink:
    """One that runs."""

    folder: Path
    address: str
    tls: Tls
    secret: Path

    @property
    def control(self) -> SuperLinkControl:
        return SuperLinkControl(self.address, self.tls.ca)

    def runtime(self, *, secret: Path | None = None, patience_s: float = 5.0) -> Runtime:
        return Runtime(
            address=self.address,
            secret=secret or self.secret,
            ca=self.tls.ca,
            patience_s=patience_s,
        )


@dataclass(frozen=True, kw_only=True)
class Node:
    """A SuperNode that runs, with an executor that answers for it."""

    node_id: int
    home: Path
    log: Path


def make_tls(folder: Path) -> Tls:
    """Make an authority and a certificate for loopback, as ``confide provision`` does."""
    key, server = ec_keys.make_key(), ec_keys.make_key()
    authority = certificates.make_authority("tests", key)
    certificate = certificates.issue_server_certificate(
        server.public_key(), [LOOPBACK], authority=(authority, key), days=1
    )
    tls = Tls(ca=folder / "ca.crt", certificate=folder / "server.crt", key=folder / "server.key")
    tls.ca.write_text(certificates.certificate_pem(authority))
    tls.certificate.write_text(certificates.certificate_pem(certificate))
    tls.key.write_text(ec_keys.private_pem(server))
    return tls


def make_node_key(folder: Path, name: str) -> Path:
    """Make an institution's key, and return the public one."""
    key = ec_keys.make_key()
    (folder / f"{name}.key").write_text(ec_keys.node_key_text(key))
    (folder / f"{name}.pub").write_text(ec_keys.public_line(key.public_key()))
    return folder / f"{name}.pub"


def wait_for(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + START_S
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.1)


@contextlib.contextmanager
def started(
    command: Sequence[str], log: Path, home: Path, **variables: str
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=environment(home) | variables,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def run_superlink(folder: Path, **variables: str) -> Iterator[SuperLink]:
    tls, port, secret = make_tls(folder), free_port(), folder / "secret"
    write_secret(secret, b"s" * 32)
    link = SuperLink(folder=folder, address=f"{LOOPBACK}:{port}", tls=tls, secret=secret)
    command = superlink_command(port=port, tls=tls, database=folder / "superlink.db", secret=secret)
    log, home = folder / "superlink.log", folder / "home"
    with started(command, log, home, **variables) as process:
        wait_for(lambda: process.poll() is not None or _answers(link), "SuperLink does not start")
        assert process.poll() is None, log.read_text()
        yield link


def _answers(link: SuperLink) -> bool:
    try:
        link.control.online()
    except FlowerError:
        return False
    return True


@contextlib.contextmanager
def run_node(link: SuperLink, folder: Path, name: str = "ward") -> Iterator[Node]:
    """Register a node, and run it with an executor of the tests."""
    public = make_node_key(folder, name)
    (node_id,) = link.control.register({name: public})
    port, secret, home = free_port(), folder / "node.secret", folder / "home"
    write_secret(secret, b"n" * 32)
    key, log = public.with_suffix(".key"), folder / "executor.log"
    command = supernode_command(
        coordinator=link.address, ca=link.tls.ca, key=key, port=port, secret=secret
    )
    executor = [sys.executable, str(CHILD), f"{LOOPBACK}:{port}", str(secret)]
    with started(command, folder / "supernode.log", home) as process, started(executor, log, home):
        wait_for(
            lambda: process.poll() is not None or node_id in link.control.online(),
            "the SuperNode does not connect",
        )
        assert process.poll() is None, (folder / "supernode.log").read_text()
        yield Node(node_id=node_id, home=home, log=log)
