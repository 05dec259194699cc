import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord
from torch import Tensor

from confide.errors import ProtocolError
from confide.protocol import tensors as module
from confide.protocol.tensors import (
    Decoder,
    Shapes,
    Tensors,
    check_values,
    decode,
    encode,
    flatten,
    num_bytes,
    shapes_of,
    unflatten,
)
from confide.storage.tensor_files import sha256

SHAPES: Shapes = {"w": (2, 3), "b": ()}
GOOD: Tensors = {"w": torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, -6.0]]), "b": torch.tensor(-0.5)}
ODD: dict[str, Tensor] = {
    "0-d": torch.tensor(3.5),
    "one value": torch.tensor([3.5]),
    "transposed": torch.arange(6.0).view(2, 3).t(),
    "offset": torch.arange(8.0)[3:],
    "subnormal and negative zero": torch.tensor([1e-45, -0.0, 3.4e38]),
    "4-d": torch.arange(24.0).view(2, 3, 2, 2),
}

NOT_CONTIGUOUS: dict[str, Tensor] = {
    "transposed": ODD["transposed"],
    "strided": torch.arange(8.0)[::2],
    "expanded": torch.tensor([7.0]).expand(4),
}


def record_with(name: str, array: Array | None) -> ArrayRecord:
    record = encode(GOOD)
    del record[name]
    if array is not None:
        record[name] = array
    return record


def changed(name: str, value: Tensor) -> ArrayRecord:
    return encode({**GOOD, name: value})


def with_bytes(change: Callable[[bytes], bytes]) -> ArrayRecord:
    array = encode(GOOD)["w"]
    return record_with("w", Array(array.dtype, array.shape, array.stype, change(array.data)))


