"""Hosts as network namespaces of this machine, with addresses of their own.

Needs root and ``ip``::

    with Network() as network:
        bank = network.host("10.77.0.2")
        subprocess.run([*bank.within, "confide", "doctor", "kit"])

Its bridges are in a namespace of their own, so that nothing of this machine's network is touched.
All namespaces go at the end, however it comes; who starts programs in them ends these before.
"""

import itertools
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import packet_relay

_NUMBERS = itertools.count()


def ip(*words: str) -> None:
    """Carry out an ``ip`` command.

    Raises:
        OSError: if it fails, with what it says.
    """
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")


def why_not() -> str | None:
    """Return why namespaces cannot be made here; None if they can."""
    if os.geteuid():
        return "network namespaces need root"
    try:
        with Network() as network:
            network.host("10.77.0.250")
    except OSError as error:
        return f"network namespaces cannot be made here: {error}"
    return None


@dataclass(frozen=True)
class Host:
    """A namespace.

    Attributes:
        namespace: its name for ``ip``.
        address: on its network; "" without one.
        port: its port of the bridge; "" without one.
    """

    namespace: str
    address: str = ""
    port: str = ""

    @property
    def within(self) -> list[str]:
        """What a command begins with that runs on this host; it becomes that command's process."""
        return ["nsenter", f"--net=/run/netns/{self.namespace}", "--"]

    def ask(self, *words: str, timeout_s: float = 60.0) -> str:
        """Run a command on this host to its end, and return what it prints."""
        done = subprocess.run(
            [*self.within, *words], capture_output=True, text=True, timeout=timeout_s, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@dataclass
class Network:
    """A bridge and hosts on it, which go with this context."""

    _made: list[str] = field(default_factory=list)
    _relays: list[subprocess.Popen[str]] = field(default_factory=list)
    _switch: str = ""

    def __enter__(self) -> Self:
        try:
            self._switch = self._namespace()
            self.lan("lan")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End relays and delete namespaces."""
        for relay in self._relays:
            relay.kill()
            relay.communicate()
        self._relays.clear()
        while self._made:
            ip("netns", "delete", self._made.pop())

    def _namespace(self) -> str:
        name = f"confide-{os.getpid()}-{next(_NUMBERS)}"
        ip("netns", "add", name)
        self._made.append(name)
        ip("-n", name, "link", "set", "lo", "up")
        return name

    def lan(self, name: str) -> None:
        """Add a bridge; nothing leads from one to another but hosts on both."""
        ip("-n", self._switch, "link", "add", name, "type", "bridge")
        ip("-n", self._switch, "link", "set", name, "up")

    def isolated(self) -> Host:
        """Return a host without a network, as ``PrivateNetwork=yes`` gives a service."""
        return Host(self._namespace())

    def host(self, address: str, *, lan: str = "lan") -> Host:
        """Return a host on a bridge."""
        host = Host(self._namespace(), address, f"port{next(_NUMBERS)}")
        self.connect(host, address, lan=lan, port=host.port)
        return host

    def connect(
        self, host: Host, address: str, *, lan: str, port: str, interface: str = "eth0"
    ) -> None:
        """Give a host an interface on a bridge."""
        peer = ("peer", "name", interface, "netns", host.namespace)
        ip("-n", self._switch, "link", "add", port, "type", "veth", *peer)
        self.plug(port, lan)
        ip("-n", self._switch, "link", "set", port, "up")
        self._configure(host.namespace, address, interface)

    def slow_host(self, address: str, *, delay_s: float, loss: float) -> Host:
        """Return a host whose packets come late to all others, and are lost at times each way."""
        number = next(_NUMBERS)
        host = Host(self._namespace(), address, f"port{number}")
        near = f"near{number}"
        switch = Host(self._switch)
        words = [near, host.port, f"{delay_s:g}", f"{loss:g}", f"{number}"]
        relay = subprocess.Popen(
            [*switch.within, sys.executable, str(Path(packet_relay.__file__)), *words],
            stdout=subprocess.PIPE,
            text=True,
        )
        self._relays.append(relay)
        assert relay.stdout is not None
        if relay.stdout.readline() != "ready\n":
            raise OSError("the packet relay did not start: is there /dev/net/tun?")
        ip("-n", self._switch, "link", "set", near, "netns", host.namespace, "name", "eth0")
        self.plug(host.port, "lan")
        ip("-n", self._switch, "link", "set", host.port, "up")
        self._configure(host.namespace, address, "eth0")
        return host

    def plug(self, port: str, lan: str) -> None:
        """Plug a port into a bridge."""
        ip("-n", self._switch, "link", "set", port, "master", lan)

    def unplug(self, host: Host) -> None:
        """Cut a host off: its packets vanish, and its interface does not see it."""
        ip("-n", self._switch, "link", "set", host.port, "nomaster")

    def _configure(self, namespace: str, address: str, interface: str) -> None:
        ip("-n", namespace, "address", "add", f"{address}/24", "dev", interface)
        ip("-n", namespace, "link", "set", interface, "up")


def listening(host: Host) -> Sequence[str]:
    """Return the lines of sockets of a host that take UDP, or TCP from elsewhere than itself."""
    found = []
    for kind in ("tcp", "tcp6", "udp", "udp6"):
        for line in host.ask("cat", f"/proc/net/{kind}").splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            is_loopback = local.startswith(("0100007F:", "00000000000000000000000001000000:"))
            if not is_loopback and (state == "0A" or kind.startswith("udp")):
                found.append(f"{kind} {local}")
    return found
