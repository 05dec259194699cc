"""The Open Inference Protocol, version 2, over HTTP: requests read, answers written.

A tensor is a column of the records, of shape [n] or [n, 1]. Values are JSON's, or bytes behind the
JSON (the binary data extension, which clients made for Triton use).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas

from confide.serving.answering import Columns
from confide.serving.datatypes import (
    BYTES,
    DATATYPES,
    Cells,
    Files,
    Values,
    binary_values,
    json_values,
)
from confide.serving.file_texts import decoded_files
from confide.serving.identity import Identity
from confide.serving.refusal import bad
from confide.serving.signature import Column, Signature
from confide.serving.strict_json import read_json

HEADER_LENGTH = "inference-header-content-length"
"""Header that says how many bytes of a body are JSON, where binary data follows."""
EXTENSIONS = ("binary_tensor_data",)
_LONGEST_ID = 200
_ONE_REQUEST = ("sequence_id", "sequence_start", "sequence_end")
_SHARED_MEMORY = "shared_memory_"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """An output that is asked for.

    Attributes:
        name: of the column.
        is_binary: whether its values travel as bytes.
    """

    name: str
    is_binary: bool


@dataclass(frozen=True, kw_only=True)
class InferRequest:
    """A request for predictions, read.

    Attributes:
        id: that the answer repeats; None: none was given.
        columns: by name, all of one length.
        outputs: what is asked for; None: every output.
        is_binary: how outputs travel where none are named.
        timeout_s: that the sender waits at most; None: as long as it takes.
    """

    id: str | None
    columns: Columns
    outputs: Sequence[Wanted] | None
    is_binary: bool
    timeout_s: float | None


class Told(NamedTuple):
    """What an answer tells.

    Attributes:
        frame: predictions, one row a record.
        warnings: sentences about values that may be wrong.
    """

    frame: pandas.DataFrame
    warnings: Sequence[str] = ()


def read_request(
    body: bytes, header_length: str | None, signature: Signature, *, most_records: int
) -> InferRequest:
    """Read a request.

    Args:
        body: of HTTP.
        header_length: value of :data:`HEADER_LENGTH`; None: all is JSON.
        signature: of the model.
        most_records: that a request may have.

    Raises:
        RefusedError: with what is wrong.
    """
    text, binary = _split(body, header_length)
    asked = _object(read_json(text), "The body")
    parameters = _parameters(asked, "parameters")
    for name in _ONE_REQUEST:
        if name in parameters:
            raise bad(f"parameters.{name}: each request stands for itself here; leave it out.")
    reader = _InputReader(signature, binary, most_records)
    columns = reader.read(_list(asked.get("inputs"), "inputs"))
    outputs = asked.get("outputs")
    is_binary = _flag(parameters, "binary_data_output", "parameters")
    return InferRequest(
        id=_id(asked.get("id")),
        columns=columns,
        outputs=None
        if outputs is None
        else _wanted(_list(outputs, "outputs"), signature, is_binary=is_binary),
        is_binary=is_binary,
        timeout_s=_timeout(parameters.get("timeout")),
    )


def _split(body: bytes, header_length: str | None) -> tuple[bytes, bytes]:
    if header_length is None:
        return body, b""
    if not (header_length.isascii() and header_length.isdigit() and len(header_length) < 12):
        raise bad("Inference-Header-Content-Length: expected a number of bytes.")
    length = int(header_length)
    if length > len(body):
        raise bad(
            f"Inference-Header-Content-Length={length}: the body has {len(body)} bytes alone."
        )
    return body[:length], body[length:]


class _InputReader:
    """Reads the inputs of one request.

    Args:
        signature: of the model.
        binary: data behind the JSON; each input takes its part, in their order.
        most_records: that a request may have.
    """

    def __init__(self, signature: Signature, binary: bytes, most_records: int) -> None:
        self._signature, self._binary, self._start = signature, binary, 0
        self._most_records = most_records

    def read(self, inputs: Sequence[Any]) -> Columns:
        """Read all inputs."""
        signature = self._signature
        known = [column.name for column in (*signature.inputs, *signature.made)]
        columns: Columns = {}
        for place, one in enumerate(inputs):
            tensor = _object(one, f"inputs[{place}]")
            name = tensor.get("name")
            if not isinstance(name, str) or name not in known:
                raise bad(
                    f"inputs[{place}].name: expected one of {', '.join(known)}, the columns that"
                    " the model was trained on."
                )
            if name in columns:
                raise bad(f"inputs.{name} stands there twice; leave one of them.")
            columns[name] = self._column(name, tensor, columns)
        expected = [column.name for column in signature.expected(columns)]
        if set(expected) != set(columns):
            raise bad(
                f"inputs: expected {', '.join(expected)}, got {', '.join(columns)} alone; a column"
                " that is missing in every record is one of nulls."
            )
        if self._start < len(self._binary):
            raise bad(
                f"{len(self._binary) - self._start} bytes of binary data belong to no input; each"
                " says its own by parameters.binary_data_size."
            )
        return columns

    def _column(self, name: str, tensor: Mapping[str, Any], before: Columns) -> Cells | Files:
        datatype = tensor.get("datatype")
        if not isinstance(datatype, str) or datatype not in DATATYPES:
            raise bad(f"inputs.{name}.datatype: expected one of {', '.join(DATATYPES)}.")
        is_file = name in self._signature.files
        if is_file and datatype != BYTES:
            raise bad(f"inputs.{name}.datatype: it takes the bytes of files, as BYTES.")
        count, is_column = self._count(name, tensor.get("shape"))
        first = next(iter(before), None)
        if first is not None and len(before[first]) != count:
            raise bad(
                f"inputs.{name}.shape: {count} records, where {first} has {len(before[first])};"
                " inputs have one value a record."
            )
        parameters = _parameters(tensor, f"inputs.{name}.parameters")
        if any(key.startswith(_SHARED_MEMORY) for key in parameters):
            raise bad(f"inputs.{name}: shared memory is not used here; send the values.")
        values = Values(name, datatype)
        if "binary_data_size" in parameters:
            if "data" in tensor:
                raise bad(f"inputs.{name}: values in data and as binary data; send one of them.")
            data = self._own(name, parameters["binary_data_size"])
            return values.from_binary(data, count, are_texts=not is_file)
        listed = _flat(name, tensor.get("data"), count, is_column=is_column)
        column = values.from_json(listed)
        return decoded_files(name, column) if is_file else column

    def _count(self, name: str, shape: Any) -> tuple[int, bool]:
        """Return the number of records, and whether the shape is [n, 1]."""
        expected = "expected [n] or [n, 1], n records"
        if not isinstance(shape, list) or not all(type(size) is int for size in shape):
            raise bad(f"inputs.{name}.shape: {expected}.")
        if len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] != 1):
            raise bad(f"inputs.{name}.shape: {expected}; each column is a tensor of its own.")
        if not 1 <= shape[0] <= self._most_records:
            raise bad(
                f"inputs.{name}.shape: {_number(shape[0])} records; a request has 1 to"
                f" {self._most_records} (--max-records)."
            )
        return shape[0], len(shape) == 2

    def _own(self, name: str, size: Any) -> bytes:
        left = len(self._binary) - self._start
        if type(size) is not int or not 0 <= size <= left:
            raise bad(
                f"inputs.{name}.parameters.binary_data_size: expected 0 to the {left} bytes that"
                " are left behind the JSON; Inference-Header-Content-Length says where it ends."
            )
        self._start += size
        return self._binary[self._start - size : self._start]


def _flat(name: str, data: Any, count: int, *, is_column: bool) -> list[Any]:
    """Return values that stand in a list, or each in a list of its own where the shape says so."""
    listed = _list(data, f"inputs.{name}.data")
    if is_column and all(isinstance(one, list) and len(one) == 1 for one in listed):
        listed = [one[0] for one in listed]
    if len(listed) != count:
        raise bad(f"inputs.{name}.data: {len(listed)} values, where shape says {count}.")
    return listed


def _wanted(outputs: Sequence[Any], signature: Signature, *, is_binary: bool) -> list[Wanted]:
    known = [column.name for column in signature.outputs]
    found: list[Wanted] = []
    for place, one in enumerate(outputs):
        output = _object(one, f"outputs[{place}]")
        name = output.get("name")
        if not isinstance(name, str) or name not in known:
            raise bad(f"outputs[{place}].name: expected one of {', '.join(known)}.")
        if any(other.name == name for other in found):
            raise bad(f"outputs.{name} stands there twice; leave one of them.")
        place_named = f"outputs.{name}.parameters"
        parameters = _parameters(output, place_named)
        if "classification" in parameters or any(
            key.startswith(_SHARED_MEMORY) for key in parameters
        ):
            raise bad(f"{place_named}: only binary_data is known here.")
        own = _flag(parameters, "binary_data", place_named, default=is_binary)
        found.append(Wanted(name=name, is_binary=own))
    return found


def write_answer(
    made: Told, asked: InferRequest, signature: Signature, identity: Identity
) -> tuple[bytes, int | None]:
    """Write an answer.

    Args:
        made: what it tells.
        asked: what was asked for.
        signature: of the model.
        identity: of the model.

    Returns:
        The body, and how many of its bytes are JSON; None where all are.
    """
    frame = made.frame
    types = {column.name: column for column in signature.outputs}
    wanted = asked.outputs
    if wanted is None:
        wanted = [
            Wanted(name=str(name), is_binary=asked.is_binary) for name in frame if name in types
        ]
    outputs, binary = [], []
    for one in wanted:
        if one.name not in frame:  # told of rows alone, and records came that were made already
            raise bad(f"outputs.{one.name}: these records say nothing of it; leave it out.")
        column, values = types[one.name], frame[one.name].tolist()
        told: dict[str, Any] = column.described() | {"shape": [len(values)]}
        if one.is_binary:
            binary.append(binary_values(values, column.datatype))
            told["parameters"] = {"binary_data_size": len(binary[-1])}
        else:
            told["data"] = json_values(values, column.datatype)
        outputs.append(told)
    # The protocol's parameters are texts, numbers and truth values: no lists
    warnings = {"warnings": " ".join(made.warnings)} if made.warnings else {}
    answer: dict[str, Any] = {
        "model_name": identity.name,
        "model_version": identity.version,
        **({} if asked.id is None else {"id": asked.id}),
        "parameters": {**identity.parameters, **warnings},
        "outputs": outputs,
    }
    text = json.dumps(answer, ensure_ascii=False, allow_nan=False).encode()
    if not binary:
        return text, None
    return b"".join([text, *binary]), len(text)


def metadata(signature: Signature, identity: Identity) -> dict[str, object]:
    """Describe a model."""

    def listed(columns: Sequence[Column]) -> list[dict[str, object]]:
        return [column.described() for column in columns]

    return {
        "name": identity.name,
        "versions": [identity.version],
        "platform": "confide",
        "inputs": listed(signature.inputs),
        "outputs": listed(signature.outputs),
        "parameters": dict(identity.parameters),
    }


# --- parts of requests


def _object(value: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise bad(f"{place}: expected a JSON object.")
    return value


def _list(value: Any, place: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise bad(f"{place}: expected a list with at least one entry.")
    return value


def _parameters(holder: Mapping[str, Any], place: str) -> Mapping[str, Any]:
    return _object(holder.get("parameters", {}), place)


def _flag(parameters: Mapping[str, Any], name: str, place: str, *, default: bool = False) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise bad(f"{place}.{name}: expected true or false.")
    return value


def _id(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > _LONGEST_ID:
        raise bad(f"id: expected a text of at most {_LONGEST_ID} characters.")
    return value


def _timeout(value: Any) -> float | None:
    """Read microseconds, as Triton counts them; 0 says nothing."""
    if value is None or (type(value) is int and value == 0):
        return None
    if type(value) is not int or not 0 < value < 2**63:
        raise bad("parameters.timeout: expected microseconds, a positive integer.")
    return value / 1e6


def _number(value: int) -> str:
    return str(value) if abs(value) < 10**18 else "very many"


__all__ = [
    "EXTENSIONS",
    "HEADER_LENGTH",
    "InferRequest",
    "Told",
    "Wanted",
    "metadata",
    "read_request",
    "write_answer",
]
