"""The ClientApp passes each question on as what it is, and its answer back."""

from dataclasses import dataclass, field

import pytest
from flwr.app import Context, Message, RecordDict

from confide.client.app import make_client_app
from confide.flower.messages import assign_message_id, task_identity
from confide.protocol.masked_sums import SumAnswer, SumQuestion
from confide.protocol.messages import (
    Reply,
    Request,
    RequestKind,
    message_type,
    pack_request,
    unpack_reply,
)

ASKED = Request(
    plan="{}", splits=[], sum=SumQuestion(cohort=("a", "b"), threshold=2, boxes={"a": b"sealed"})
)
SHARES = SumAnswer(shares={"a": b"share"}, signature=b"signed")


@dataclass
class Remembering:
    """An institution that remembers what it was asked."""

    name: str = "ward"
    asked: list[tuple[RequestKind, Request]] = field(default_factory=list)

    def handle(self, kind: RequestKind, request: Request) -> Reply:
        self.asked.append((kind, request))
        return Reply(institution=self.name, num_examples=5, sum=SHARES)


def ask(institution: Remembering, type_: str, content: RecordDict) -> Reply:
    app = make_client_app(lambda context: institution)
    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
    with task_identity():
        message = Message(content, 1, type_, group_id="1")
        assign_message_id(message)
        return unpack_reply(app(message, context).content)


@pytest.mark.parametrize("kind", ["query", "train", "evaluate", "unmask"])
def test_each_kind_of_question_is_told_from_the_others(kind: RequestKind) -> None:
    ward = Remembering()
    reply = ask(ward, message_type(kind), pack_request(ASKED))
    assert ward.asked == [(kind, ASKED)]
    assert reply == Reply(institution="ward", num_examples=5, sum=SHARES)


def test_a_question_about_a_sum_that_is_none_is_refused_by_its_code() -> None:
    ward, content = Remembering(), pack_request(ASKED)
    content.config_records["request"]["sum"] = "{"
    assert ask(ward, message_type("unmask"), content).refusal == "invalid_message"
    assert not ward.asked


def test_another_action_is_nobodys() -> None:
    with pytest.raises(ValueError, match="No query function registered with name 'open'"):
        ask(Remembering(), "query.open", pack_request(ASKED))
