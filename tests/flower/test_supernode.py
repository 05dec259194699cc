"""The pauses of Flower's SuperNode that are replaced, and what of Flower that relies on."""

import contextlib
import importlib.util
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from flower.test_pace import Clock
from flower_link import run_node, run_superlink, wait_for
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.supercore.inflatable.inflatable_utils import ObjectUnavailableError
from flwr.supernode import start_client_internal
from flwr.supernode.cli.flower_supernode import (
    _parse_args_run_supernode,
    _try_setup_client_authentication,
)

from confide.errors import UnreadableError
from confide.flower import supernode
from confide.flower.grid import take_run
from confide.flower.pace import PATIENCE_S
from confide.flower.supernode import (
    IDLE_S,
    KEY_FLAG,
    REPLY_S,
    UNKNOWN,
    Waits,
    is_known,
    quicken,
    with_readable_key,
)
from confide.security.ec_keys import make_key, node_key_text, private_pem

RUN = 7
FLOWERS = Path(str(start_client_internal.__file__))


def module_of(path: Path) -> ModuleType:
    """Return a module of its own, so that what is replaced in it is replaced there alone."""
    spec = importlib.util.spec_from_file_location("copied", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- the text of Flower's that is known


def test_the_installed_supernode_is_the_one_that_is_known() -> None:
    assert is_known(), (
        "flwr's supernode/start_client_internal.py has changed: read its loop, say in KNOWN that it"
        " still pauses by `time.sleep(3)` after `_pull_and_store_message` returned None and by"
        " `time.sleep(0.5)` while a reply is awaited, and nowhere else."
    )


def test_these_are_all_of_its_pauses() -> None:
    text = FLOWERS.read_text()
    assert re.findall(r"\btime\.\w+\(.*?\)", text) == [f"time.sleep({IDLE_S:g})"] + 2 * [
        f"time.sleep({REPLY_S:g})"
    ]


def test_another_text_is_not_known_and_one_that_is_gone_neither(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    same, changed = tmp_path / "same_text.py", tmp_path / "changed_text.py"
    same.write_bytes(FLOWERS.read_bytes())
    changed.write_bytes(FLOWERS.read_bytes() + b"\n")
    assert is_known("same_text")
    assert not is_known("changed_text")
    assert not is_known("no_module_of_this_name")


@pytest.mark.parametrize("known", [True, False])
def test_an_unknown_supernode_keeps_its_pauses_and_says_so(
    monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    module, said, started = module_of(FLOWERS), list[str](), list[bool]()
    monkeypatch.setattr("flwr.supernode.start_client_internal", module)
    monkeypatch.setattr(supernode, "is_known", lambda: known)
    monkeypatch.setattr(supernode, "log", lambda level, text: said.append(text))
    monkeypatch.setattr("flwr.supernode.cli.flower_supernode", lambda: started.append(True))
    supernode.main()
    assert started == [True]
    assert said == ([] if known else [UNKNOWN])
    assert (module.time is time) is not known


# --- the pauses, by a clock of the tests, in Flower's own loop


class EndError(Exception):
    """Ends Flower's loop, which has no end."""


class Replies(list[Message]):
    """A reply that is there, of which nothing remains to be sent."""

    def __bool__(self) -> bool:
        return True


@dataclass
class Institution:
    """What Flower's loop is given in place of a SuperLink and an executor.

    Attributes:
        messages: number of a look -> seconds that the answer to the message takes that it finds.
        most_looks: at which the loop ends.
        looks: when each was.
        sent: when each reply was taken to be sent.
    """

    messages: Mapping[int, float]
    most_looks: int
    clock: Clock = field(default_factory=Clock)
    looks: list[float] = field(default_factory=list)
    sent: list[float] = field(default_factory=list)
    answered_at: float = 0.0

    def receive(self, **_: Any) -> int | None:
        if len(self.looks) == self.most_looks:
            raise EndError
        self.looks.append(self.clock())
        took_s = self.messages.get(len(self.looks))
        if took_s is None:
            return None
        self.answered_at = self.clock() + took_s
        return RUN

    def get_messages_legacy(self, *, is_reply: bool) -> list[Message]:
        assert is_reply
        if self.clock() < self.answered_at:
            return []
        self.sent.append(self.clock())
        return Replies()

    def set_node_id(self, node_id: int) -> None:
        assert node_id == 1

    def run(self) -> list[float]:
        """Run Flower's loop; return the time between looks."""

        @contextlib.contextmanager
        def connection(**_: Any) -> Iterator[tuple[Any, ...]]:
            yield (1, *[lambda *_: b""] * 7)

        module = module_of(FLOWERS)
        module.__dict__.update(
            _init_connection=connection,
            _pull_and_store_message=self.receive,
            register_signal_handlers=lambda **_: None,
        )
        quicken(module, Waits(self.clock, self.clock.sleep))
        factory = SimpleNamespace(
            state=lambda: self, objectstore_factory=SimpleNamespace(store=lambda: None)
        )
        with pytest.raises(EndError):
            module.start_client_internal(
                state_factory=factory,
                server_address="127.0.0.1:1",
                node_config={},
                insecure=True,
                isolation="process",
            )
        return [later - earlier for earlier, later in pairwise(self.looks)]


def test_looks_are_quick_at_first_and_seldom_when_nothing_comes() -> None:
    gaps = Institution({}, most_looks=80).run()
    assert gaps == sorted(gaps)
    assert gaps[:5] == pytest.approx([0.2] * 5)
    assert gaps[-1] == IDLE_S
    assert sum(gap < IDLE_S for gap in gaps) < 20


def test_a_message_and_its_reply_make_looks_quick_again() -> None:
    institution = Institution({60: 0.0}, most_looks=90)
    gaps = institution.run()
    assert gaps[57] == IDLE_S
    assert gaps[58] == IDLE_S  # the message is found at the end of this one
    assert gaps[59] == 0  # of a message with its reply, after which Flower looks at once
    assert gaps[60:65] == pytest.approx([0.2] * 5)


def test_an_answer_of_an_hour_is_looked_for_seldom_and_after_it_looks_are_quick() -> None:
    institution = Institution({2: 3600.0}, most_looks=12)
    gaps = institution.run()
    (sent,) = institution.sent
    assert 0 <= sent - institution.answered_at <= REPLY_S
    assert gaps[1] == pytest.approx(3600, abs=REPLY_S)
    assert gaps[2:7] == pytest.approx([0.2] * 5)


def test_an_answer_that_takes_little_is_sent_soon() -> None:
    institution = Institution({2: 0.1, 3: 1.0}, most_looks=5)
    gaps = institution.run()
    assert gaps[1] <= 0.1 + 0.021
    assert gaps[2] <= 1.0 + 0.11


# --- parts that are announced and on their way


def pull_by(module: ModuleType, pull_object: Any) -> Any:
    """Return what Flower's loop would be given to pull a message's parts with."""
    given: dict[str, Any] = {}
    module.__dict__["_pull_and_store_message"] = lambda **rest: given.update(rest)
    clock = Clock()
    quicken(module, Waits(clock, clock.sleep))
    module._pull_and_store_message(pull_object=pull_object, state=None)
    return given["pull_object"]


def test_a_part_on_its_way_is_asked_for_again_before_flowers_pause_of_a_second() -> None:
    asked = list[float]()

    def pull_object(run_id: int, object_id: str) -> bytes:
        asked.append(time.monotonic())
        if len(asked) < 4:
            raise ObjectUnavailableError(object_id)
        return b"part"

    assert pull_by(module_of(FLOWERS), pull_object)(RUN, "a") == b"part"
    assert len(asked) == 4


def test_a_part_that_does_not_come_is_left_to_flower() -> None:
    clock, asked = Clock(), list[float]()

    def pull_object(run_id: int, object_id: str) -> bytes:
        asked.append(clock())
        raise ObjectUnavailableError(object_id)

    with pytest.raises(ObjectUnavailableError):
        supernode._patient(pull_object, clock, clock.sleep)(RUN, "a")
    assert PATIENCE_S < asked[-1] - asked[0] < PATIENCE_S + 1
    assert len(asked) < 80


# --- a real SuperNode


def test_a_supernode_looks_more_often_than_flowers_own_while_messages_come(
    tmp_path: Path,
) -> None:
    # Of all levels only this one tells of a look.
    with run_superlink(tmp_path, FLWR_LOG_LEVEL="DEBUG") as link, run_node(link, tmp_path) as node:
        log = tmp_path / "superlink.log"

        def looks() -> int:
            return log.read_text().count("[Fleet.PullMessages] node_id=")

        def number_of_replies() -> int:
            return sum(1 for _ in grid.pull_messages(ids))

        link.control.start_run("trial")
        with take_run(link.runtime(), timeout_s=10) as grid:
            content = RecordDict({"ask": ConfigRecord({"x": 1})})
            ids = set(grid.push_messages([Message(content, node.node_id, "query", ttl=60.0)]))
            wait_for(lambda: number_of_replies() > 0, "no reply comes")
            before = looks()
            time.sleep(2 * IDLE_S)
            assert looks() - before > 4, "Flower's own would have looked twice"


# --- a key that is encrypted


def test_an_encrypted_key_is_read_by_flower_from_memory_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = make_key()
    path, folder = tmp_path / "node.key", tmp_path / "passphrases"
    folder.mkdir()
    monkeypatch.setenv("CONFIDE_PASSPHRASES", str(folder))
    words = ["--superlink", "x:1", KEY_FLAG, str(path), "--insecure"]

    path.write_text(node_key_text(key))
    assert with_readable_key(words) == words
    path.write_text(private_pem(key, b"secret"))
    with pytest.raises(UnreadableError, match="its passphrase is not here"):
        with_readable_key(words)
    (folder / "node.key.passphrase").write_text("secret")
    (folder / "node.key.passphrase").chmod(0o600)
    before = sorted(it for it in tmp_path.rglob("*"))
    readable = with_readable_key(words)
    assert readable[3].startswith("/proc/self/fd/")
    assert [*readable[:3], *readable[4:]] == [*words[:3], *words[4:]]
    assert sorted(it for it in tmp_path.rglob("*")) == before
    # As Flower's own command reads it
    arguments = _parse_args_run_supernode().parse_args(["--insecure", KEY_FLAG, readable[3]])
    pair = _try_setup_client_authentication(arguments)
    assert pair is not None
    assert pair[1] == key.public_key()


def test_a_passphrase_that_is_missing_ends_the_supernode_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    path.write_text(private_pem(make_key(), b"secret"))
    done = subprocess.run(
        [sys.executable, "-m", "confide.flower.supernode", KEY_FLAG, str(path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert done.stderr.strip().endswith("(LoadCredential=node.key.passphrase:FILE).")
    assert "Traceback" not in done.stderr
