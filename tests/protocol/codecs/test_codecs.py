"""Codecs by hand, their laws, and what a hostile sender may not make of them."""

import math
import resource

import numpy as np
import pytest
import torch

from confide.config.strategies.codecs import (
    CODECS,
    Bf16Config,
    CodecConfig,
    Int8Config,
    LowRankConfig,
    TopKConfig,
)
from confide.errors import ProtocolError
from confide.protocol.codecs.travel import CODED, PLAIN, Sent, Travel, travel_of
from confide.protocol.tensors import Tensors, encode, flatten, shapes_of

KEY = bytes(range(32))
CODING = [Bf16Config(), Int8Config(), TopKConfig(), LowRankConfig()]
ALL = [CodecConfig(), *CODING]
UPDATE: Tensors = {
    "w": torch.randn((40, 30), generator=torch.Generator().manual_seed(0)),
    "b": torch.randn(7, generator=torch.Generator().manual_seed(1)),
}
SHAPES = shapes_of(UPDATE)


def write(
    config: CodecConfig, tensors: Tensors, *, key: bytes = KEY, state: Tensors | None = None
) -> Sent:
    travel = travel_of(config)
    before = travel.first_state(shapes_of(tensors)) if state is None else state
    return travel.write(tensors, state=before, key=key)


def told(config: CodecConfig, *values: float) -> list[float]:
    return write(config, {"w": torch.tensor(values)}).told["w"].tolist()


def data_of(sent: Sent) -> np.ndarray:
    return sent.arrays[CODED].numpy().view(np.uint8).copy()


def read(config: CodecConfig, data: np.ndarray, tensors: Tensors = UPDATE) -> Tensors:
    arrays = encode({CODED: torch.from_numpy(data.view(np.float32))})
    return travel_of(config).decode(arrays, shapes_of(tensors), max_value=1e6).tensors


def distance(one: Tensors, other: Tensors) -> float:
    names = sorted(one)
    return float((flatten(one, names) - flatten(other, names)).norm())


# By hand


def test_bf16_by_hand() -> None:
    # Eight bits of mantissa: 1 + 2^-8 lies between 1 and 1 + 2^-7, and ties go to even
    assert told(Bf16Config(), 1.0, 1 + 2**-8, 1 + 3 * 2**-8, -0.15625) == [
        1.0,
        1.0,
        1 + 2**-6,
        -0.15625,
    ]


def test_int8_by_hand() -> None:
    # The largest size is 127 units of 1: whole numbers of units are told exactly
    assert told(Int8Config(), 127.0, -3.0, 0.0, 1.0) == [127.0, -3.0, 0.0, 1.0]
    # Of 1024 numbers, which are a block, others lie between two units
    values = told(Int8Config(), 127.0, *[2.25] * 2000)
    assert set(values[1:1024]) == {2.0, 3.0}
    assert values[1:1024].count(3.0) == pytest.approx(1023 / 4, abs=5 * math.sqrt(1023 * 3) / 4)
    # Those of the next block have a unit of their own, of which they are 127
    assert values[1024:] == pytest.approx([2.25] * 977)


def test_top_k_by_hand() -> None:
    config = TopKConfig(fraction=0.4)  # two of five
    first = write(config, {"w": torch.tensor([1.0, -5.0, 2.0, 0.5, -2.0])})
    assert first.told["w"].tolist() == [0.0, -5.0, 2.0, 0.0, 0.0]  # of 2 and -2, the first
    assert first.state["error"].tolist() == [1.0, 0.0, 0.0, 0.5, -2.0]
    second = write(config, {"w": torch.tensor([1.0, 0.0, 0.0, 0.0, -1.0])}, state=first.state)
    assert second.told["w"].tolist() == [2.0, 0.0, 0.0, 0.0, -3.0]
    assert second.state["error"].tolist() == [0.0, 0.0, 0.0, 0.5, 0.0]


def test_low_rank_tells_a_matrix_of_its_rank_exactly() -> None:
    left, right = torch.tensor([[1.0], [2.0], [-1.0]]), torch.tensor([[3.0, 0.0, 4.0, 1.0]])
    sent = write(LowRankConfig(rank=1), {"w": left @ right})
    torch.testing.assert_close(sent.told["w"], left @ right)
    # P = M Q / |M Q| is the column's direction, (1, 2, -1) / sqrt(6), and Q = M^T P
    numbers = data_of(sent).view(np.float32)
    assert abs(numbers[:3]) == pytest.approx(np.array([1, 2, 1]) / math.sqrt(6), abs=1e-6)
    assert abs(numbers[3:]) == pytest.approx(np.array([3, 0, 4, 1]) * math.sqrt(6), abs=1e-5)


