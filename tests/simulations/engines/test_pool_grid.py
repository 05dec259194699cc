"""What a grid hands to its workers: what all have in common once, and each one's own beside it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import pytest
from flwr.app import Message
from torch import Tensor

from confide.flower.messages import task_identity
from confide.protocol.masked_sums import SumQuestion
from confide.protocol.messages import Request, RequestKind, message_type, pack_request
from confide.simulations.engines.pool import WorkerPool
from confide.simulations.engines.pool_engine import PoolGrid
from confide.simulations.engines.worker import RoundSpec, WorkItem

NAMES = {1: "anna", 2: "bert"}
ASKED = Request(
    plan="",
    server_round=2,
    sum=SumQuestion(cohort=("a", "b"), threshold=2, survivors=("anna", "bert")),
)
BOXES = {name: {"anna": name.encode(), "bert": b"sealed"} for name in NAMES.values()}


@pytest.fixture(autouse=True)
def _identity() -> Iterator[None]:
    with task_identity():
        yield


@dataclass
class Pool:
    """Takes items and does nothing."""

    spec: RoundSpec | None = None
    items: list[WorkItem] = field(default_factory=list)
    settled: int = 0

    def begin(
        self, round_spec: RoundSpec, items: Iterable[WorkItem], *, params: Tensor | None
    ) -> None:
        assert params is None
        self.spec, self.items = round_spec, list(items)

    def settle(self, timeout: float) -> None:
        self.settled += 1

    def stop(self) -> list[WorkItem]:
        return []


def grid(pool: Pool) -> PoolGrid:
    return PoolGrid(cast(WorkerPool, pool), NAMES, spent={})


def messages(requests: Sequence[Request], kind: RequestKind = "unmask") -> list[Message]:
    return [
        Message(pack_request(request), node, message_type(kind), group_id="2")
        for node, request in zip(NAMES, requests, strict=True)
    ]


def own(name: str, request: Request = ASKED) -> Request:
    assert request.sum is not None
    return replace(request, sum=replace(request.sum, boxes=BOXES[name]), ledger_head=name)


def test_each_institution_is_given_its_own_boxes_and_ledger_head() -> None:
    pool = Pool()
    grid(pool).push_messages(messages([own(name) for name in NAMES.values()]))
    assert pool.spec is not None
    assert (pool.spec.kind, pool.spec.sum) == (message_type("unmask"), ASKED.sum)
    assert {item.client: item.boxes for item in pool.items} == BOXES
    assert [item.ledger_head for item in pool.items] == list(NAMES.values())


def test_different_questions_about_a_sum_are_no_question() -> None:
    assert ASKED.sum is not None
    other = replace(ASKED, sum=replace(ASKED.sum, survivors=("anna",)))
    asked = messages([own("anna"), own("bert", other)])
    with pytest.raises(ValueError, match="Expected one request for all"):
        grid(Pool()).push_messages(asked)


@pytest.mark.parametrize(("kind", "settled"), [("unmask", 1), ("train", 0)])
def test_workers_end_shares_that_nobody_waits_for(kind: RequestKind, settled: int) -> None:
    pool = Pool()
    asked = grid(pool)
    asked.push_messages(messages([ASKED, ASKED], kind))
    asked.push_messages([])
    assert pool.settled == settled
