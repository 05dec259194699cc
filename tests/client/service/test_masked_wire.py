"""Masked words, and what is said of their sum, between an executor and the trainer service."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from connected import LIMITS, QUESTION, Connected, Door
from flwr.app import Array, ArrayRecord
from hypothesis import given, settings
from hypothesis import strategies as st

from confide.client.service import trainer_pb2 as pb
from confide.client.service.chunks import CHUNK_BYTES, WireLimits
from confide.client.service.codec import (
    MESSAGE_BYTES,
    read_reply,
    read_request,
    reply_parts,
    request_parts,
)
from confide.errors import ProtocolError
from confide.protocol.masked_sums import (
    LONGEST_ADVERT,
    LONGEST_SUM_TEXT,
    OpenedBefore,
    SumAnswer,
    SumQuestion,
)
from confide.protocol.messages import Reply, Request, RequestKind
from confide.protocol.plan import LONGEST_PLAN
from confide.protocol.tensors import decode, encode
from confide.protocol.words import MASKED, Words, decode_words, encode_words

WIRE = WireLimits()
ASKED = SumQuestion(
    cohort=("advert of a", "advert of ward"),
    threshold=2,
    before=(OpenedBefore(digest=bytes(32), survivors=("a",), signatures={"a": b"signed"}),),
    question="ab",
    length=7,
    survivors=("a",),
    boxes={"a": b"sealed"},
)
SHARES = SumAnswer(shares={"a": b"share"}, signature=b"signed")
SEALED = SumAnswer(commitments=b"c", boxes={"a": b"sealed"})


def vector(bits: int, length: int) -> Words:
    """Draw masked words, which are uniform."""
    drawn = numpy.random.default_rng(0).integers(0, 2**bits - 1, length, numpy.uint64)
    return drawn.astype(f"uint{bits}")


def code_of(parts: Iterator[pb.ReplyPart] | list[pb.ReplyPart], limits: WireLimits = WIRE) -> str:
    with pytest.raises(ProtocolError) as caught:
        read_reply(iter(parts), limits)
    return caught.value.code


# --- the same bytes as before where there is no masked sum, and these where there is


ARRAY = encode({"w": torch.tensor([1.0])})
GOLDEN: dict[str, tuple[Request | Reply, bytes]] = {
    "a request": (
        Request(plan="{}", server_round=3, arrays=ARRAY, splits=["test"], ledger_head="1:ab"),
        b'\n"\n\x02{}\x10\x03\x1a\x04test"\x041:ab*\x0e\n\t\n\x01w\x12\x01\x01\x18\x84\x01\x10\x84'
        b"\x01",
    ),
    "a reply": (
        Reply(institution="ward", num_examples=5, refusal="x", arrays=ARRAY),
        b"\n\x1b\n\x04ward\x12\x01x \x05:\x0e\n\t\n\x01w\x12\x01\x01\x18\x84\x01\x10\x84\x01",
    ),
    "words": (
        Reply(institution="ward", num_examples=5, arrays=encode_words(vector(64, 1))),
        b'\n%\n\x04ward \x05:\x1b\n\x16\n\x06masked\x12\x01\x01\x18\x88\x01"\x06uint64\x10\x88\x01',
    ),
    "a question": (
        Request(plan="{}", sum=SumQuestion(cohort=(), threshold=2)),
        b'\n`\n\x02{}2Z{"cohort":[],"threshold":2,"question":"","length":0,"survivors":[],"boxes"'
        b':{},"before":[]}',
    ),
    "an answer": (
        Reply(institution="ward", advert="key", sum=SumAnswer()),
        b'\nE\n\x04wardB\x03keyJ8{"commitments":"","boxes":{},"shares":{},"signature":""}',
    ),
}


@pytest.mark.parametrize("case", GOLDEN)
def test_headers_have_these_bytes(case: str) -> None:
    said, expected = GOLDEN[case]
    parts = request_parts(said) if isinstance(said, Request) else reply_parts(said)
    assert next(parts).SerializeToString(deterministic=True) == expected


# --- what goes in comes out


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("length", [0, 1, 300_000])
def test_masked_words_come_out_as_they_went_in(bits: int, length: int) -> None:
    words = vector(bits, length)
    reply = Reply(institution="ward", arrays=encode_words(words), advert="key", sum=SEALED)
    parts = list(reply_parts(reply))
    assert [len(part.chunk.data) for part in parts[1:-1]] == [CHUNK_BYTES] * (len(parts) - 2)
    out = read_reply(iter(parts), WIRE)
    assert out == reply
    assert out.arrays is not None
    read = decode_words(out.arrays, bits=bits, length=length)
    assert read.dtype == words.dtype
    assert numpy.array_equal(read, words)


def test_a_question_comes_out_as_it_went_in() -> None:
    request = Request(plan="{}", server_round=2, splits=[], arrays=ARRAY, sum=ASKED)
    assert read_request(request_parts(request), WIRE) == request


# --- limits


def longest() -> SumAnswer:
    """Return an answer whose text may not have one character more."""
    short = SumAnswer(boxes={"x": b""})
    spare = LONGEST_SUM_TEXT - len(short.to_text())
    full = SumAnswer(boxes={"x" * (1 + spare % 4): bytes(spare // 4 * 3)})
    assert len(full.to_text()) == LONGEST_SUM_TEXT
    return full


def test_the_longest_texts_fit_one_message() -> None:
    reply = Reply(institution="ward", advert="x" * LONGEST_ADVERT, sum=longest())
    assert read_reply(reply_parts(reply), WIRE) == reply
    boxes = {name: value[:-300] for name, value in longest().boxes.items()}
    request = Request(
        plan="x" * LONGEST_PLAN, splits=[], sum=SumQuestion(cohort=(), threshold=2, boxes=boxes)
    )
    assert request.sum is not None
    assert LONGEST_SUM_TEXT - 400 < len(request.sum.to_text()) <= LONGEST_SUM_TEXT
    assert next(request_parts(request)).ByteSize() < MESSAGE_BYTES
    assert read_request(request_parts(request), WIRE) == request


def test_a_longer_text_about_a_sum_is_not_written_and_not_read() -> None:
    more = SumAnswer(boxes={f"{name}x": value for name, value in longest().boxes.items()})
    with pytest.raises(ProtocolError) as caught:
        reply_parts(Reply(institution="ward", sum=more))
    assert caught.value.code == "too_large"
    assert code_of([pb.ReplyPart(header=pb.ReplyHeader(sum=more.to_text()))]) == "too_large"
    with pytest.raises(ProtocolError) as caught:
        request_parts(Request(plan="", sum=SumQuestion(cohort=(), threshold=2, boxes=more.boxes)))
    assert caught.value.code == "too_large"
    header = pb.RequestPart(header=pb.RequestHeader(sum=more.to_text()))
    with pytest.raises(ProtocolError) as caught:
        read_request(iter([header]), WIRE)
    assert caught.value.code == "too_large"


def test_a_longer_advert_is_not_read() -> None:
    header = pb.ReplyHeader(advert="x" * (LONGEST_ADVERT + 1))
    assert code_of([pb.ReplyPart(header=header)]) == "invalid_message"


def test_an_advert_that_is_no_text_is_not_written() -> None:
    with pytest.raises(ProtocolError, match="as text"):
        reply_parts(Reply(institution="ward", advert="\ud800"))


def test_words_count_by_their_own_size() -> None:
    parts = list(reply_parts(Reply(institution="ward", arrays=encode_words(vector(64, 1000)))))
    exact = 128 + 8 * 1000
    assert read_reply(iter(parts), WireLimits(max_bytes=exact)).arrays is not None
    assert code_of(parts[:1], WireLimits(max_bytes=exact - 1)) == "too_large"


# --- dtypes


@pytest.mark.parametrize(
    "dtype",
    ["int64", "uint8", "uint16", "float16", "float64", "object", "<u8", "UINT64", " uint64"],
)
def test_another_dtype_is_refused_by_the_header_alone(dtype: str) -> None:
    def parts() -> Iterator[pb.ReplyPart]:
        yield header
        pytest.fail("A chunk was read.")

    header = next(reply_parts(Reply(institution="ward", arrays=encode_words(vector(64, 3)))))
    header.header.arrays.tensors[0].dtype = dtype
    assert code_of(parts()) == "tensor_dtype"


@pytest.mark.parametrize("dtype", ["int64", "float64", "object", ""])
def test_another_dtype_is_not_written(dtype: str) -> None:
    array = Array(dtype, (3,), "numpy.ndarray", bytes(152))
    with pytest.raises(ProtocolError) as caught:
        reply_parts(Reply(institution="ward", arrays=ArrayRecord({"masked": array})))
    assert caught.value.code == "tensor_dtype"


def lied_about(words: Words, dtype: str) -> list[pb.ReplyPart]:
    parts = list(reply_parts(Reply(institution="ward", arrays=encode_words(words))))
    parts[0].header.arrays.tensors[0].dtype = dtype
    return parts


@pytest.mark.parametrize(("bits", "dtype"), [(64, ""), (64, "uint32"), (32, "uint64")])
def test_many_words_of_another_size_than_announced_are_refused_by_the_header(
    bits: int, dtype: str
) -> None:
    assert code_of(lied_about(vector(bits, 1000), dtype)[:1]) == "tensor_shape"


@pytest.mark.parametrize(("bits", "dtype"), [(64, ""), (64, "uint32"), (32, "uint64"), (32, "")])
def test_few_words_under_another_name_are_refused_when_they_are_decoded(
    bits: int, dtype: str
) -> None:
    arrays = read_reply(iter(lied_about(vector(bits, 3), dtype)), WIRE).arrays
    assert arrays is not None
    for expected in (32, 64):
        with pytest.raises(ProtocolError):
            decode_words(arrays, bits=expected, length=3)
    with pytest.raises(ProtocolError):
        decode(arrays, {MASKED: (3,)}, max_value=1e9)


# --- whatever is sent, nothing but a refusal comes of it


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_header_with_anything_about_a_sum_is_read_or_refused(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from([ASKED.to_text(), SEALED.to_text()]) | st.text())
    at, until = sorted(data.draw(st.integers(0, len(text))) for _ in range(2))
    spoilt = text[:at] + data.draw(st.text(max_size=4)) + text[until:]
    dtype = data.draw(st.sampled_from(["", "uint32", "uint64", "float64"]) | st.text(max_size=5))
    words = encode_words(vector(64, 3))
    [asked, *chunks] = request_parts(Request(plan="{}", arrays=words))
    [told, *answers] = reply_parts(Reply(institution="ward", arrays=words))
    for header in (asked.header, told.header):
        header.sum, header.arrays.tensors[0].dtype = spoilt, dtype
    codes = set()
    for read in (
        lambda: read_request(iter([asked, *chunks]), WIRE),
        lambda: read_reply(iter([told, *answers]), WIRE),
    ):
        try:
            read()
        except ProtocolError as error:
            codes.add(error.code)
    assert codes <= {"invalid_message", "tensor_dtype", "tensor_shape"}


# --- through a socket


@dataclass
class Masking:
    """An institution that answers with masked words and with shares."""

    bits: int
    name: str = "ward"
    asked: list[tuple[RequestKind, Request]] = field(default_factory=list)

    def handle(self, kind: RequestKind, request: Request) -> Reply:
        self.asked.append((kind, request))
        told: dict[str, Any] = {
            "query": {"advert": "a key, signed"},
            "train": {"arrays": encode_words(vector(self.bits, 300_000)), "sum": SEALED},
            "unmask": {"sum": SHARES},
        }[kind]
        return Reply(institution=self.name, num_examples=40, **told)


@pytest.mark.parametrize("bits", [32, 64])
def test_a_masked_sum_passes_through_the_service(bits: int, folder: Path) -> None:
    ward = Masking(bits)
    kinds: tuple[RequestKind, ...] = ("query", "train", "unmask")
    asked = [(kind, replace(QUESTION, sum=None if kind == "query" else ASKED)) for kind in kinds]
    expected = [Masking(bits).handle(*question) for question in asked]
    with Connected(ward, folder) as there:
        assert [there.stub.handle(*question) for question in asked] == expected
    assert ward.asked == asked


def test_status_says_that_a_sum_is_opened(folder: Path) -> None:
    told: list[Any] = []
    door = Door(lambda: told.append(there.stub.status()) or Reply(institution="ward"))
    with Connected(door, folder) as there:
        assert there.stub.handle("unmask", replace(QUESTION, sum=ASKED)).refusal is None
    assert door.asked == ["unmask"]
    assert (told[0].what, told[0].job) == ("unmask", "socket")


def announced(**fields: Any) -> pb.RequestPart:
    return pb.RequestPart(header=pb.RequestHeader(plan=QUESTION.plan, **fields))


WORD = pb.Signature(name="a", shape=[2], num_bytes=144, dtype="uint16")
HOSTILE = {
    "no question": (announced(sum="{"), "invalid_message"),
    "another's question": (announced(sum=SEALED.to_text()), "invalid_message"),
    "a long question": (announced(sum="x" * (LONGEST_SUM_TEXT + 1)), "too_large"),
    "a dtype": (
        announced(arrays=pb.Signatures(tensors=[WORD], num_bytes=144)),
        "tensor_dtype",
    ),
}


@pytest.mark.parametrize("method", ["Train", "Unmask"])
@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_question_never_reaches_the_door(case: str, method: str, folder: Path) -> None:
    part, code = HOSTILE[case]
    door = Door(lambda: Reply(institution="ward"))
    with Connected(door, folder, LIMITS) as there:
        [answer] = there.raw(iter([part]), method)
        assert (answer.header.institution, answer.header.refusal) == ("ward", code)
        assert not door.asked