def test_low_rank_nears_the_best_product_from_message_to_message() -> None:
    """Power iteration goes on where the last message ended: Vogels et al., section 4.2."""
    matrix = UPDATE["w"]
    u, s, v = torch.linalg.svd(matrix)
    best = float((matrix - (u[:, :2] * s[:2]) @ v[:2]).norm())
    sent = write(LowRankConfig(), {"w": matrix})
    missed = [float((sent.told["w"] - matrix).norm())]
    for _ in range(60):
        state = {**sent.state, "error": torch.zeros_like(sent.state["error"])}
        sent = write(LowRankConfig(), {"w": matrix}, state=state)
        missed.append(float((sent.told["w"] - matrix).norm()))
    assert missed[0] > 1.05 * best
    assert missed[-1] == pytest.approx(best, rel=1e-3)


# Laws


def test_no_codec_is_what_travelled_before() -> None:
    sent = write(CodecConfig(), UPDATE)
    assert sent.arrays is UPDATE
    assert travel_of(CodecConfig()) == PLAIN
    assert PLAIN.num_bytes(SHAPES) == 4 * 1207


def test_a_rank_that_makes_nothing_smaller_leaves_all_as_it_is() -> None:
    sent = write(LowRankConfig(rank=18), UPDATE)  # 18 (40 + 30) > 40 * 30
    assert all(sent.told[name].equal(UPDATE[name]) for name in UPDATE)
    assert not sent.state["error"].any()


@pytest.mark.parametrize("config", ALL, ids=lambda it: it.kind)
def test_both_sides_read_the_same_and_know_its_size(config: CodecConfig) -> None:
    sent, travel = write(config, UPDATE), travel_of(config)
    record = encode(sent.arrays)
    found = travel.decode(record, SHAPES, max_value=100.0).tensors
    assert list(found) == list(SHAPES)
    assert all(found[name].equal(sent.told[name]) for name in UPDATE)
    # What a record holds beside its values is one header of npy an array
    payload = sum(len(array.data) - 128 for array in record.values())
    assert payload == travel.num_bytes(SHAPES)


@pytest.mark.parametrize(
    ("config", "share"),
    [(CODING[0], 0.501), (CODING[1], 0.255), (CODING[2], 0.105), (CODING[3], 0.125)],
    ids=lambda it: getattr(it, "kind", None),
)
def test_a_message_is_as_small_as_promised(config: CodecConfig, share: float) -> None:
    assert travel_of(config).num_bytes(SHAPES) <= share * PLAIN.num_bytes(SHAPES)


@pytest.mark.parametrize("config", CODING, ids=lambda it: it.kind)
def test_the_order_of_tensors_does_not_matter(config: CodecConfig) -> None:
    turned = dict(reversed(UPDATE.items()))
    assert (
        write(config, turned).arrays[CODED].numpy().tobytes()
        == data_of(write(config, UPDATE)).tobytes()
    )


@pytest.mark.parametrize("config", CODING, ids=lambda it: it.kind)
def test_the_same_question_has_the_same_bytes(config: CodecConfig) -> None:
    assert (data_of(write(config, UPDATE)) == data_of(write(config, UPDATE))).all()


def test_random_rounding_follows_its_key_and_has_no_bias() -> None:
    values = {"w": torch.linspace(-1, 1, 1000)}
    drawn = [write(Int8Config(), values, key=bytes([n]) * 32).told["w"] for n in range(200)]
    assert not drawn[0].equal(drawn[1])
    unit = 1 / 127
    # A number's error is at most a unit wide, with standard deviation at most a half
    assert float((drawn[0] - values["w"]).abs().max()) <= unit * (1 + 1e-5)
    mean = torch.stack(drawn).mean(dim=0)
    assert float((mean - values["w"]).abs().max()) < 5 * 0.5 * unit / math.sqrt(200)
    nearest = (values["w"] / unit).round() * unit
    assert float((mean - nearest).abs().max()) > 0.3 * unit


@pytest.mark.parametrize("config", CODING[2:], ids=lambda it: it.kind)
def test_what_is_left_out_goes_with_later_messages(config: CodecConfig) -> None:
    """All that was told and what is left are all that there was."""
    state, total = None, {name: torch.zeros_like(value) for name, value in UPDATE.items()}
    for _ in range(50):
        sent = write(config, UPDATE, state=state)
        state = sent.state
        total = {name: total[name] + sent.told[name] for name in total}
    left = dict(zip(sorted(SHAPES), state["error"].split([7, 1200]), strict=True))
    for name, value in UPDATE.items():
        torch.testing.assert_close(
            total[name].flatten() + left[name], 50 * value.flatten(), rtol=1e-4, atol=1e-3
        )
    once = write(config, UPDATE).told
    mean = {name: value / 50 for name, value in total.items()}
    assert distance(mean, UPDATE) < 0.5 * distance(once, UPDATE)


