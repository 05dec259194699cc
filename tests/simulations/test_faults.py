"""Clients that fail on purpose: which, when, and how."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from flwr.app import Message

from confide.config.simulation import FaultConfig
from confide.flower.messages import assign_message_id, task_identity
from confide.protocol.messages import Reply, Request, message_type, pack_reply, pack_request
from confide.protocol.tensors import encode
from confide.simulations.faults import Faults, FaultyDelivery, FaultyInstitution, InjectedError
from confide.simulations.institutions import faulty as at_the_door

SECRET, OTHER = bytes(32), bytes([1]) * 32
NAMES = {1: "a", 2: "b"}
REPLY = Reply(
    institution="a",
    num_examples=3,
    arrays=encode({"w": torch.ones(2, 2), "b": torch.ones(())}),
    figures={"epsilon": 0.5},
)
DELAY_S = 0.05


@pytest.fixture(autouse=True)
def _identity() -> Iterator[None]:
    with task_identity():
        yield


def faults(*configs: FaultConfig, secret: bytes = SECRET) -> Faults:
    return Faults(configs, secret, "job")


def hits(made: Faults, clients: str = "abcd", rounds: int = 8) -> list[str]:
    return [
        f"{client}{r}" for client in clients for r in range(1, rounds + 1) if made.of(client, r)
    ]


# Which, when


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ["a1", "a2", "b1", "b2"]),
        ({"client": "b"}, ["b1", "b2"]),
        ({"rounds": [2, 9]}, ["a2", "b2"]),
        ({"client": "a", "rounds": [2]}, ["a2"]),
        ({"client": "c"}, []),
        ({"probability": 0.0}, []),
    ],
)
def test_fault_hits_its_clients_in_its_rounds(
    settings: dict[str, Any], expected: list[str]
) -> None:
    assert hits(faults(FaultConfig(**settings)), "ab", 2) == expected


def test_no_faults_hit_nobody() -> None:
    assert hits(faults()) == []


def test_first_fault_that_hits_counts() -> None:
    both = faults(FaultConfig(kind="nan", client="a"), FaultConfig(kind="late", rounds=[1]))
    kinds = [
        (fault := both.of(client, r)) and fault.kind for client, r in (("a", 1), ("b", 1), ("b", 2))
    ]
    assert kinds == ["nan", "late", None]


def test_chance_is_decided_by_the_secret_alone() -> None:
    # Written down, so that another process, or another Python, that decides otherwise is seen.
    expected = ["a2", "a4", "a5", "a8", "b1", "b2", "b3", "b4", "b7", "c2", "c4", "c6", "c8", "d3"]
    assert hits(faults(FaultConfig(probability=0.3))) == expected
    assert hits(faults(FaultConfig(probability=0.3), secret=OTHER)) != expected


def test_chance_is_as_large_as_asked_for() -> None:
    share = len(hits(faults(FaultConfig(probability=0.3)), rounds=1000)) / 4000
    assert share == pytest.approx(0.3, abs=0.03)  # four standard deviations


def test_two_faults_are_decided_apart() -> None:
    half = FaultConfig(probability=0.5)
    assert hits(faults(FaultConfig(client="nobody"), half)) != hits(faults(half))
    share = len(hits(faults(half, half), rounds=1000)) / 4000
    assert share == pytest.approx(0.75, abs=0.03)


# At an institution


@dataclass
class Inner:
    """An institution that answers and remembers."""

    name: str = "a"
    reply: Reply = REPLY
    diary: list[object] = field(default_factory=list)

    def handle(self, kind: str, request: Request) -> Reply:
        self.diary.append(kind)
        return self.reply


def faulty(kind: str, inner: Inner) -> FaultyInstitution:
    return FaultyInstitution(inner, faults(FaultConfig(kind=kind, rounds=[2], delay_s=7.0)))


def train(institution: FaultyInstitution, server_round: int = 2, kind: str = "train") -> Reply:
    return institution.handle(kind, Request(plan="", server_round=server_round))


KINDS = ["raises", "hangs", "nan", "late", "twice", "leaves"]


@pytest.mark.parametrize("kind", KINDS)
def test_other_rounds_and_questions_are_answered_as_ever(kind: str) -> None:
    inner = Inner()
    institution = faulty(kind, inner)
    assert train(institution, server_round=1) is REPLY
    assert train(institution, kind="evaluate") is REPLY
    assert train(institution, kind="query") is REPLY
    assert train(institution, kind="unmask") is REPLY
    assert inner.diary == ["train", "evaluate", "query", "unmask"]
    assert institution.name == "a"


def test_institution_raises_before_it_trains() -> None:
    inner = Inner()
    with pytest.raises(InjectedError, match="a was told to fail in round 2"):
        train(faulty("raises", inner))
    assert inner.diary == []


def test_institution_answers_with_nan_and_is_otherwise_honest() -> None:
    reply = train(faulty("nan", Inner()))
    assert reply.arrays is not None
    arrays = {name: array.numpy() for name, array in reply.arrays.items()}
    assert {name: array.shape for name, array in arrays.items()} == {"w": (2, 2), "b": ()}
    assert all(math.isnan(value) for array in arrays.values() for value in array.reshape(-1))
    assert (reply.institution, reply.num_examples, reply.figures) == ("a", 3, {"epsilon": 0.5})


def test_refusal_holds_no_nan() -> None:
    refusal = Reply(institution="a", refusal="rounds_spent")
    assert train(faulty("nan", Inner(reply=refusal))) is refusal


@pytest.mark.parametrize("kind", ["hangs", "late", "twice", "leaves"])
def test_what_happens_on_the_way_is_no_matter_of_the_institution(kind: str) -> None:
    inner = Inner()
    assert train(faulty(kind, inner)) is REPLY
    assert inner.diary == ["train"]


# On the way


def question(node: int = 1, server_round: int = 2, kind: str = "train") -> Message:
    content = pack_request(Request(plan="", server_round=server_round))
    asked = Message(content, node, kind, group_id=str(server_round))
    assign_message_id(asked)
    return asked


def message(node: int = 1, server_round: int = 2, kind: str = "train") -> Message:
    return Message(pack_reply(REPLY), reply_to=question(node, server_round, kind))


def delivery(kind: str, *, delay_s: float = DELAY_S) -> FaultyDelivery:
    return FaultyDelivery(
        faults(FaultConfig(kind=kind, client="a", rounds=[2], delay_s=delay_s)), NAMES
    )


OTHERS = [{"node": 2}, {"server_round": 1}, {"kind": "evaluate"}, {"kind": "query"}]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_hit_is_heard_and_answered_at_once(kind: str) -> None:
    made, replies = delivery(kind), [message(**other) for other in OTHERS]
    assert all(
        made.is_heard(question(**other)) and not made.is_late(question(**other)) for other in OTHERS
    )
    assert made.deliver(replies) == replies


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_client_that_hangs_does_not_hear_its_question(kind: str) -> None:
    assert delivery(kind).is_heard(question()) == (kind != "hangs")


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_late_answer_is_announced_as_late(kind: str) -> None:
    assert delivery(kind).is_late(question()) == (kind == "late")


def test_reply_that_comes_twice_comes_together_and_once_more_never() -> None:
    made, reply = delivery("twice"), message()
    assert made.deliver([reply]) == [reply, reply]
    assert made.deliver([]) == []


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_client_that_leaves_does_not_hear_what_opens_a_sum(kind: str) -> None:
    made, opens = delivery(kind), message_type("unmask")
    assert made.is_heard(question(kind=opens)) == (kind != "leaves")
    assert made.is_heard(question(kind=opens, server_round=1))
    assert made.is_heard(question(kind=opens, node=2))
    reply = message(kind=opens)
    assert made.deliver([reply]) == [reply]


@pytest.mark.parametrize("kind", ["raises", "nan", "leaves"])
def test_what_the_institution_did_is_delivered_as_it_is(kind: str) -> None:
    reply = message()
    assert delivery(kind).deliver([reply]) == [reply]


def test_late_reply_arrives_once_after_its_delay() -> None:
    made, late, other = delivery("late"), message(), message(node=2)
    assert made.deliver([late, other]) == [other]
    time.sleep(DELAY_S)
    assert made.deliver([]) == [late]
    assert made.deliver([]) == []


def test_reply_is_held_back_until_it_is_due() -> None:
    made = delivery("late", delay_s=600.0)
    assert made.deliver([message()]) == made.deliver([]) == []


def test_new_questions_make_late_replies_nobodys() -> None:
    made = delivery("late")
    assert made.deliver([message()]) == []
    made.forget()
    time.sleep(DELAY_S)
    assert made.deliver([]) == []


def test_only_its_job_has_faults() -> None:
    made = faults(FaultConfig(kind="raises"))
    assert isinstance(at_the_door(Inner(), made, "job"), FaultyInstitution)
    assert isinstance(at_the_door(Inner(), made, "job/alone/a"), Inner)
    assert isinstance(at_the_door(Inner(), None, "job"), Inner)
