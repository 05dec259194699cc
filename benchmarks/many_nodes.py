"""Processor time of a SuperLink and its front, with many SuperNodes: idle, and in rounds.

Used by ``deployed_rounds.py``. As a command it is one stub of an executor:

    python benchmarks/many_nodes.py RUNTIME SECRET
"""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from confide.flower.executor import run_tasks
from confide.flower.grid import take_run
from confide.flower.processes import LOOPBACK, free_port, supernode_command
from confide.flower.runtime import Runtime
from confide.storage.files import write_secret

SECONDS = 60.0
CONTENT_KB = 30
app = ClientApp()


@app.train()
def _answer(message: Message, context: Context) -> Message:
    """Send back what came, as late as it says."""
    time.sleep(float(message.content.config_records["ask"]["seconds"]))  # type: ignore[arg-type]
    return Message(message.content, reply_to=message)


@dataclass(frozen=True)
class Spent:
    """Processor time of processes since a moment."""

    pids: tuple[int, ...]
    before: float
    began: float

    @classmethod
    def now(cls, *pids: int) -> "Spent":
        """Begin to count."""
        return cls(pids, cls.seconds(pids), time.monotonic())

    @staticmethod
    def seconds(pids: tuple[int, ...]) -> float:
        """Return the seconds of processor time, user and system, that these have used so far."""
        words = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
        return sum(int(word[11]) + int(word[12]) for word in words) / os.sysconf("SC_CLK_TCK")

    @property
    def a_minute(self) -> float:
        """Seconds of processor time a minute, since then."""
        return 60 * (self.seconds(self.pids) - self.before) / (time.monotonic() - self.began)


@contextlib.contextmanager
def processes(commands: list[list[str]], folder: Path) -> Iterator[list[int]]:
    """Run commands side by side inside this context."""
    from flower_link import started

    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(started(command, folder / f"{number}.log", folder / "home")).pid
            for number, command in enumerate(commands)
        ]


def measure_superlink(number: int, load: Callable[[], str]) -> None:
    """Print what so many SuperNodes cost a SuperLink and its front, idle and in rounds."""
    from flower_link import make_node_key, make_tls, run_superlink

    with TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        for part in ("link", "front", "nodes"):
            (folder / part).mkdir()
        link = stack.enter_context(run_superlink(folder / "link"))
        outer, port = make_tls(folder / "front"), free_port()
        front = [sys.executable, "-m", "confide.server.deployment.front"]
        front += ["--listen", f"{LOOPBACK}:{port}", "--certificate", str(outer.certificate)]
        front += ["--key", str(outer.key)]
        front += ["--upstream", link.address, "--upstream-ca", str(link.tls.ca)]
        keys = {f"n{i}": make_node_key(folder / "nodes", f"n{i}") for i in range(number)}
        nodes = link.control.register(keys)
        secret = folder / "secret"
        write_secret(secret, b"n" * 32)
        commands = [front]
        for key in keys.values():
            runtime = free_port()
            commands.append(
                supernode_command(
                    coordinator=f"{LOOPBACK}:{port}",
                    ca=outer.ca,
                    key=key.with_suffix(".key"),
                    port=runtime,
                    secret=secret,
                )
            )
            commands.append([sys.executable, __file__, f"{LOOPBACK}:{runtime}", str(secret)])
        pids = stack.enter_context(processes(commands, folder / "nodes"))
        while not link.control.online() >= nodes.keys():
            time.sleep(1)
        superlink = _pid_of(link.address.rpartition(":")[2])
        time.sleep(SECONDS / 2)  # until looks are as seldom as they become
        _print("idle", Spent.now(superlink), Spent.now(pids[0]), load, wait_s=SECONDS)
        link.control.start_run("trial")
        with take_run(link.runtime(), timeout_s=30) as grid:
            for slowest_s in (0.0, 10.0):
                spent, rounds = (Spent.now(superlink), Spent.now(pids[0])), 0
                end = time.monotonic() + SECONDS
                while time.monotonic() < end:
                    _round(grid, sorted(nodes), slowest_s)
                    rounds += 1
                title = f"rounds, of whose answers one takes {slowest_s:g} s: {rounds}"
                _print(title, *spent, load)


def _round(grid: object, nodes: list[int], slowest_s: float) -> None:
    from confide.server.rounds.exchange import exchange

    arrays = ArrayRecord({"weights": Array(numpy.ones(CONTENT_KB * 256, numpy.float32))})
    messages = []
    for position, node in enumerate(nodes):
        ask = ConfigRecord({"seconds": slowest_s if position == 0 else 0.0})
        messages.append(Message(RecordDict({"ask": ask, "arrays": arrays}), node, "train", ttl=300))
    replies = list(exchange(grid, messages, 120.0))  # type: ignore[arg-type]
    errors = [reply.error.code for reply in replies if reply.has_error()]
    if errors or len(replies) < len(nodes):
        raise SystemExit(f"{len(replies)} of {len(nodes)} answered, with errors {errors}")


def _print(
    title: str, superlink: Spent, front: Spent, load: Callable[[], str], *, wait_s: float = 0.0
) -> None:
    time.sleep(wait_s)
    took_s = time.monotonic() - superlink.began
    print(
        f"{title}; processor time a minute over {took_s:.0f} s: SuperLink"
        f" {superlink.a_minute:.1f} s, front {front.a_minute:.1f} s {load()}",
        flush=True,
    )


def _pid_of(port: str) -> int:
    """Return the process of the SuperLink on a port."""
    found = subprocess.run(
        ["pgrep", "-f", f"flower-superlink .*--port {port} "], capture_output=True, text=True
    )
    return int(found.stdout.split()[0])


if __name__ == "__main__":
    run_tasks(Runtime(address=sys.argv[1], secret=Path(sys.argv[2])), app, threading.Event())
