"""Keeps the last updates of jobs without privacy, and answers with them if asked again.

Private rounds are answered again from the ledger. Without privacy nothing is durable, and a message
that is delivered twice would be trained twice, so the last answer of each of the last jobs is kept
in memory.
"""

import contextlib
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

from confide.client.app import RequestHandler
from confide.errors import ProtocolError
from confide.protocol.masked_sums import SumQuestion
from confide.protocol.messages import Reply, Request, RequestKind
from confide.protocol.plan import TrainingPlan


class ReplyCache:
    """A request handler that trains only once for the same request.

    Args:
        handler: handler of an institution.
        most_jobs: largest number of jobs for which an update is kept.
        is_stopped: function that returns whether the institution's people stopped a job, which the
            handler then refuses.
    """

    def __init__(
        self,
        handler: RequestHandler,
        *,
        most_jobs: int = 2,
        is_stopped: Callable[[str], bool] = lambda job: False,
    ) -> None:
        if most_jobs < 1:
            raise ValueError(f"Expected most_jobs={most_jobs} >= 1.")
        self._handler = handler
        self._most_jobs = most_jobs
        self._is_stopped = is_stopped
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[bytes, Reply]] = OrderedDict()

    @property
    def name(self) -> str:
        """Name of the institution."""
        return self._handler.name

    def handle(self, kind: RequestKind, request: Request) -> Reply:
        """Answer a request, from the cache if it is the last one of a job without privacy."""
        job = None
        if kind == "train":
            # What is not a plan is refused by the handler, with its own code.
            with contextlib.suppress(ProtocolError):
                plan = TrainingPlan.from_json(request.plan)
                job = None if plan.private else plan.job
        if job is None:
            return self._handler.handle(kind, request)
        key = _digest(request)
        with self._lock:
            kept = self._kept.get(job)
        if kept is not None and kept[0] == key and not self._is_stopped(job):
            return kept[1]
        reply = self._handler.handle(kind, request)
        # A refusal may be lifted, by time or by people, so it is asked for each time.
        if reply.refusal is None:
            with self._lock:
                self._kept[job] = (key, reply)
                self._kept.move_to_end(job)
                while len(self._kept) > self._most_jobs:
                    self._kept.popitem(last=False)
        return reply


def _digest(request: Request) -> bytes:
    """Hash everything that an answer depends on."""
    digest = hashlib.sha256()

    # With its length, so that no two sequences of parts give the same bytes.
    def add(part: bytes) -> None:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)

    # Without the countersignature, which differs each time that the same head is countersigned
    head = request.ledger_head.partition(" ")[0]
    asked = "" if request.sum is None else _sum_text(request.sum)
    texts = (request.plan, str(request.server_round), head, asked, *request.splits)
    for text in (str(len(texts)), *texts):
        add(text.encode(errors="surrogatepass"))
    for name, array in (request.arrays or {}).items():
        for text in (name, array.dtype, array.stype, str(tuple(array.shape))):
            add(text.encode(errors="surrogatepass"))
        add(array.data)
    return digest.digest()


def _sum_text(question: SumQuestion) -> str:
    """Return what an answer's sum follows from, as text."""
    # Whose signatures a coordinator shows under sums before changes from time to time
    before = (replace(one, signatures={}) for one in question.before)
    return replace(question, before=tuple(before)).to_text()


__all__ = ["ReplyCache"]
