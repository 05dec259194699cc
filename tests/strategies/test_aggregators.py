import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from confide.errors import ProtocolError, RunFailedError
from confide.protocol.tensors import Shapes
from confide.strategies.aggregators import ExactSum, FixedPointMean, WeightedMean
from confide.strategies.strategy import Bounds, ClientUpdate

SHAPES: Shapes = {"bias": (), "weight": (2,)}
MANY: Shapes = {"weight": (1000,)}
BOUNDS = Bounds(max_value=1024.0, max_total_weight=100)


def update(client: str, num_examples: int, bias: float, weight: list[float]) -> ClientUpdate:
    tensors = {"bias": torch.tensor(bias), "weight": torch.tensor(weight)}
    return ClientUpdate(client=client, tensors=tensors, num_examples=num_examples)


def random_updates(count: int) -> list[ClientUpdate]:
    generator = torch.Generator().manual_seed(7)
    return [
        ClientUpdate(
            client=f"bank-{n}",
            tensors={"weight": torch.randn(1000, generator=generator)},
            num_examples=n,
        )
        for n in range(1, count + 1)
    ]


def bits(updates: list[ClientUpdate] | tuple[ClientUpdate, ...]) -> torch.Tensor:
    mean = FixedPointMean(shapes=MANY, bounds=BOUNDS)
    for one in updates:
        mean.add(one)
    return mean.mean()["weight"]


def test_mean_is_weighted_by_number_of_examples() -> None:
    mean = WeightedMean().start(SHAPES, BOUNDS)
    mean.add(update("a", 1, 1.0, [1.0, -2.0]))
    mean.add(update("b", 3, 5.0, [5.0, 2.0]))
    result = mean.mean()
    assert result["bias"].shape == ()
    assert result["bias"].item() == 4.0
    assert result["weight"].tolist() == [4.0, 1.0]
    assert result["weight"].dtype == torch.float32


def test_uniform_weighting_ignores_number_of_examples() -> None:
    mean = WeightedMean(weighting="uniform").start(
        SHAPES, Bounds(max_value=1024.0, max_total_weight=2)
    )
    mean.add(update("a", 1, 1.0, [1.0, -2.0]))
    mean.add(update("b", 3, 5.0, [5.0, 2.0]))
    assert mean.mean()["weight"].tolist() == [3.0, 0.0]
    assert mean.mean()["bias"].item() == 3.0


@pytest.mark.parametrize(("weighting", "expected"), [("num_examples", 42), ("uniform", 3)])
def test_total_weight_follows_the_weighting(weighting: str, expected: int) -> None:
    assert WeightedMean(weighting=weighting).total_weight([30, 10, 2]) == expected


def test_tensors_are_joined_by_name_and_not_by_position() -> None:
    mean = FixedPointMean(shapes=SHAPES, bounds=BOUNDS)
    swapped = {"weight": torch.tensor([1.0, 2.0]), "bias": torch.tensor(3.0)}
    mean.add(ClientUpdate(client="a", tensors=swapped, num_examples=1))
    assert mean.mean()["bias"].item() == 3.0
    assert mean.mean()["weight"].tolist() == [1.0, 2.0]


def test_every_order_of_arrival_gives_the_same_bits() -> None:
    updates = random_updates(4)
    expected = bits(updates)
    for order in itertools.permutations(updates):
        assert torch.equal(bits(order), expected)


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_merged_partial_sums_give_the_same_bits(cut: int) -> None:
    updates = random_updates(4)
    parts = [FixedPointMean(shapes=MANY, bounds=BOUNDS) for _ in range(2)]
    for number, one in enumerate(updates):
        parts[number >= cut].add(one)
    parts[1].merge(parts[0].total, parts[0].total_weight)
    assert parts[1].total_weight == 10
    assert torch.equal(parts[1].mean()["weight"], bits(updates))


@pytest.mark.parametrize("weighting", ["num_examples", "uniform"])
def test_rows_at_once_give_the_same_bits(weighting: str) -> None:
    values = torch.randn(5, 40_000, generator=torch.Generator().manual_seed(0))
    bounds = Bounds(max_value=16.0, max_total_weight=400)
    one, other = (
        FixedPointMean(shapes={"x": (40_000,)}, bounds=bounds, weighting=weighting)
        for _ in range(2)
    )
    counts = [3, 100, 7, 1, 50]
    for number, (row, count) in enumerate(zip(values, counts, strict=True)):
        one.add(ClientUpdate(client=str(number), tensors={"x": row}, num_examples=count))
    other.add_rows(values[:2], counts[:2])
    other.add_rows(values[2:], counts[2:])
    assert other.total.equal(one.total)
    assert other.total_weight == one.total_weight


