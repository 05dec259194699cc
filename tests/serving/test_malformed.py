"""What is no request: each kind gets the reason, and the next one is answered."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from served_models import app_of, asked, infer, request
from small_models import save_table_run
from starlette.types import ASGIApp

from confide.serving.app import Served
from confide.serving.limits import Limits

INFER = "/v2/models/tabular-logistic/infer"
AGE: dict[str, Any] = {"name": "age", "datatype": "FP64", "shape": [1], "data": [30.0]}
PAIN: dict[str, Any] = {"name": "pain", "datatype": "BYTES", "shape": [1], "data": ["some"]}
LIMITS = Limits(body_mb=0.01, records=3)


def body(*inputs: Any, **more: Any) -> bytes:
    return json.dumps({"inputs": list(inputs), **more}).encode()


def age(**changed: Any) -> bytes:
    return body(AGE | changed, PAIN)


def pain(**changed: Any) -> bytes:
    return body(AGE, PAIN | changed)


def binary(size: int, data: bytes, datatype: str = "FP64") -> tuple[bytes, dict[str, str]]:
    one = {k: v for k, v in AGE.items() if k != "data"} | {"datatype": datatype}
    text = body(one | {"parameters": {"binary_data_size": size}}, PAIN)
    return text + data, {"inference-header-content-length": str(len(text))}


PLAIN = [
    ("an empty body", b"", "body is empty"),
    ("blanks", b"  \n", "body is empty"),
    ("no JSON", b"hello", "not JSON"),
    ("half of JSON", age()[:-5], "not JSON"),
    ("more than one value", age() + b"{}", "not JSON"),
    ("not UTF-8", b'{"inputs": "\xff"}', "not UTF-8: byte 13"),
    ("UTF-16", age().decode().encode("utf-16"), "not UTF-8"),
    ("a byte order mark", b"\xef\xbb\xbf" + age(), "byte order mark"),
    ("NaN", age().replace(b"30.0", b"NaN"), "NaN is no JSON; write null"),
    ("infinity", age().replace(b"30.0", b"-Infinity"), "Infinity is no JSON"),
    ("a number beyond float64", age().replace(b"30.0", b"1e999"), "expected FP64, a finite"),
    ("an integer of 4,000 digits", age().replace(b"30.0", b"9" * 4000), "expected FP64, a finite"),
    ("an integer of 5,000 digits", age().replace(b"30.0", b"9" * 5000), "not JSON as expected"),
    ("a key twice", b'{"id": "a", "id": "b"}', "'id' stands twice"),
    ("lists in lists", b"[" * 5000, "too deeply|not JSON"),
    ("half of a character", pain(data=["\ud800"]), "half of a character"),
    ("a list", b"[]", "expected a JSON object"),
    ("no inputs", b"{}", "inputs: expected a list"),
    ("an empty list of inputs", body(), "inputs: expected a list"),
    ("an input that is a number", body(3), r"inputs\[0\]: expected a JSON object"),
    ("an input without a name", body({}), r"inputs\[0\].name: expected one of age, pain"),
    ("an unknown input", body(AGE, PAIN | {"name": "x"}), r"inputs\[1\].name"),
    ("an input twice", body(AGE, AGE), "age stands there twice"),
    ("an input too few", body(AGE), "expected age, pain, got age alone"),
    ("no datatype", body({"name": "age"}), "age.datatype: expected one of BYTES"),
    ("an unknown datatype", age(datatype="FP8"), "age.datatype"),
    ("a datatype that is a list", age(datatype=[]), "age.datatype"),
    ("no shape", age(shape=None), "age.shape: expected"),
    ("a shape of truth values", age(shape=[True]), "age.shape: expected"),
    ("two columns in one", age(shape=[1, 2], data=[[1, 2]]), "tensor of its own"),
    ("no records", age(shape=[0], data=[]), "0 records; a request has 1 to 3"),
    ("fewer than none", age(shape=[-1]), "-1 records"),
    ("too many records", age(shape=[4], data=[1, 2, 3, 4]), "4 records; a request has 1 to 3"),
    ("a shape beyond counting", age(shape=[10**40]), "very many records"),
    ("another number of records", pain(shape=[2], data=["some", "none"]), "where age has 1"),
    ("fewer values than the shape", age(shape=[1], data=[1, 2]), "2 values, where shape says 1"),
    ("values that are no list", age(data="30"), "age.data: expected a list"),
    ("values in lists", age(data=[[30.0]]), "value 1 is a list"),
    ("a text among numbers", age(data=["30"]), "value 1 is a text, expected FP64"),
    ("a truth value among numbers", age(data=[True]), "value 1 is a truth value"),
    ("a number among texts", pain(data=[3]), "expected BYTES, a text"),
    ("an object as a value", pain(data=[{}]), "value 1 is an object"),
    ("a fraction among integers", age(datatype="INT64"), "expected INT64, an integer"),
    ("beyond the integers", age(datatype="UINT8", data=[256]), "an integer from 0 to 255"),
    ("an unknown category", pain(data=["sharp"]), "1 unknown category.*First in record 1"),
    ("a text where the schema has numbers", age(datatype="BYTES", data=["x"]), "are not numbers"),
    ("an unknown output", body(AGE, PAIN, outputs=[{"name": "x"}]), r"outputs\[0\].name"),
    ("no output", body(AGE, PAIN, outputs=[]), "outputs: expected a list"),
    ("an output twice", body(AGE, PAIN, outputs=[{"name": "prediction"}] * 2), "there twice"),
    (
        "a classification",
        body(AGE, PAIN, outputs=[{"name": "prediction", "parameters": {"classification": 1}}]),
        "only binary_data is known",
    ),
    ("shared memory", age(parameters={"shared_memory_region": "a"}), "shared memory"),
    ("an id that is a number", body(AGE, PAIN, id=3), "id: expected a text"),
    ("parameters that are a list", body(AGE, PAIN, parameters=[]), "parameters: expected a JSON"),
    ("a sequence", body(AGE, PAIN, parameters={"sequence_id": 1}), "sequence_id"),
    ("a time of nothing", body(AGE, PAIN, parameters={"timeout": -1}), "microseconds"),
    ("binary data beside values", age(parameters={"binary_data_size": 8}), "send one of them"),
]
BINARY = [
    ("more than there is", binary(9, b"12345678"), "the 8 bytes that are left"),
    ("less than there is", binary(8, b"123456789"), "1 bytes of binary data belong to no input"),
    ("half a number", binary(4, b"1234"), "1 values of FP64 have 8"),
    ("a text without its length", binary(2, b"12", "BYTES"), "end within value 1"),
    ("a text longer than all", binary(8, b"\xff\xff\xff\xff1234", "BYTES"), "end within value 1"),
    ("bytes behind a text", binary(6, b"\x01\0\0\0ab", "BYTES"), "1 bytes follow"),
    ("a text that is not UTF-8", binary(5, b"\x01\0\0\0\xff", "BYTES"), "not UTF-8"),
    ("a truth value of 2", binary(1, b"\x02", "BOOL"), "0 or 1"),
    ("a header beyond the body", (age(), {"inference-header-content-length": "9999"}), "alone"),
    ("a header of no number", (age(), {"inference-header-content-length": "-1"}), "a number of"),
]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ASGIApp, Served]]:
    with app_of(save_table_run(tmp_path_factory.mktemp("run")), LIMITS) as made:
        yield made


def check(one: tuple[ASGIApp, Served], answer: httpx.Response, status: int, reason: str) -> None:
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    with pytest.raises(ValueError, match=reason):
        raise ValueError(answer.json()["error"])
    (sound,) = asked(one[0], infer(one[1], {"age": [30.0], "pain": ["some"]}))
    assert sound.status_code == 200


@pytest.mark.parametrize(("kind", "content", "reason"), PLAIN, ids=[kind for kind, *_ in PLAIN])
def test_a_malformed_body_gets_the_reason(
    one: tuple[ASGIApp, Served], kind: str, content: bytes, reason: str
) -> None:
    headers = {"content-type": "application/json"}
    (answer,) = asked(one[0], request("POST", INFER, content=content, headers=headers))
    check(one, answer, 400, reason)


@pytest.mark.parametrize(("kind", "sent", "reason"), BINARY, ids=[kind for kind, *_ in BINARY])
def test_malformed_binary_data_gets_the_reason(
    one: tuple[ASGIApp, Served], kind: str, sent: tuple[bytes, dict[str, str]], reason: str
) -> None:
    content, headers = sent
    (answer,) = asked(one[0], request("POST", INFER, content=content, headers=headers))
    check(one, answer, 400, reason)


@pytest.mark.parametrize(
    ("headers", "content", "status", "reason"),
    [
        ({"content-type": "text/plain"}, age(), 415, "application/json"),
        ({"content-type": "application/json; charset=latin-1"}, age(), 415, "in UTF-8"),
        ({"content-encoding": "gzip"}, age(), 415, "not compressed"),
        ({}, b" " * 20_000, 413, "more than 0.01 MiB"),
        ({"host": "evil.example"}, age(), 400, "127.0.0.1, localhost"),
        ({"host": "["}, age(), 400, "127.0.0.1, localhost"),
        ({"origin": "https://evil.example"}, age(), 403, "Web pages may not ask"),
        ({"sec-fetch-site": "cross-site"}, age(), 403, "Web pages may not ask"),
    ],
)
def test_a_request_that_may_not_be_gets_the_reason(
    one: tuple[ASGIApp, Served], headers: dict[str, str], content: bytes, status: int, reason: str
) -> None:
    (answer,) = asked(one[0], request("POST", INFER, content=content, headers=headers))
    check(one, answer, status, reason)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", INFER, 405),
        ("POST", "/v2", 405),
        ("PUT", "/predict", 405),
        ("OPTIONS", INFER, 405),
        ("GET", "/v2/", 404),
        ("GET", "/v2/models/other", 404),
        ("POST", "/v2/models/other/infer", 404),
        ("GET", "/v2/models/tabular-logistic/versions/2", 404),
        ("GET", "/v2/models/..%2f..%2fetc", 404),
        ("GET", "/docs", 404),
    ],
)
def test_a_path_that_is_not_there_says_so(
    one: tuple[ASGIApp, Served], method: str, path: str, status: int
) -> None:
    (answer,) = asked(one[0], request(method, path))
    check(one, answer, status, "no such model|no such version|nothing at this|Not with this")


@pytest.mark.parametrize(
    ("kind", "content", "reason"),
    [
        ("json", b"{}", "a list of JSON objects"),
        ("json", b"[]", "a list of JSON objects"),
        ("json", b"[3]", "Record 1 is no JSON object"),
        ("json", b"[{}]", "no column of the model's; it takes age, pain"),
        ("json", b'[{"age": 1}]', "lack column pain"),
        ("json", b'[{"age": {}, "pain": "some"}]', "values of type dict"),
        ("json", b'[{"age": "x", "pain": "some"}]', "not numbers.*First in record 1"),
        ("json", b'[{"age": 1}, {}, {}, {}]', "at most 3 records"),
        ("csv", b"", "header line and at least one record"),
        ("csv", b"age,pain\n", "header line and at least one record"),
        ("csv", b"age,age\n1,2\n", "names a column twice"),
        ("csv", b"age,pain\n1\n", "Record 1 has 1 fields, expected the header's 2"),
        ("csv", b'age,pain\n1,"some\n', "Line 2 is not CSV"),
        ("csv", b"age,pain\n1,\xff\n", "not UTF-8"),
        ("csv", b"a,b\n1,2\n", "no column of the model's"),
        ("csv", b"age,pain\n" + b"1,some\n" * 4, "at most 3 records"),
    ],
)
def test_malformed_records_get_the_reason(
    one: tuple[ASGIApp, Served], kind: str, content: bytes, reason: str
) -> None:
    headers = {"content-type": {"json": "application/json", "csv": "text/csv"}[kind]}
    (answer,) = asked(one[0], request("POST", "/predict", content=content, headers=headers))
    check(one, answer, 400, reason)


def test_reasons_do_not_reach_the_log_or_the_metrics(
    one: tuple[ASGIApp, Served], caplog: pytest.LogCaptureFixture
) -> None:
    sent = infer(one[1], {"age": [30.0], "pain": ["a secret"]})
    answer, metrics = asked(one[0], sent, request("GET", "/metrics"))
    (metrics,) = asked(one[0], request("GET", "/metrics"))
    assert "a secret" in answer.json()["error"]
    assert "secret" not in caplog.text + metrics.text


def test_a_get_has_no_body(one: tuple[ASGIApp, Served]) -> None:
    (answer,) = asked(one[0], request("GET", "/v2", content=b"x"))
    check(one, answer, 400, "has no body here")
