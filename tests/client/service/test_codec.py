"""Header and chunks: what comes out is what went in, and whatever is not that is refused."""

import hashlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord

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
from confide.metrics.tally import ScoreTally
from confide.protocol.messages import Reply, Request

LIMITS = WireLimits()
SHAPES: dict[str, tuple[int, ...]] = {
    "scalar": (),
    "empty": (0, 3),
    "small": (3,),
    "large": (700, 1000),
    "last": (5, 1),
}


def make_arrays() -> ArrayRecord:
    chance = np.random.default_rng(0)
    return ArrayRecord(
        {
            name: Array(np.asarray(chance.normal(size=shape), dtype=np.float32))
            for name, shape in SHAPES.items()
        }
    )


ARRAYS = make_arrays()
REQUEST = Request(
    plan='{"ä": 1}',
    server_round=3,
    arrays=ARRAYS,
    splits=["validation", "test"],
    ledger_head="7:ab",
)
PARTS = list(request_parts(REQUEST))


def refusal(
    parts: Iterator[pb.RequestPart] | list[pb.RequestPart], limits: WireLimits = LIMITS
) -> str:
    with pytest.raises(ProtocolError) as caught:
        read_request(iter(parts), limits)
    return caught.value.code


def test_a_request_comes_out_as_it_went_in() -> None:
    assert read_request(iter(PARTS), LIMITS) == REQUEST
    assert read_request(request_parts(Request(plan="")), LIMITS) == Request(plan="", splits=[])


def test_chunks_are_full_but_for_the_last() -> None:
    sizes = [len(part.chunk.data) for part in PARTS[1:]]
    assert sizes[:-1] == [CHUNK_BYTES] * 2
    assert sum(sizes) == sum(len(array.data) for array in ARRAYS.values())


def test_a_reply_comes_out_as_it_went_in() -> None:
    reply = Reply(
        institution="ward",
        figures={"z": 0.1, "a": float("inf"), "count": 2},
        arrays=ARRAYS,
        num_examples=40,
        evaluations={"validation": {"loss": 0.25, "num_examples": 6}, "test": {"num_examples": 5}},
        ledger_head="8:cd",
        tallies={"validation": ScoreTally(sums={"b": [1.5, -2.0], "a": []}, std=0.5)},
    )
    out = read_reply(reply_parts(reply), LIMITS)
    assert out == reply
    assert list(out.figures) == ["z", "a", "count"]
    assert list(out.evaluations) == ["validation", "test"]
    assert [type(value) for value in out.evaluations["validation"].values()] == [float, int]


@pytest.mark.parametrize(
    ("tally", "reason"),
    [
        (ScoreTally(sums={"a": [math.nan]}, std=1.0), "finite sums"),
        (ScoreTally(sums={"a": [0.5]}), "sums without noise to be counts"),
        (ScoreTally(sums={"a": [0.0] * (2**17 + 1)}, std=1.0), "at most 131072 sums"),
        (ScoreTally(sums={"a" * 301: [0.0]}, std=1.0), "at most 300 characters"),
        (ScoreTally(sums={str(k): [] for k in range(1001)}, std=1.0), "at most 1000 statistics"),
    ],
)
def test_a_tally_that_is_none_is_refused(tally: ScoreTally, reason: str) -> None:
    reply = Reply(
        institution="ward", evaluations={"test": {"num_examples": 5}}, tallies={"test": tally}
    )
    with pytest.raises(ProtocolError, match=reason):
        read_reply(reply_parts(reply), LIMITS)


@pytest.mark.parametrize("code", [None, "", "deadline"])
def test_a_refusal_comes_out_as_it_went_in(code: str | None) -> None:
    reply = Reply(institution="ward", refusal=code)
    assert read_reply(reply_parts(reply), LIMITS) == reply


def test_too_many_bytes_are_refused_by_the_header_alone() -> None:
    def parts() -> Iterator[pb.RequestPart]:
        yield PARTS[0]
        pytest.fail("A chunk was read.")

    assert refusal(parts(), WireLimits(max_bytes=2**20)) == "too_large"


def test_too_many_tensors_are_refused_by_the_header_alone() -> None:
    signatures = pb.Signatures(
        tensors=[pb.Signature(name=str(n), num_bytes=128) for n in range(10**5)]
    )
    assert refusal([pb.RequestPart(header=pb.RequestHeader(arrays=signatures))]) == "tensor_names"


def test_the_most_tensors_allowed_fit_one_message() -> None:
    most = {
        f"{n:0300d}": np.zeros((1, 1, 1, 1), dtype=np.float32) for n in range(LIMITS.max_tensors)
    }
    request = Request(
        plan="x" * 2**20, arrays=ArrayRecord({name: Array(value) for name, value in most.items()})
    )
    assert next(request_parts(request)).ByteSize() < MESSAGE_BYTES