def test_rows_that_weigh_more_than_declared_are_refused() -> None:
    mean = FixedPointMean(shapes={"x": (1,)}, bounds=Bounds(max_value=1.0, max_total_weight=5))
    with pytest.raises(ProtocolError, match="A group of 2 brings a weight of 6"):
        mean.add_rows(torch.ones(2, 1), [3, 3])
    assert mean.total_weight == 0


def test_more_values_than_one_block_are_all_summed() -> None:
    values = torch.arange(100_000, dtype=torch.float32) / 128
    mean = FixedPointMean(shapes={"weight": (100_000,)}, bounds=BOUNDS)
    mean.add(ClientUpdate(client="a", tensors={"weight": values}, num_examples=3))
    assert torch.equal(mean.mean()["weight"], values)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 1000), st.floats(-1024, 1024, width=32)), min_size=1, max_size=8
    )
)
def test_mean_is_as_close_to_float64_as_float32_can_be(clients: list[tuple[int, float]]) -> None:
    total = sum(weight for weight, _ in clients)
    mean = FixedPointMean(
        shapes={"x": (1,)}, bounds=Bounds(max_value=1024.0, max_total_weight=8000)
    )
    for weight, value in clients:
        mean.add(
            ClientUpdate(client="a", tensors={"x": torch.tensor([value])}, num_examples=weight)
        )
    reference = sum(weight * value for weight, value in clients) / total
    assert mean.mean()["x"].item() == pytest.approx(reference, rel=2**-23, abs=1e-9)


