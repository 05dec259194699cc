"""Requests of the Open Inference Protocol, read; answers, written."""

import contextlib
import json
from typing import Any

import numpy
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.serving.datatypes import BYTES, DATATYPES, Values, binary_values, json_values
from confide.serving.identity import Identity
from confide.serving.protocol import Told, metadata, read_request, write_answer
from confide.serving.refusal import RefusedError
from confide.serving.signature import Column, Signature
from confide.serving.strict_json import read_json

SIGNATURE = Signature(
    inputs=[Column("age", "FP64"), Column("note", BYTES)],
    made=[],
    outputs=[Column("prediction", BYTES), Column("probability_ill", "FP32")],
    files=frozenset(),
    is_costly=False,
)
IDENTITY = Identity(name="m", model_sha256="ab" * 32, parameters={"run": "r"})
FRAME = pandas.DataFrame({"prediction": ["ill", "é"], "probability_ill": numpy.float32([0.7, 0.1])})
_PARTS = ("inputs", "outputs", "parameters", "id", "name", "shape", "datatype", "data")
_WORDS = ("age", "note", "FP64", BYTES, "binary_data_size", "binary_data_output", "timeout")
KEYS = st.sampled_from([*_PARTS, *_WORDS])
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


def tensor(name: str, datatype: str, values: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [len(values)], "data": values}


def read(asked: Any, data: bytes = b"") -> Any:
    text = json.dumps(asked).encode()
    length = str(len(text)) if data else None
    return read_request(text + data, length, SIGNATURE, most_records=9)


def read_or_refused(asked: Any, data: bytes) -> Any:
    """Return a request, or None where it was refused with a reason; nothing else is raised."""
    text = json.dumps(asked).encode()
    with contextlib.suppress(RefusedError):
        return read_request(text + data, str(len(text)), SIGNATURE, most_records=9)
    return None


@given(st.binary(max_size=60), st.none() | st.text(max_size=4))
def test_no_bytes_do_anything_but_get_refused(body: bytes, length: str | None) -> None:
    with pytest.raises(RefusedError):
        read_request(body, length, SIGNATURE, most_records=9)


@given(ANY_JSON, st.binary(max_size=20))
def test_no_json_does_anything_but_get_read_or_refused(asked: Any, data: bytes) -> None:
    found = read_or_refused(asked, data)
    assert found is None or set(found.columns) == {"age", "note"}


TENSORS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["age", "note", "x"]),
        "datatype": st.sampled_from([*DATATYPES, "FP8"]),
        "shape": st.lists(st.integers(-1, 3), max_size=3),
        "data": ANY_JSON,
        "parameters": st.dictionaries(KEYS, st.integers(-1, 30), max_size=2),
    },
)


@given(st.lists(TENSORS, max_size=3), st.binary(max_size=40))
def test_no_tensors_do_anything_but_get_read_or_refused(inputs: list[Any], data: bytes) -> None:
    found = read_or_refused({"inputs": inputs}, data)
    assert found is None or len(found.columns["age"]) == len(found.columns["note"])


@given(st.lists(st.floats(width=32) | st.none(), min_size=1))
def test_floats_arrive_the_same_as_json_and_as_bytes(values: list[float | None]) -> None:
    finite = [None if v is None or not numpy.isfinite(v) else v for v in values]
    column = Values("age", "FP32")
    written = binary_values(finite, "FP32")
    assert column.from_binary(written, len(finite), are_texts=True) == column.from_json(finite)
    assert json_values(finite, "FP32") == json.loads(json.dumps(json_values(finite, "FP32")))


@given(st.lists(st.text(), min_size=1))
def test_texts_arrive_the_same_as_json_and_as_bytes(values: list[str]) -> None:
    column = Values("note", BYTES)
    written = binary_values(values, BYTES)
    assert column.from_binary(written, len(values), are_texts=True) == values
    assert column.from_json(values) == values


def test_numbers_are_the_text_that_a_file_would_hold() -> None:
    asked = {
        "inputs": [tensor("age", "FP64", [30.0, 0.1, None]), tensor("note", "INT8", [1, 2, 3])]
    }
    assert read(asked).columns == {"age": ["30", "0.1", None], "note": ["1", "2", "3"]}
    short = read({"inputs": [tensor("age", "FP32", [0.1]), tensor("note", "BOOL", [True])]})
    assert short.columns == {"age": ["0.1"], "note": ["true"]}


def test_values_may_stand_in_rows_of_one() -> None:
    asked = {"inputs": [tensor("age", "FP64", [[1], [2]]), tensor("note", BYTES, ["a", "b"])]}
    asked["inputs"][0]["shape"] = [2, 1]
    assert read(asked).columns["age"] == ["1", "2"]


def test_binary_data_belongs_to_inputs_in_their_order() -> None:
    parts = [binary_values([1.5], "FP64"), binary_values(["é"], BYTES)]
    inputs = [
        {"name": name, "datatype": kind, "shape": [1], "parameters": {"binary_data_size": len(it)}}
        for (name, kind), it in zip([("age", "FP64"), ("note", BYTES)], parts, strict=True)
    ]
    assert read({"inputs": inputs}, b"".join(parts)).columns == {"age": ["1.5"], "note": ["é"]}


BOTH = [tensor("age", "FP64", [1, 2]), tensor("note", BYTES, ["a", "b"])]


def test_an_answer_has_what_was_asked_for() -> None:
    asked = read({"inputs": BOTH, "id": "7", "outputs": [{"name": "probability_ill"}]})
    body, length = write_answer(Told(FRAME), asked, SIGNATURE, IDENTITY)
    answer = json.loads(body)
    assert length is None
    assert (answer["id"], answer["model_version"]) == ("7", "abababababab")
    assert answer["parameters"] == {"run": "r"}
    assert answer["outputs"] == [tensor("probability_ill", "FP32", [0.7, 0.1])]


def test_an_answer_in_bytes_says_where_its_json_ends() -> None:
    asked = read({"inputs": BOTH, "parameters": {"binary_data_output": True}})
    body, length = write_answer(Told(FRAME), asked, SIGNATURE, IDENTITY)
    assert length is not None
    sizes = [one["parameters"]["binary_data_size"] for one in json.loads(body[:length])["outputs"]]
    assert body[length:][: sizes[0]] == b"\x03\0\0\0ill\x02\0\0\0\xc3\xa9"
    assert (
        numpy.frombuffer(body[length + sizes[0] :], "<f4").tolist()
        == FRAME["probability_ill"].tolist()
    )


def test_the_time_that_a_sender_waits_is_in_microseconds() -> None:
    assert read({"inputs": BOTH, "parameters": {"timeout": 1500}}).timeout_s == 0.0015
    assert read({"inputs": BOTH, "parameters": {"timeout": 0}}).timeout_s is None


def test_metadata_lists_every_column() -> None:
    told = metadata(SIGNATURE, IDENTITY)
    assert told["versions"] == ["abababababab"]
    assert told["inputs"] == [
        {"name": "age", "datatype": "FP64", "shape": [-1]},
        {"name": "note", "datatype": BYTES, "shape": [-1]},
    ]


@given(ANY_JSON.filter(lambda value: "NaN" not in json.dumps(value)))
def test_sound_json_is_read_as_it_is(value: Any) -> None:
    text = json.dumps(value)
    if "Infinity" not in text and "\\ud" not in text:
        assert read_json(text.encode()) == json.loads(text)