def change(**fields: Any) -> list[pb.RequestPart]:
    """Change fields of a tensor's signature, and of the sum."""
    header = pb.RequestPart()
    header.CopyFrom(PARTS[0])
    for name, value in fields.items():
        if name == "total":
            header.header.arrays.num_bytes = value
        elif name == "shape":
            header.header.arrays.tensors[2].shape[:] = value
        else:
            setattr(header.header.arrays.tensors[2], name, value)
    return [header, *PARTS[1:]]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"name": ""}, "tensor_names"),
        ({"name": "x" * 301}, "tensor_names"),
        ({"name": "large"}, "tensor_names"),
        ({"shape": [4000]}, "tensor_shape"),
        ({"shape": [-3]}, "tensor_shape"),
        ({"shape": [1] * 33}, "tensor_shape"),
        ({"shape": [2**62] * 32}, "tensor_shape"),
        ({"num_bytes": 12}, "tensor_shape"),
        ({"num_bytes": 2**60}, "tensor_shape"),
        ({"num_bytes": 141}, "invalid_message"),
        ({"total": 1}, "invalid_message"),
    ],
)
def test_a_header_that_lies_is_refused(fields: dict[str, Any], code: str) -> None:
    assert refusal(change(**fields)) == code


def chunk(offset: int, data: bytes) -> pb.RequestPart:
    return pb.RequestPart(chunk=pb.Chunk(offset=offset, data=data))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda parts: [],
        lambda parts: parts[1:],
        lambda parts: [parts[0], parts[0], *parts[1:]],
        lambda parts: parts[:-1],
        lambda parts: parts[:1],
        lambda parts: [parts[0], parts[2], parts[1], *parts[3:]],
        lambda parts: [*parts[:2], parts[1], *parts[2:]],
        lambda parts: [*parts, parts[-1]],
        lambda parts: [*parts, pb.RequestPart()],
        lambda parts: [*parts[:-1], chunk(parts[-1].chunk.offset, parts[-1].chunk.data[:-1])],
        lambda parts: [*parts[:-1], chunk(parts[-1].chunk.offset, parts[-1].chunk.data + b"x")],
        lambda parts: [
            parts[0],
            chunk(0, parts[1].chunk.data[:1]),
            chunk(1, parts[1].chunk.data[1:]),
            *parts[2:],
        ],
        lambda parts: [parts[0], pb.RequestPart(), *parts[1:]],
    ],
    ids=lambda value: None,
)
def test_chunks_that_are_not_what_was_announced_are_refused(spoil: Callable[[Any], Any]) -> None:
    assert refusal(spoil(PARTS)) == "invalid_message"


@pytest.mark.parametrize(
    "splits", [["test", "test"], ["all"], ["train", "validation", "test", "test"]]
)
def test_other_splits_are_refused(splits: list[str]) -> None:
    assert refusal(request_parts(Request(plan="", splits=splits))) == "invalid_message"


def test_long_texts_are_refused() -> None:
    assert refusal(request_parts(Request(plan="", ledger_head="x" * 301))) == "invalid_message"
    assert refusal(request_parts(Request(plan="x" * (2**20 + 1)))) == "too_large"


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (Request(plan="\ud800"), "invalid_message"),
        (Request(plan="", server_round=2**63), "invalid_message"),
        (Request(plan="x" * MESSAGE_BYTES), "too_large"),
        (Request(plan="", arrays=ArrayRecord({"a": Array(np.zeros(3))})), "tensor_dtype"),
        (
            Request(
                plan="", arrays=ArrayRecord({"a": Array("float32", (3,), "torch", b"x" * 140)})
            ),
            "tensor_dtype",
        ),
        (
            Request(
                plan="",
                arrays=ArrayRecord({"a": Array("float32", (3,), "numpy.ndarray", b"x" * 3)}),
            ),
            "tensor_shape",
        ),
    ],
    ids=["surrogate", "65 bits", "plan", "dtype", "stype", "bytes"],
)
def test_what_cannot_be_written_is_refused_before_anything_is_sent(
    request_: Request, code: str
) -> None:
    with pytest.raises(ProtocolError) as caught:
        request_parts(request_)
    assert caught.value.code == code


def test_a_reply_is_checked_like_a_request() -> None:
    number = pb.Number(name="a", real=1.0)
    for header in (
        pb.ReplyHeader(num_examples=-1),
        pb.ReplyHeader(institution="x" * 301),
        pb.ReplyHeader(figures=[number, number]),
        pb.ReplyHeader(figures=[pb.Number(name="a")]),
        pb.ReplyHeader(figures=[pb.Number(name=str(n), real=0.0) for n in range(1001)]),
        pb.ReplyHeader(evaluations=[pb.Evaluation(split="all")]),
    ):
        with pytest.raises(ProtocolError):
            read_reply(iter([pb.ReplyPart(header=header)]), LIMITS)


def test_the_generated_code_is_of_this_proto() -> None:
    folder = Path(pb.__file__).parent
    recorded = (folder / "trainer.proto.sha256").read_text().split()[0]
    assert hashlib.sha256((folder / "trainer.proto").read_bytes()).hexdigest() == recorded, (
        "run `make proto`"
    )
    assert pb.DESCRIPTOR.services_by_name["Trainer"].full_name == "confide.trainer.v1.Trainer"
