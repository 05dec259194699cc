"""What a coordinator is doing, in two files for whoever watches: they decide nothing.

``under_way.json`` says whom a run asks just now and who has answered; ``runs.jsonl`` where the runs
of a kit are, which nothing else of a kit knows.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from flwr.app import Message
from flwr.serverapp import Grid
from pydantic import TypeAdapter, ValidationError

from confide.deployment.lifetime import processes
from confide.errors import ProtocolError
from confide.flower.messages import Run
from confide.flower.polling import PollingGrid
from confide.protocol.messages import unpack_reply
from confide.protocol.refusals import Refusal
from confide.server.deployment.kit import CoordinatorKit

WAITING, ANSWERED = "waiting", "answered"
_KINDS = {"query": "query", "train": "train", "evaluate": "evaluate", "query.unmask": "unmask"}
"""Type of Flower's messages -> kind of request."""


@dataclass(kw_only=True)
class Asked:
    """What an institution was asked last.

    Attributes:
        kind: query, train, evaluate or unmask.
        server_round: number of the round; where there are no rounds, of its questions.
        since: seconds since the epoch when it was first asked.
        state: waiting, answered, or the code of what came in place of an answer.
    """

    kind: str
    server_round: int
    since: float
    state: str = WAITING


@dataclass(kw_only=True)
class UnderWay:
    """What a run is doing.

    Attributes:
        job: its name.
        folder: RUN.
        process: process id of its rounds.
        kind: what was asked last, of anybody; "" while nobody was asked yet.
        server_round: of it.
        since: seconds since the epoch when that began.
        connected: names of those who were connected when it was looked last.
        asked: name -> what it was asked last.
    """

    job: str
    folder: str
    process: int
    kind: str = ""
    server_round: int = 0
    since: float = 0.0
    connected: list[str] = field(default_factory=list)
    asked: dict[str, Asked] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class KnownRun:
    """A run that was started from a kit.

    Attributes:
        job: its name.
        folder: RUN.
        program: server or statistics.
        started: seconds since the epoch.
    """

    job: str
    folder: str
    program: str
    started: float


class WatchedGrid(PollingGrid):
    """A grid that keeps in a file who was asked what, and what came.

    Args:
        grid: carries the messages.
        names: node id -> name.
        path: of the file.
        now: what is known beforehand.
    """

    def __init__(self, grid: Grid, names: Mapping[int, str], path: Path, now: UnderWay) -> None:
        self._grid, self._names, self._path, self._now = grid, names, path, now

    def set_run(self, run: Run) -> None:
        """Set the run; called by Flower."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """The run whose messages these are."""
        return self._grid.run

    def get_node_ids(self) -> Iterable[int]:
        """Return the ids of connected nodes."""
        nodes = list(self._grid.get_node_ids())
        connected = sorted(self._names[node] for node in nodes if node in self._names)
        if connected != self._now.connected:
            self._now.connected = connected
            self._keep()
        return nodes

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages and return their ids."""
        sent = list(messages)
        for message in sent:
            self._note_question(message)
        self._keep()
        return self._grid.push_messages(sent)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return replies that have arrived."""
        replies = list(self._grid.pull_messages(message_ids))
        for reply in replies:
            self._note_reply(reply)
        if replies:
            self._keep()
        return replies

    def _note_question(self, message: Message) -> None:
        about, now = message.metadata, time.time()
        kind = _KINDS.get(about.message_type, about.message_type)
        server_round = int(about.group_id) if about.group_id.isdigit() else 0
        name = self._names.get(about.dst_node_id, f"node {about.dst_node_id}")
        before = self._now.asked.get(name)
        if before is not None and (before.kind, before.server_round) == (kind, server_round):
            return  # asked again: what came until now still says most
        self._now.asked[name] = Asked(kind=kind, server_round=server_round, since=now)
        if (self._now.kind, self._now.server_round) != (kind, server_round):
            self._now.kind, self._now.server_round, self._now.since = kind, server_round, now

    def _note_reply(self, reply: Message) -> None:
        node = reply.metadata.src_node_id
        asked = self._now.asked.get(self._names.get(node, f"node {node}"))
        if asked is not None and asked.state != ANSWERED:
            asked.state = _came(reply)

    def _keep(self) -> None:
        # Neither synchronised nor needed: a full disk must not end a run for the sake of a page
        temporary = self._path.with_name(f".{self._path.name}")
        with contextlib.suppress(OSError):
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(asdict(self._now), file)
            os.replace(temporary, self._path)


def _came(reply: Message) -> str:
    if reply.has_error():
        return Refusal.ERROR_REPLY
    try:
        return unpack_reply(reply.content).refusal or ANSWERED
    except ProtocolError as error:
        return str(error.code)


@contextlib.contextmanager
def watched(
    grid: Grid, names: Mapping[int, str], kit: CoordinatorKit, *, job: str, run_dir: Path
) -> Iterator[Grid]:
    """Keep in the kit what a run asks, inside this context.

    Args:
        grid: carries the messages.
        names: node id -> name.
        kit: of the coordinator.
        job: name of the run.
        run_dir: RUN.
    """
    now = UnderWay(job=job, folder=str(run_dir), process=os.getpid())
    try:
        yield WatchedGrid(grid, names, kit.under_way, now)
    finally:
        with contextlib.suppress(OSError):
            kit.under_way.unlink(missing_ok=True)


def read_under_way(kit: CoordinatorKit) -> UnderWay | None:
    """Return what a run is doing; None if none is under way, or nothing is known of it."""
    try:
        now = TypeAdapter(UnderWay).validate_json(kit.under_way.read_bytes(), strict=True)
    except (OSError, ValidationError):
        return None
    # The file of rounds that were killed stays behind
    return now if processes(kit.logs).get("rounds") == now.process else None


def note_run(kit: CoordinatorKit, run: KnownRun) -> None:
    """Remember where a run of a kit is."""
    line = json.dumps(asdict(run)) + "\n"
    with contextlib.suppress(OSError):
        handle = os.open(kit.runs, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(line)


def read_runs(kit: CoordinatorKit) -> list[KnownRun]:
    """Return the runs of a kit, the newest first; of one that was resumed, its last start."""
    try:
        lines = kit.runs.read_bytes().splitlines()
    except OSError:
        return []
    found: dict[str, KnownRun] = {}
    for line in reversed(lines):
        with contextlib.suppress(ValidationError):  # a line that was not written to its end
            run = TypeAdapter(KnownRun).validate_json(line, strict=True)
            found.setdefault(run.folder, run)
    return list(found.values())


__all__ = [
    "ANSWERED",
    "WAITING",
    "Asked",
    "KnownRun",
    "UnderWay",
    "WatchedGrid",
    "note_run",
    "read_runs",
    "read_under_way",
    "watched",
]