@pytest.mark.parametrize("config", CODING, ids=lambda it: it.kind)
def test_zeros_stay_zeros(config: CodecConfig) -> None:
    zeros = {name: torch.zeros_like(value) for name, value in UPDATE.items()}
    sent = write(config, zeros)
    assert not any(value.any() for value in sent.told.values())
    again = write(config, UPDATE, state=sent.state).told  # nothing is stuck at zero
    assert again["w"].any()


# Strangers


@pytest.mark.parametrize("config", CODING, ids=lambda it: it.kind)
def test_another_length_is_refused_before_it_is_read(config: CodecConfig) -> None:
    data = data_of(write(config, UPDATE))
    for wrong in (data[:-4], np.concatenate([data, data[:4]]), data[:0]):
        with pytest.raises(ProtocolError, match=r"expected .* bytes") as refused:
            read(config, wrong)
        assert refused.value.code == "tensor_shape"


@pytest.mark.parametrize("config", CODING, ids=lambda it: it.kind)
def test_tensors_in_place_of_words_are_refused(config: CodecConfig) -> None:
    with pytest.raises(ProtocolError, match="missing coded/words"):
        travel_of(config).decode(encode(UPDATE), SHAPES, max_value=100.0)
    with pytest.raises(ProtocolError, match="unexpected coded/words"):
        PLAIN.decode(encode(write(config, UPDATE).arrays), SHAPES, max_value=100.0)


@pytest.mark.parametrize("config", CODING, ids=lambda it: it.kind)
@pytest.mark.parametrize("byte", [0x7F, 0xFF])
def test_bytes_that_are_no_numbers_are_refused(config: CodecConfig, byte: int) -> None:
    data = data_of(write(config, UPDATE))
    data[: travel_of(config).codec.num_bytes(SHAPES)] = byte  # type: ignore[union-attr]
    with pytest.raises(ProtocolError) as refused:
        read(config, data)
    assert refused.value.code == "tensor_values"


@pytest.mark.parametrize("config", CODING, ids=lambda it: it.kind)
def test_values_beyond_the_bound_are_refused(config: CodecConfig) -> None:
    large = {name: 1e5 * value for name, value in UPDATE.items()}
    record = encode(write(config, large).arrays)
    with pytest.raises(ProtocolError, match=r"a value of size .* > 1000"):
        travel_of(config).decode(record, SHAPES, max_value=1000.0)


@pytest.mark.parametrize(
    ("places", "why"),
    [
        ([3, 3], "twice"),
        ([4, 1], "falling"),
        ([1, 5], "beyond the end"),
        ([1, 2**32 - 1], "far beyond the end"),
    ],
)
def test_places_that_do_not_rise_within_the_model_are_refused(places: list[int], why: str) -> None:
    five = {"w": torch.zeros(5)}
    data = np.concatenate(
        [np.array(places, dtype="<u4").view(np.uint8), np.ones(2, dtype="<f4").view(np.uint8)]
    )
    with pytest.raises(ProtocolError, match="places that do not rise below 5"):
        read(TopKConfig(fraction=0.4), data, five)


@pytest.mark.parametrize(
    ("unit", "level", "message"),
    [(-1.0, 1, "a unit that is no number"), (math.inf, 0, "a unit that"), (1.0, -128, "a level")],
)
def test_levels_and_units_that_nobody_writes_are_refused(
    unit: float, level: int, message: str
) -> None:
    four = {"w": torch.zeros(4)}
    levels = np.array([level, 0, 0, 0], dtype=np.int8).view(np.uint8)
    data = np.concatenate([np.array([unit], dtype="<f4").view(np.uint8), levels])
    with pytest.raises(ProtocolError, match=message):
        read(Int8Config(), data, four)


def test_bytes_behind_the_end_are_refused() -> None:
    three = {"w": torch.ones(3)}
    data = data_of(write(Int8Config(), three))
    data[-1] = 1
    with pytest.raises(ProtocolError, match="something behind its end"):
        read(Int8Config(), data, three)


@pytest.mark.parametrize("config", CODING, ids=lambda it: it.kind)
def test_a_tiny_message_makes_nothing_large(config: CodecConfig) -> None:
    """What is read is as large as the model, which the receiver knows before anything comes."""
    large = {"w": (30_000, 10_000)}  # 1.2 GB as float32
    record = encode({CODED: torch.zeros(2)})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ProtocolError, match="expected"):
        travel_of(config).decode(record, large, max_value=1.0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_the_table_says_what_codecs_keep() -> None:
    for kind, line in CODECS.items():
        travel = travel_of(line.schema())
        assert bool(travel.first_state(SHAPES)) == line.remembers, kind
        assert isinstance(travel, Travel)
