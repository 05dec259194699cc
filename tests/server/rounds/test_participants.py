"""How institutions are asked: each with the head of its own ledger."""

from dataclasses import replace

import pytest

from confide.protocol.messages import Request, RequestKind, unpack_request
from confide.security.ec_keys import make_key
from confide.security.ledger_heads import countersign, is_countersigned, parse_head
from confide.server.rounds.participants import Clients, Question

CLIENTS = Clients(names={1: "ward", 2: "clinic"}, num_examples={"ward": 3, "clinic": 3})
HEAD = "ab" * 32 + ":signature"
KEY = make_key()


@pytest.mark.usefixtures("identity")
def test_the_head_of_a_ledger_is_echoed_with_a_countersignature() -> None:
    clients = replace(CLIENTS, ledger_heads={"ward": HEAD})
    request = Request(plan="plan", server_round=1)
    ward, clinic = (
        unpack_request(message.content)
        for message in Question(
            clients=clients,
            names=["ward", "clinic"],
            request=request,
            countersign_fn=lambda head: countersign(head, KEY),
        ).messages("train")
    )
    head = parse_head(ward.ledger_head)
    assert head is not None
    assert head.text == HEAD
    assert is_countersigned(head.text, head.countersignature, KEY.public_key())
    assert not is_countersigned(f"{head.text}x", head.countersignature, KEY.public_key())
    assert clinic.ledger_head == ""


@pytest.mark.usefixtures("identity")
def test_without_a_key_a_head_is_echoed_as_it_came() -> None:
    clients = replace(CLIENTS, ledger_heads={"ward": "7:" + "ab" * 32})
    question = Question(clients=clients, names=["ward"], request=Request(plan="plan"))
    (message,) = question.messages("train")
    assert unpack_request(message.content).ledger_head == "7:" + "ab" * 32


@pytest.mark.usefixtures("identity")
@pytest.mark.parametrize(
    ("kind", "type_"), [("train", "train"), ("evaluate", "evaluate"), ("unmask", "query.unmask")]
)
def test_a_message_has_the_type_that_its_kind_is_dispatched_by(
    kind: RequestKind, type_: str
) -> None:
    question = Question(clients=CLIENTS, names=["ward"], request=Request(plan="plan"))
    (message,) = question.messages(kind)
    assert message.metadata.message_type == type_