REFUSED: dict[str, tuple[ArrayRecord, str, str]] = {
    "nan": (
        changed("w", torch.full((2, 3), math.nan)),
        "tensor_values",
        "Tensor w holds a value that is not finite",
    ),
    "infinity": (
        changed("b", torch.tensor(math.inf)),
        "tensor_values",
        "Tensor b holds a value that is not finite",
    ),
    "-infinity": (
        changed("b", torch.tensor(-math.inf)),
        "tensor_values",
        "Tensor b holds a value that is not finite",
    ),
    "huge": (
        changed("b", torch.tensor(10.5)),
        "tensor_values",
        r"Tensor b holds a value of size 10.5 > 10",
    ),
    "huge, negative": (
        changed("b", torch.tensor(-10.5)),
        "tensor_values",
        r"Tensor b holds a value of size 10.5 > 10",
    ),
    "missing": (record_with("b", None), "tensor_names", "missing b, unexpected none"),
    "unexpected": (
        encode({**GOOD, "x": torch.ones(1)}),
        "tensor_names",
        "missing none, unexpected x",
    ),
    "another name": (
        encode({"w": GOOD["w"], "c": GOOD["b"]}),
        "tensor_names",
        "missing b, unexpected c",
    ),
    "empty": (ArrayRecord(), "tensor_names", "missing b, w, unexpected none"),
    "transposed": (
        changed("w", GOOD["w"].t()),
        "tensor_shape",
        r"24 bytes of shape \[2, 3\], got \[3, 2\]",
    ),
    "flattened": (changed("w", GOOD["w"].reshape(6)), "tensor_shape", r"shape \[2, 3\], got \[6\]"),
    "float64": (
        record_with("w", Array(GOOD["w"].double().numpy())),
        "tensor_dtype",
        "expected float32, got float64",
    ),
    "int64": (
        record_with("b", Array(np.asarray(1))),
        "tensor_dtype",
        "Tensor b: expected float32, got int64",
    ),
    "fortran order": (
        record_with("w", Array(np.asfortranarray(GOOD["w"].numpy()))),
        "tensor_shape",
        "Tensor w",
    ),
    "truncated": (
        with_bytes(lambda data: data[:-1]),
        "tensor_shape",
        "Tensor w: expected 24 bytes",
    ),
    "trailing": (
        with_bytes(lambda data: data + b"\0"),
        "tensor_shape",
        "Tensor w: expected 24 bytes",
    ),
    "no bytes": (with_bytes(lambda data: b""), "tensor_shape", "Tensor w: expected 24 bytes"),
    "no npy": (
        with_bytes(lambda data: b"\0" * len(data)),
        "tensor_shape",
        "Tensor w: expected 24 bytes",
    ),
    "pickle": (
        record_with("w", Array("float32", (2, 3), "pickle", encode(GOOD)["w"].data)),
        "tensor_dtype",
        r"\(pickle\)",
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_encoded_is_decoded_bit_for_bit(name: str) -> None:
    tensor = ODD[name]
    decoded = decode(encode({"x": tensor}), {"x": tuple(tensor.shape)}, max_value=math.inf).tensors[
        "x"
    ]
    assert decoded.shape == tensor.shape
    assert decoded.dtype == torch.float32
    assert decoded.contiguous().numpy().tobytes() == tensor.contiguous().numpy().tobytes()


@pytest.mark.parametrize("name", ["strided", "expanded"])
def test_vector_that_is_not_contiguous_is_encoded(name: str) -> None:
    tensor = NOT_CONTIGUOUS[name]
    decoded = decode(encode({"x": tensor}), {"x": tuple(tensor.shape)}, max_value=10.0).tensors["x"]
    assert decoded.tolist() == tensor.tolist()


def test_empty_tensor_is_encoded_and_decoded() -> None:
    tensors = {"x": torch.empty(0, 3), "y": torch.ones(2)}
    decoded = decode(encode(tensors), shapes_of(tensors), max_value=1.0).tensors
    assert decoded["x"].shape == (0, 3)
    assert decoded["y"].tolist() == [1.0, 1.0]


def test_decoded_tensors_come_in_the_order_expected() -> None:
    decoded = decode(encode({"b": GOOD["b"], "w": GOOD["w"]}), SHAPES, max_value=10.0).tensors
    assert list(decoded) == ["w", "b"]
    assert torch.equal(decoded["w"], GOOD["w"])
    assert torch.equal(decoded["b"], GOOD["b"])


def test_decoded_tensors_have_memory_of_their_own() -> None:
    record = encode(GOOD)
    decode(record, SHAPES, max_value=10.0).tensors["w"].zero_()
    assert torch.equal(decode(record, SHAPES, max_value=10.0).tensors["w"], GOOD["w"])


def test_encoded_record_does_not_follow_the_tensor() -> None:
    tensor = torch.ones(2)
    record = encode({"x": tensor})
    tensor.zero_()
    assert decode(record, {"x": (2,)}, max_value=1.0).tensors["x"].tolist() == [1.0, 1.0]


def test_parameters_with_gradients_are_encoded() -> None:
    record = encode({"x": torch.nn.Parameter(torch.ones(2))})
    assert decode(record, {"x": (2,)}, max_value=1.0).tensors["x"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("name", ODD)
def test_flower_itself_reads_the_record(name: str) -> None:
    tensor = ODD[name]
    record = encode({"x": tensor})
    assert np.array_equal(record.to_numpy_ndarrays()[0], tensor.numpy())
    assert torch.equal(record.to_torch_state_dict()["x"], tensor)


def test_record_of_flowers_own_making_is_decoded() -> None:
    record = ArrayRecord({name: Array(value.numpy()) for name, value in GOOD.items()})
    decoded = decode(record, SHAPES, max_value=10.0).tensors
    assert all(torch.equal(decoded[name], GOOD[name]) for name in GOOD)


@pytest.mark.parametrize("name", REFUSED)
def test_record_that_does_not_fit_is_refused(name: str) -> None:
    record, code, words = REFUSED[name]
    with pytest.raises(ProtocolError, match=words) as caught:
        decode(record, SHAPES, max_value=10.0)
    assert caught.value.code == code


def test_value_at_the_bound_is_accepted() -> None:
    record = changed("b", torch.tensor(-10.0))
    assert decode(record, SHAPES, max_value=10.0).tensors["b"].item() == -10.0


def test_refusal_names_only_the_first_few_tensors() -> None:
    record = encode({f"x{n}": torch.ones(1) for n in range(7)})
    with pytest.raises(ProtocolError, match=r"unexpected x0, x1, x2, x3, x4 and 2 more"):
        decode(record, {}, max_value=1.0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_without_a_bound_values_that_are_not_finite_are_still_refused(value: float) -> None:
    with pytest.raises(ProtocolError, match="not finite"):
        decode(changed("b", torch.tensor(value)), SHAPES, max_value=math.inf)


def test_check_values_names_the_tensor_and_lets_the_rest_pass() -> None:
    check_values(GOOD, max_value=6.0)
    with pytest.raises(ProtocolError, match=r"Tensor w holds a value of size 6 > 5\.5"):
        check_values(GOOD, max_value=5.5)


def test_sha256_does_not_depend_on_order_or_layout() -> None:
    w = GOOD["w"]
    assert sha256({"b": GOOD["b"], "w": w.t().contiguous().t()}) == sha256(GOOD)


@pytest.mark.parametrize("place", range(6))
def test_sha256_changes_with_one_bit(place: int) -> None:
    values = GOOD["w"].clone().view(-1)
    values.view(torch.int32)[place] ^= 1
    assert sha256({**GOOD, "w": values.view(2, 3)}) != sha256(GOOD)


def test_sha256_changes_with_name_shape_and_dtype() -> None:
    others = [
        {"w": GOOD["w"], "c": GOOD["b"]},
        {"w": GOOD["b"], "b": GOOD["w"]},
        {**GOOD, "w": GOOD["w"].view(3, 2)},
        {**GOOD, "w": GOOD["w"].view(torch.int32)},
        {"w": GOOD["w"]},
    ]
    assert len({sha256(tensors) for tensors in [GOOD, *others]}) == 6


def test_shapes_and_bytes_are_those_of_the_values() -> None:
    assert shapes_of(GOOD) == SHAPES
    assert num_bytes(GOOD) == 28


def test_flatten_joins_in_the_order_of_names() -> None:
    assert flatten(GOOD, ["b", "w"]).tolist() == [-0.5, 1.0, 2.0, 3.0, 4.0, 5.0, -6.0]
    assert flatten(GOOD, ["w", "b"]).tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, -6.0, -0.5]


def test_unflatten_undoes_flatten() -> None:
    tensors = unflatten(flatten(GOOD, SHAPES), SHAPES)
    assert shapes_of(tensors) == SHAPES
    assert all(torch.equal(tensors[name], GOOD[name]) for name in GOOD)


def test_flatten_of_decoded_tensors_copies_nothing() -> None:
    decoded = decode(encode(GOOD), SHAPES, max_value=10.0).tensors
    flat = flatten(decoded, SHAPES)
    assert flat.data_ptr() == decoded["w"].data_ptr()
    assert flat.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, -6.0, -0.5]


@pytest.mark.parametrize("order", [["b", "w"], ["w"], ["b"]])
def test_flatten_of_decoded_tensors_in_another_order_joins_by_name(order: list[str]) -> None:
    decoded = decode(encode(GOOD), SHAPES, max_value=10.0).tensors
    assert flatten(decoded, order).tolist() == flatten(GOOD, order).tolist()


@pytest.mark.parametrize("name", NOT_CONTIGUOUS)
def test_flatten_of_a_tensor_that_is_not_contiguous_keeps_its_values(name: str) -> None:
    tensor = NOT_CONTIGUOUS[name]
    assert flatten({"x": tensor}, ["x"]).tolist() == tensor.reshape(-1).tolist()


def test_flatten_of_nothing_is_empty() -> None:
    assert flatten({}, []).tolist() == []


def test_other_dtypes_are_not_encoded() -> None:
    with pytest.raises(TypeError, match=r"Expected float32 tensors; got torch\.float64"):
        encode({"w": torch.zeros(2, dtype=torch.float64)})


# --- one value with tensors and digest


def test_digest_is_that_of_the_tensors_it_came_with() -> None:
    """Whether noise is replayed hangs on it: another record decoded meanwhile changes nothing."""
    first = decode(encode(GOOD), SHAPES, max_value=10.0)
    decode(encode({**GOOD, "b": GOOD["b"] + 1}), SHAPES, max_value=10.0)
    assert first.digest == sha256(GOOD)


def test_digest_is_computed_once_and_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    monkeypatch.setattr(module, "sha256", lambda tensors: calls.append(tensors) or "digest")
    decoded = decode(encode(GOOD), SHAPES, max_value=10.0)
    assert not calls
    assert (decoded.digest, decoded.digest, len(calls)) == ("digest", "digest", 1)


def test_decoder_decodes_the_same_record_once() -> None:
    decoder, record = Decoder(SHAPES), encode(GOOD)
    assert decoder.decode(record) is decoder.decode(record)


def test_decoder_keeps_records_apart() -> None:
    decoder = Decoder(SHAPES)
    one, two = encode(GOOD), encode({**GOOD, "b": GOOD["b"] + 1})
    digests = [decoder.decode(record).digest for record in (one, two, one)]
    assert digests[0] == digests[2] == sha256(GOOD)
    assert digests[1] != digests[0]


def test_record_refused_once_is_refused_again() -> None:
    decoder, wrong = Decoder(SHAPES), encode({**GOOD, "extra": torch.zeros(1)})
    for _ in range(2):
        with pytest.raises(ProtocolError, match="unexpected extra"):
            decoder.decode(wrong)
