"""A coordinator of the tests that does as it likes.

SuperLink and front from a kit, a bundle of its own, hand-made messages.
"""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deployment_run import free_port, wait_until
from flwr.app import Message, RecordDict
from flwr.cli.build import build_fab_from_files
from flwr.common.serde import user_config_to_proto
from flwr.proto.control_pb2 import StartRunRequest
from flwr.proto.fab_pb2 import Fab

from confide.errors import FlowerError
from confide.flower.grid import DeployedGrid, take_run
from confide.flower.processes import LOOPBACK, SuperLinkControl, environment, superlink_command
from confide.flower.runtime import Runtime
from confide.protocol.messages import Reply, unpack_reply
from confide.server.deployment.kit import CoordinatorKit, load_coordinator_kit

Asked = tuple[str, RecordDict]
"""Type and content of a message."""
MARK = "bundle-ran-here-8c1f"
_CODE = f"""
import os, pathlib
pathlib.Path({{place!r}}).mkdir(parents=True, exist_ok=True)
pathlib.Path({{place!r}}, f"{{{{__name__}}}}-{{{{os.getpid()}}}}").write_text("{MARK}")
for path in {{read!r}}:
    with open(path) as file:
        pathlib.Path({{place!r}}, "stolen").write_text(file.read())
"""
_PROJECT = """
[project]
name = "innocent"
version = "1.0.0"
license = {{ text = "Apache-2.0" }}
dependencies = [{package!r}, "no-such-package-8c1f @ file://{place}/package"]

[tool.flwr.app]
publisher = "hostile"

[tool.flwr.app.components]
serverapp = "innocent.app:app"
clientapp = "innocent.app:app"

[tool.flwr.app.config]
job = ""
"__import__('os')" = "$(touch {place}/shell)"
_target_ = "os.system"
partition-id = 7
"""


def hostile_bundle(place: Path, read: list[str]) -> bytes:
    """Write a bundle whose every module leaves a mark and copies what it can read."""
    code = _CODE.format(place=str(place), read=read).encode()
    names = ("confide", "flwr", "client", "innocent", "numpy")
    files: dict[str, bytes | Path] = {f"{name}/__init__.py": code for name in names}
    files |= {
        name: code
        for name in ("torch.py", "sitecustomize.py", "usercustomize.py", "conftest.py", "setup.py")
    }
    files["innocent/app.py"] = code + b"\nfrom flwr.clientapp import ClientApp\napp = ClientApp()\n"
    files["pyproject.toml"] = _PROJECT.format(place=place, package="pyjokes").encode()
    return build_fab_from_files(files)[0]


class HostileCoordinator:
    """SuperLink and front on a kit's port, and one run that this process holds."""

    def __init__(self, kit: Path) -> None:
        self.kit: CoordinatorKit = load_coordinator_kit(kit)
        self.nodes: dict[str, int] = {}
        self.grid: DeployedGrid

    @contextlib.contextmanager
    def running(
        self, bundle: bytes, run_config: Mapping[str, Any]
    ) -> Iterator["HostileCoordinator"]:
        kit, address = self.kit, f"{LOOPBACK}:{free_port()}"
        kit.state.mkdir(mode=0o700, exist_ok=True)
        kit.secret.write_bytes(bytes(range(32)))
        port = int(address.rpartition(":")[2])
        superlink = superlink_command(
            port=port, tls=kit.inner, database=kit.database, secret=kit.secret
        )
        front = [
            sys.executable,
            "-m",
            "confide.server.deployment.front",
            "--listen",
            kit.listens_on(),
            "--max-body-mb",
            "1000",
        ]
        front += ["--certificate", str(kit.outer.certificate), "--key", str(kit.outer.key)]
        front += ["--upstream", address, "--upstream-ca", str(kit.inner.ca)]
        with contextlib.ExitStack() as stack:
            control = SuperLinkControl(address, kit.inner.ca)
            for name, command in (("superlink", superlink), ("front", front)):
                stack.enter_context(_process(command, kit.state, name))
                wait_until(lambda: _answers(control), timeout_s=60, what="SuperLink answers")
            self.nodes = {name: node for node, name in control.register(kit.institutions).items()}
            wait_until(
                lambda: control.online() == set(self.nodes.values()),
                timeout_s=90,
                what="institutions are connected",
            )
            _submit(control, bundle, run_config)
            runtime = Runtime(address=address, secret=kit.secret, ca=kit.inner.ca)
            self.grid = stack.enter_context(take_run(runtime, timeout_s=30))
            yield self

    def send_all(self, name: str, asked: Sequence[Asked], *, timeout_s: float) -> list[Message]:
        """Send messages at once and return their replies in this order.

        Raises:
            AssertionError: if one is not answered in time.
        """
        messages = [
            Message(content, self.nodes[name], kind, group_id="1") for kind, content in asked
        ]
        ids = [str(message_id) for message_id in self.grid.push_messages(messages)]
        waiting, replies, end = set(ids), dict[str, Message](), time.monotonic() + timeout_s
        while waiting and time.monotonic() < end:
            for reply in self.grid.pull_messages(waiting):
                replies[reply.metadata.reply_to_message_id] = reply
            waiting = set(ids) - replies.keys()
            time.sleep(0.2)
        silent = [asked[ids.index(message_id)][0] for message_id in waiting]
        assert not silent, f"no answer to {', '.join(silent)} within {timeout_s:g} s"
        return [replies[message_id] for message_id in ids]

    def ask(self, name: str, kind: str, content: RecordDict, *, timeout_s: float = 60.0) -> Reply:
        """Ask one question that is to have a reply without error."""
        (reply,) = self.send_all(name, [(kind, content)], timeout_s=timeout_s)
        assert not reply.has_error(), reply.error
        return unpack_reply(reply.content)


def _answers(control: SuperLinkControl) -> bool:
    try:
        control.online()
    except FlowerError:
        return False
    return True


def _submit(control: SuperLinkControl, bundle: bytes, run_config: Mapping[str, Any]) -> None:
    with control._client() as client:
        request = StartRunRequest(
            fab=Fab(content=bundle), override_config=user_config_to_proto(dict(run_config))
        )
        assert client.StartRun(request).run_id


@contextlib.contextmanager
def _process(command: list[str], folder: Path, name: str) -> Iterator[None]:
    with (folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment(folder / "flower"),
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
