"""Questions and answers of masked sums travel whole; what is none is refused, whatever it says."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flwr.app import ConfigRecord, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from confide.errors import ProtocolError
from confide.protocol.masked_sums import (
    LONGEST_ADVERT,
    LONGEST_SUM_TEXT,
    OpenedBefore,
    SumAnswer,
    SumQuestion,
)
from confide.protocol.messages import (
    Reply,
    Request,
    RequestKind,
    as_read,
    message_type,
    pack_reply,
    pack_request,
    unpack_reply,
    unpack_request,
)

QUESTION = SumQuestion(
    cohort=('{"name":"ä"}', "b"),
    threshold=2,
    before=(OpenedBefore(digest=b"\x00\xff", survivors=("a", "b"), signatures={"a": b"s"}),),
    question="ab",
    length=7,
    survivors=("a",),
    boxes={"a": b"box"},
)
ANSWER = SumAnswer(commitments=b"c", boxes={"b": b"\xff"}, shares={"a": b"sh"}, signature=b"si")
QUESTION_TEXT = (
    '{"cohort":["{\\"name\\":\\"\\u00e4\\"}","b"],"threshold":2,"question":"ab","length":7,'
    '"survivors":["a"],'
    '"boxes":{"a":"Ym94"},"before":[{"digest":"00ff","survivors":["a","b"],'
    '"signatures":{"a":"cw=="}}]}'
)
ANSWER_TEXT = '{"commitments":"Yw==","boxes":{"b":"/w=="},"shares":{"a":"c2g="},"signature":"c2k="}'

names = st.text(max_size=8)
named_bytes = st.dictionaries(names, st.binary(max_size=40), max_size=4)
name_tuples = st.lists(names, max_size=4).map(tuple)
questions = st.builds(
    SumQuestion,
    cohort=name_tuples,
    threshold=st.integers(0, 2**40),
    before=st.lists(
        st.builds(
            OpenedBefore,
            digest=st.binary(max_size=32),
            survivors=name_tuples,
            signatures=named_bytes,
        ),
        max_size=3,
    ).map(tuple),
    question=names,
    length=st.integers(0, 2**40),
    survivors=name_tuples,
    boxes=named_bytes,
)
answers = st.builds(
    SumAnswer,
    commitments=st.binary(max_size=40),
    boxes=named_bytes,
    shares=named_bytes,
    signature=st.binary(max_size=40),
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
)


def asks(text: Any) -> Request:
    plain = ConfigRecord({"plan": "{}", "server-round": 1, "sum": text})
    return unpack_request(RecordDict({"request": plain}))


def tells(**about_sum: Any) -> Reply:
    who = ConfigRecord({"institution": "bank", "refusal": "", "ledger-head": "", **about_sum})
    return unpack_reply(RecordDict({"reply": who, "metrics": MetricRecord({"num-examples": 5})}))


def outcome(
    read: Callable[[str], Reply | Request], text: str
) -> tuple[str | None, SumQuestion | SumAnswer | None]:
    """Return the code that a text is refused with, and what it says."""
    try:
        return None, read(text).sum
    except ProtocolError as error:
        return error.code, None


def objects_in(value: Any) -> list[dict[str, Any]]:
    """Return all objects of a JSON value, those within others too."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    found = [one for part in inner for one in objects_in(part)]
    return [value, *found] if isinstance(value, dict) else found


def edited(text: str, data: st.DataObject) -> str:
    """Put any value in the place of one of a text's own, or any characters."""
    if data.draw(st.booleans()):
        at, until = sorted(data.draw(st.integers(0, len(text))) for _ in range(2))
        return text[:at] + data.draw(st.text(max_size=6)) + text[until:]
    parts = json.loads(text)
    inner = data.draw(st.sampled_from(objects_in(parts)))
    inner[data.draw(st.sampled_from(sorted(inner)))] = data.draw(anything)
    return json.dumps(parts)


@pytest.mark.parametrize("name", ["threshold", "length"])
@pytest.mark.parametrize("value", [-1, 10**400])
def test_numbers_that_no_sum_has_are_refused(name: str, value: int) -> None:
    parts = json.loads(SumQuestion(cohort=(), threshold=2).to_text())
    with pytest.raises(ProtocolError) as raised:
        SumQuestion.from_text(json.dumps({**parts, name: value}))
    assert raised.value.code == "invalid_message"


