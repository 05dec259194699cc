"""Updates without privacy that were computed already.

A private round is answered again by the ledger. Without privacy nothing is durable, and a message
that is delivered twice would be trained twice, so the last answer of each of the last jobs is kept
in memory.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable

from confide.client.app import RequestHandler
from confide.errors import ProtocolError
from confide.protocol.messages import Reply, Request, RequestKind
from confide.protocol.plan import TrainingPlan


class ReplyCache:
    """A door that trains for the same question once.

    Args:
        door: what answers.
        most_jobs: how many jobs are remembered, one update each.
        is_stopped: whether the institution's people stopped a job, which is then for the door to
            refuse.
    """

    def __init__(
        self,
        door: RequestHandler,
        *,
        most_jobs: int = 2,
        is_stopped: Callable[[str], bool] = lambda job: False,
    ) -> None:
        if most_jobs < 1:
            raise ValueError(f"Expected most_jobs={most_jobs} >= 1.")
        self._door = door
        self._most_jobs = most_jobs
        self._is_stopped = is_stopped
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[bytes, Reply]] = OrderedDict()

    @property
    def name(self) -> str:
        """The institution's name."""
        return self._door.name

    def handle(self, kind: RequestKind, request: Request) -> Reply:
        """Answer a request; refusals, and whatever is private, are not remembered."""
        job = _job_without_privacy(request.plan) if kind == "train" else None
        if job is None:
            return self._door.handle(kind, request)
        key = _digest(request)
        with self._lock:
            kept = self._kept.get(job)
        if kept is not None and kept[0] == key and not self._is_stopped(job):
            return kept[1]
        reply = self._door.handle(kind, request)
        if reply.refusal is None:
            self._keep(job, key, reply)
        return reply

    def _keep(self, job: str, key: bytes, reply: Reply) -> None:
        with self._lock:
            self._kept[job] = (key, reply)
            self._kept.move_to_end(job)
            while len(self._kept) > self._most_jobs:
                self._kept.popitem(last=False)


def _job_without_privacy(text: str) -> str | None:
    try:
        plan = TrainingPlan.from_json(text)
    except ProtocolError:
        return None
    return None if plan.private else plan.job


def _digest(request: Request) -> bytes:
    """Hash everything that an answer depends on; every part goes in with its length."""
    digest = hashlib.sha256()

    def add(part: bytes) -> None:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)

    texts = (request.plan, str(request.server_round), request.ledger_head, *request.splits)
    for text in (str(len(texts)), *texts):
        add(text.encode(errors="surrogatepass"))
    for name, array in (request.arrays or {}).items():
        for text in (name, array.dtype, array.stype, str(tuple(array.shape))):
            add(text.encode(errors="surrogatepass"))
        add(array.data)
    return digest.digest()


__all__ = ["ReplyCache"]