@pytest.mark.parametrize(
    ("max_value", "max_weight"), [(1024.0, 8192), (1024.0, 10_000), (2.0**20, 2**20), (1e-6, 2)]
)
@pytest.mark.parametrize("sign", [-1, 1])
def test_nothing_overflows_at_the_bounds(max_value: float, max_weight: int, sign: int) -> None:
    largest = torch.tensor([sign * max_value])
    mean = FixedPointMean(
        shapes={"x": (1,)}, bounds=Bounds(max_value=max_value, max_total_weight=max_weight)
    )
    for client in ("a", "b"):
        mean.add(ClientUpdate(client=client, tensors={"x": largest}, num_examples=max_weight // 2))
    assert torch.equal(mean.mean()["x"], largest)


@pytest.mark.parametrize(
    ("max_value", "max_weight"), [(1024.0, 8192), (1000.0, 10_000), (2.0**20, 2**20)]
)
def test_scale_is_the_largest_that_fits(max_value: float, max_weight: int) -> None:
    mean = FixedPointMean(
        shapes=SHAPES, bounds=Bounds(max_value=max_value, max_total_weight=max_weight)
    )
    largest_sum = max_value * max_weight * 2.0**mean.scale_bits
    assert 2.0**61 < largest_sum <= 2.0**62


def test_values_are_rounded_to_the_nearest_unit() -> None:
    mean = FixedPointMean(
        shapes={"x": (2,)}, bounds=Bounds(max_value=2.0**20, max_total_weight=2**42)
    )  # one unit is 1
    mean.add(ClientUpdate(client="a", tensors={"x": torch.tensor([1.75, -1.75])}, num_examples=1))
    assert mean.mean()["x"].tolist() == [2.0, -2.0]


def test_more_weight_than_declared_is_refused_and_nothing_is_added() -> None:
    mean = FixedPointMean(shapes=SHAPES, bounds=Bounds(max_value=1024.0, max_total_weight=5))
    mean.add(update("a", 3, 1.0, [1.0, 1.0]))
    with pytest.raises(
        ProtocolError, match=r"bank-2 brings a weight of 3, more than the cohort declared"
    ) as caught:
        mean.add(update("bank-2", 3, 9.0, [9.0, 9.0]))
    assert caught.value.code == "num_examples"
    mean.add(update("c", 2, 1.0, [1.0, 1.0]))
    assert mean.mean()["weight"].tolist() == [1.0, 1.0]


def test_mean_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one update"):
        FixedPointMean(shapes=SHAPES, bounds=BOUNDS).mean()


# Partial sums


def partial(weighting: str, bounds: Bounds, *updates: ClientUpdate) -> FixedPointMean:
    mean = WeightedMean(weighting=weighting).start(SHAPES, bounds)
    assert isinstance(mean, FixedPointMean)
    for one in updates:
        mean.add(one)
    return mean


@pytest.mark.parametrize("weighting", ["num_examples", "uniform"])
def test_mean_is_a_sum_and_says_so(weighting: str) -> None:
    assert WeightedMean(weighting=weighting).additive
    updates = [
        update("a", 1, 1.5, [1.0, -2.0]),
        update("b", 3, 5.0, [5.0, 2.0]),
        update("c", 2, 0.1, [0.3, 0.7]),
    ]
    whole, total = partial(weighting, BOUNDS, *updates), partial(weighting, BOUNDS)
    for one in updates:
        part = partial(weighting, BOUNDS, one)
        total.merge(part.total, part.total_weight)
    assert total.total.equal(whole.total)
    assert total.total_weight == whole.total_weight == (6 if weighting == "num_examples" else 3)


def test_empty_partial_sum_changes_nothing() -> None:
    mean, empty = (
        partial("num_examples", BOUNDS, update("a", 1, 1.0, [1.0, 2.0])),
        partial("num_examples", BOUNDS),
    )
    mean.merge(empty.total, empty.total_weight)
    assert mean.mean()["weight"].tolist() == [1.0, 2.0]


def test_merging_leaves_the_part_as_it_is() -> None:
    mean, part = (
        partial("num_examples", BOUNDS),
        partial("num_examples", BOUNDS, update("a", 1, 1.0, [1.0, 2.0])),
    )
    before = part.total.clone()
    for _ in range(2):
        mean.merge(part.total, part.total_weight)
    assert part.total.equal(before)
    assert mean.total.equal(2 * before)


@pytest.mark.parametrize("weighting", ["num_examples", "uniform"])
def test_partial_sum_above_the_bound_is_refused_and_nothing_is_added(weighting: str) -> None:
    bounds = Bounds(max_value=1024.0, max_total_weight=2)
    mean = partial(weighting, bounds, update("a", 1, 1.0, [1.0, 1.0]))
    part = partial(weighting, bounds, update("b", 1, 9.0, [9.0, 9.0]))
    with pytest.raises(
        ProtocolError, match=r"A partial sum brings a weight of 2, more than the cohort declared"
    ) as caught:
        mean.merge(2 * part.total, 2)
    assert caught.value.code == "num_examples"
    assert (mean.total_weight, mean.mean()["weight"].tolist()) == (1, [1.0, 1.0])
    mean.merge(part.total, 1)  # exactly at the bound
    assert mean.mean()["weight"].tolist() == [5.0, 5.0]


# Exact sums


@given(
    st.lists(st.tuples(st.integers(-(2**24), 2**24), st.integers(1, 10**6)), min_size=1, max_size=9)
)
@settings(max_examples=50, deadline=None)
def test_exact_sums_lose_nothing_whatever_an_institution_weighs(
    sent: list[tuple[int, int]],
) -> None:
    bounds = Bounds(max_value=1024.0, max_total_weight=ExactSum().total_weight([9] * len(sent)))
    total = ExactSum().start({"sum": ()}, bounds)
    for number, (value, weight) in enumerate(sent):
        tensors = {"sum": torch.tensor(value / 2**24)}
        total.add(ClientUpdate(client=str(number), tensors=tensors, num_examples=weight))
    found = total.mean()["sum"]
    assert found.dtype == torch.float64
    assert float(found) * 2**24 == sum(value for value, _ in sent)


def test_sums_that_int64_cannot_hold_exactly_are_refused_before_the_round() -> None:
    ExactSum().start({"sum": ()}, Bounds(max_value=2.0**20, max_total_weight=2**18))
    with pytest.raises(RunFailedError, match=r"lower server.max_update_value to 1"):
        ExactSum().start({"sum": ()}, Bounds(max_value=2.0**20, max_total_weight=2**18 + 1))
