"""Small contents travel in one record, large ones as they are, and nobody is misled."""

from collections.abc import Iterator

import numpy
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from confide.flower.messages import raised, task_identity
from confide.flower.packing import LARGEST_BYTES, packed, unpacked


@pytest.fixture(autouse=True)
def _identity() -> Iterator[None]:
    with task_identity():
        yield


def contents(num_values: int = 3) -> RecordDict:
    arrays = {
        "weight": Array(numpy.arange(num_values, dtype=numpy.float32)),
        "bias": Array(numpy.array([float("nan"), -0.0])),
        "none": Array(numpy.zeros((0, 2), dtype=numpy.int64)),
    }
    return RecordDict(
        {
            "arrays": ArrayRecord(arrays),
            "config": ConfigRecord({"plan": "{}", "round": 2**40, "list": [1.5], "bytes": b"\0"}),
            "metrics": MetricRecord({"loss": 0.25, "steps": [1, 2]}),
        }
    )


def message(content: RecordDict) -> Message:
    return Message(content, 7, "query.unmask", ttl=9.0, group_id="4")


def test_small_contents_have_three_parts_and_come_back_bit_for_bit() -> None:
    sent = message(contents())
    travels = packed(sent)
    assert len(get_all_nested_objects(sent)) > 8
    assert len(get_all_nested_objects(travels)) == 3
    assert travels.metadata is sent.metadata
    read = unpacked(travels)
    assert read.content == sent.content
    assert read.content.object_id == sent.content.object_id
    assert read.metadata is sent.metadata
    assert sent.content == contents(), "the message that was given is left as it is"


def test_the_same_contents_are_the_same_part() -> None:
    one, two = packed(message(contents())), packed(message(contents()))
    assert one.content.object_id == two.content.object_id


def test_large_contents_and_errors_are_left() -> None:
    for sent in (message(contents(LARGEST_BYTES // 4 + 1)), raised(message(contents()))):
        assert packed(sent) is sent
        assert unpacked(sent) is sent
    text = message(RecordDict({"config": ConfigRecord({"plan": "x" * (LARGEST_BYTES + 1)})}))
    assert packed(text) is text


@pytest.mark.parametrize(
    "content",
    [
        RecordDict({"packed": ConfigRecord({"packed": b"\xff not a message"})}),
        RecordDict({"packed": ConfigRecord({"packed": b"\x0a\x03\x0a\x01a"})}),
        RecordDict({"packed": ConfigRecord({"packed": "text"})}),
        RecordDict({"packed": ConfigRecord({"other": b""})}),
        RecordDict({"packed": MetricRecord({"packed": 1})}),
        RecordDict({"packed": ConfigRecord({"packed": bytes(LARGEST_BYTES + 1)})}),
        RecordDict({"packed": ConfigRecord({"packed": b""}), "more": ConfigRecord()}),
        RecordDict(),
    ],
)
def test_what_cannot_be_unpacked_is_left_to_whoever_reads_it(content: RecordDict) -> None:
    came = message(content)
    assert unpacked(came) is came