@settings(deadline=None)
@given(question=questions)
def test_a_question_survives_packing(question: SumQuestion) -> None:
    request = Request(plan="{}", server_round=3, splits=[], sum=question)
    assert unpack_request(pack_request(request)) == request


@settings(deadline=None)
@given(answer=st.none() | answers, advert=st.text(max_size=20))
def test_an_answer_and_an_advert_survive_packing(answer: SumAnswer | None, advert: str) -> None:
    figures = {"epsilon": 1.5, "odd": float("inf")}
    reply = Reply(institution="bank", num_examples=5, figures=figures, advert=advert, sum=answer)
    read = unpack_reply(pack_reply(reply))
    assert (read.advert, read.sum, read.figures) == (advert, answer, {"epsilon": 1.5})
    assert as_read(reply) == read
    assert as_read(replace(reply, figures={})) == replace(read, figures={})


def test_the_texts_are_these_to_the_letter() -> None:
    assert pack_request(Request(plan="{}", sum=QUESTION))["request"]["sum"] == QUESTION_TEXT
    assert pack_reply(Reply(institution="bank", sum=ANSWER))["reply"]["sum"] == ANSWER_TEXT
    assert asks(QUESTION_TEXT).sum == QUESTION
    assert tells(sum=ANSWER_TEXT).sum == ANSWER


def test_what_is_of_no_masked_sum_says_nothing_of_one() -> None:
    pack_reply(Reply(institution="bank", advert="a key", sum=ANSWER))
    reply, request = pack_reply(Reply(institution="bank")), pack_request(Request(plan="{}"))
    assert list(reply["reply"]) == ["institution", "refusal", "ledger-head"]
    assert list(request["request"]) == ["plan", "server-round", "splits", "ledger-head"]
    assert asks("").sum is None
    assert (tells(advert="", sum="").advert, tells(advert="", sum="").sum) == ("", None)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_whatever_a_text_says_it_is_read_or_refused(data: st.DataObject) -> None:
    for read, text in ((asks, QUESTION_TEXT), (lambda it: tells(sum=it), ANSWER_TEXT)):
        code, about = outcome(read, edited(text, data))
        assert code in (None, "invalid_message")
        assert about is None or type(about).from_text(about.to_text()) == about


@settings(deadline=None)
@given(text=st.text() | anything.map(json.dumps))
def test_a_text_that_is_nothing_of_the_kind_is_refused(text: str) -> None:
    for read in (asks, lambda it: tells(sum=it)):
        if text:
            with pytest.raises(ProtocolError) as caught:
                read(text)
            assert caught.value.code == "invalid_message"


@pytest.mark.parametrize("value", [7, 1.5, True, b"{}", ["{}"], "[" * 10**5, "9" * 10**4])
def test_what_is_no_text_about_a_sum_is_refused(value: Any) -> None:
    for read in (asks, lambda it: tells(sum=it)):
        with pytest.raises(ProtocolError) as caught:
            read(value)
        assert caught.value.code == "invalid_message"


@pytest.mark.parametrize("value", [7, b"a key", ["a key"], "x" * (LONGEST_ADVERT + 1)])
def test_what_is_no_advert_is_refused(value: Any) -> None:
    assert tells(advert="x" * LONGEST_ADVERT).advert == "x" * LONGEST_ADVERT
    with pytest.raises(ProtocolError, match="advert") as caught:
        tells(advert=value)
    assert caught.value.code == "invalid_message"


def test_the_longest_text_passes_and_one_character_more_is_too_large() -> None:
    bare = len(SumAnswer(boxes={"": b"", "b": b""}).to_text())
    most = SumAnswer(boxes={"x" * ((LONGEST_SUM_TEXT - bare) % 4): b"", "b": b""})
    full = replace(
        most, commitments=bytes((LONGEST_SUM_TEXT - len(most.to_text())) // 4 * 3)
    ).to_text()
    assert len(full) == LONGEST_SUM_TEXT
    assert tells(sum=full).sum is not None
    for read in (asks, lambda it: tells(sum=it)):
        with pytest.raises(ProtocolError) as caught:
            read(full + " ")
        assert caught.value.code == "too_large"


@pytest.mark.parametrize(
    ("kind", "type_"),
    [
        ("query", "query"),
        ("train", "train"),
        ("evaluate", "evaluate"),
        ("unmask", "query.unmask"),
    ],
)
def test_shares_are_asked_for_by_a_message_type_of_their_own(kind: RequestKind, type_: str) -> None:
    assert message_type(kind) == type_
