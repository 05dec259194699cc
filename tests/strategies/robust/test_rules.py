"""Robust rules against numbers worked out by hand, their papers' laws, and hostile updates."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from confide.config.strategies.aggregators import (
    AGGREGATORS,
    MIXINGS,
    ROBUST,
    BucketingConfig,
    NearestNeighboursConfig,
)
from confide.errors import ConfigError, RunFailedError
from confide.strategies.parts import build_part
from confide.strategies.robust.distances import squared_distances
from confide.strategies.robust.mixing import Bucketing, NearestNeighbours
from confide.strategies.robust.rule import RobustRule
from confide.strategies.strategy import Bounds, ClientUpdate, RoundStart

BOUNDS = Bounds(max_value=1e9, max_total_weight=1000)


def rule_of(kind: str, **settings: object) -> RobustRule:
    rule: RobustRule = build_part(AGGREGATORS[kind], AGGREGATORS[kind].schema(**settings))
    return rule


def column(*values: float) -> Tensor:
    return torch.tensor(values)[:, None]


def value_of(rule: RobustRule, updates: Tensor) -> list[float]:
    return [round(one, 5) for one in rule.reduce(updates).value.tolist()]


def aggregated(rule: RobustRule, updates: Sequence[Sequence[float]], **names: int) -> Tensor:
    shapes = {"w": (len(updates[0]),)}
    accumulator = rule.start(shapes, BOUNDS)
    for number, values in enumerate(updates):
        accumulator.add(
            ClientUpdate(
                client=f"bank-{names.get(str(number), number):03}",
                tensors={"w": torch.tensor(values)},
                num_examples=1,
            )
        )
    return accumulator.mean()["w"]


def test_median_is_the_middle_or_the_mean_of_two() -> None:
    assert value_of(rule_of("median"), column(5.0, -1.0, 100.0)) == [5.0]
    assert value_of(rule_of("median"), column(1.0, 2.0, 4.0, 100.0)) == [3.0]


def test_trimmed_mean_leaves_out_the_ends_of_each_number() -> None:
    updates = torch.tensor([[0.0, 9.0], [1.0, -50.0], [2.0, 3.0], [3.0, 4.0], [100.0, 5.0]])
    reduced = rule_of("trimmed_mean", num_hostile=1).reduce(updates)
    assert reduced.value.tolist() == [2.0, 4.0]
    assert reduced.aside.tolist() == [1.0, 0.5, 0.0, 0.0, 0.5]


def test_krum_takes_the_one_nearest_to_its_neighbours() -> None:
    # f = 1, n = 5: scores add the 2 nearest squared distances: 0 -> 1+4, 1 -> 1+1, 2 -> 1+4
    updates = column(0.0, 1.0, 2.0, 7.0, 100.0)
    reduced = rule_of("krum", num_hostile=1).reduce(updates)
    assert reduced.value.tolist() == [1.0]
    assert reduced.aside.tolist() == [1.0, 0.0, 1.0, 1.0, 1.0]


def test_multi_krum_averages_those_with_the_lowest_scores() -> None:
    updates = column(0.0, 1.0, 2.0, 7.0, 100.0)
    assert value_of(rule_of("multi_krum", num_hostile=1), updates) == [2.5]
    assert value_of(rule_of("multi_krum", num_hostile=1, num_kept=3), updates) == [1.0]
    one = rule_of("multi_krum", num_hostile=1, num_kept=1)
    assert value_of(one, updates) == value_of(rule_of("krum", num_hostile=1), updates)


def test_bulyan_chooses_and_then_takes_what_is_near_the_median() -> None:
    # n = 7, f = 1: Krum chooses 5 of 7, and of each number 3 of these are averaged
    updates = column(0.0, 1.0, 2.0, 3.0, 4.0, 50.0, 100.0)
    reduced = rule_of("bulyan", num_hostile=1).reduce(updates)
    assert reduced.value.tolist() == [2.0]
    assert reduced.aside.tolist() == [1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0]


def test_the_geometric_median_of_a_line_is_its_median() -> None:
    [value] = value_of(rule_of("geometric_median"), column(0.0, 1.0, 2.0, 30.0, 500.0))
    assert value == pytest.approx(2.0, abs=1e-3)


def test_the_geometric_median_of_a_triangle_is_its_fermat_point() -> None:
    # Of a right triangle with legs of 1 on the axes: (3 - sqrt 3) / 6 on both
    found = rule_of("geometric_median").reduce(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    assert found.value.tolist() == pytest.approx([(3 - 3**0.5) / 6] * 2, abs=1e-4)


def test_norms_are_bounded() -> None:
    updates = torch.tensor([[3.0, 4.0], [0.3, 0.4], [-30.0, 40.0]])
    reduced = rule_of("norm_bounded", max_norm=5.0).reduce(updates)
    assert reduced.value.tolist() == pytest.approx([0.3 / 3, 8.4 / 3])
    assert reduced.aside.tolist() == pytest.approx([0.0, 0.0, 0.9])
    # Left open, the bound is the median of 0.5, 5 and 50
    assert value_of(rule_of("norm_bounded"), updates) == pytest.approx([0.1, 2.8], abs=1e-5)


def test_centred_clipping_starts_from_the_round_before() -> None:
    rule = rule_of("centered_clipping", radius=1.0)
    state = rule.first_state({"w": (1,)})
    found = []
    for server_round in (1, 2):
        start = RoundStart(
            params={}, state={}, cohort=[1] * 3, max_value=1.0, server_round=server_round
        )
        accumulator = rule.at(start, state).start({"w": (1,)}, BOUNDS)
        for number, value in enumerate((2.0, 0.5, -1000.0)):
            accumulator.add(
                ClientUpdate(
                    client=str(number), tensors={"w": torch.tensor([value])}, num_examples=1
                )
            )
        found.append(accumulator.mean()["w"].item())
        state = accumulator.state  # type: ignore[attr-defined]
    # 0 + (1 + 0.5 - 1) / 3 = 1/6; then 1/6 + (1 + 1/3 - 1) / 3
    assert found == pytest.approx([1 / 6, 1 / 6 + 1 / 9])


def test_bucketing_averages_groups_and_names_their_members() -> None:
    updates = torch.randn(7, 3)
    mixed = Bucketing(bucket_size=2).mix(updates, 1, secret=b"s", server_round=1)
    assert mixed.vectors.shape == (4, 3)
    for number, vector in enumerate(mixed.vectors):
        members = updates[mixed.members == number]
        assert 1 <= len(members) <= 2
        assert torch.allclose(vector, members.mean(dim=0), atol=1e-6)
    other = Bucketing(bucket_size=2).mix(updates, 1, secret=b"s", server_round=2)
    assert mixed.members.tolist() != other.members.tolist()


def test_neighbours_are_averaged() -> None:
    updates = column(0.0, 1.0, 5.0, 100.0)
    mixed = NearestNeighbours().mix(updates, 2, secret=b"", server_round=1)
    assert mixed.vectors.flatten().tolist() == [0.5, 0.5, 3.0, 52.5]


def test_a_mixing_of_one_changes_nothing() -> None:
    updates = torch.randn(9, 4)
    mixed = Bucketing(bucket_size=1).mix(updates, 2, secret=b"s", server_round=1)
    assert torch.equal(mixed.vectors[mixed.members], updates)
    alone = NearestNeighbours().mix(updates, 8, secret=b"", server_round=1)
    assert torch.equal(alone.vectors, updates)


def test_without_hostile_ones_rules_reduce_to_the_mean() -> None:
    updates = torch.randn(6, 5)
    mean = pytest.approx(updates.mean(dim=0).tolist(), abs=1e-6)
    assert rule_of("trimmed_mean", num_hostile=0).reduce(updates).value.tolist() == mean
    assert rule_of("multi_krum", num_hostile=0).reduce(updates).value.tolist() == mean
    assert rule_of("bulyan", num_hostile=0).reduce(updates).value.tolist() == mean
    assert rule_of("norm_bounded", max_norm=1e6).reduce(updates).value.tolist() == mean
    assert rule_of("centered_clipping", radius=1e6).reduce(updates).value.tolist() == mean


@pytest.mark.parametrize("mixing", ["none", "nearest_neighbours", "bucketing"])
@pytest.mark.parametrize("kind", ROBUST)
def test_hostile_updates_do_not_move_a_rule_far(kind: str, mixing: str) -> None:
    torch.manual_seed(0)
    honest = 1.0 + 0.1 * torch.randn(13, 50)
    hostile = -1e6 * torch.ones(2, 50)
    schema = MIXINGS[mixing].schema
    # Buckets of one: 15 updates in groups of two are too few for Bulyan
    settings = {"bucket_size": 1} if mixing == "bucketing" else {}
    rule = rule_of(kind, num_hostile=2)
    object.__setattr__(rule, "mixing", build_part(MIXINGS[mixing], schema(**settings)))
    reduced = rule.reduce(torch.cat([honest, hostile]))
    assert float((reduced.value - 1.0).norm()) < 4.0  # half of the honest mean's own length
    assert reduced.aside[13:].min() > reduced.aside[:13].mean()


@pytest.mark.parametrize("kind", ROBUST)
@given(st.permutations(range(9)))
def test_the_order_of_arrival_does_not_show(kind: str, order: Sequence[int]) -> None:
    updates = torch.randn(9, 4, generator=torch.Generator().manual_seed(1)).tolist()
    rule = rule_of(kind)
    expected = aggregated(rule, updates)
    names = {str(place): number for place, number in enumerate(order)}
    assert torch.equal(aggregated(rule, [updates[number] for number in order], **names), expected)


@pytest.mark.parametrize("kind", ROBUST)
def test_equal_updates_are_what_a_rule_gives(kind: str) -> None:
    updates = torch.randn(1, 6).repeat(7, 1)
    assert rule_of(kind).reduce(updates).value.tolist() == pytest.approx(
        updates[0].tolist(), abs=1e-5
    )


@pytest.mark.parametrize("kind", ROBUST)
def test_zeros_and_tiny_updates_stay_finite(kind: str) -> None:
    for scale in (0.0, 1e-30):
        assert bool(rule_of(kind).reduce(scale * torch.randn(7, 5)).value.isfinite().all())


@pytest.mark.parametrize(
    ("kind", "num_hostile", "least"),
    [
        ("median", 2, 5),
        ("trimmed_mean", 2, 5),
        ("geometric_median", 3, 7),
        ("norm_bounded", 1, 3),
        ("centered_clipping", 1, 3),
        ("krum", 2, 7),
        ("multi_krum", 2, 7),
        ("bulyan", 2, 11),
    ],
)
def test_too_few_updates_are_refused_before_and_after(
    kind: str, num_hostile: int, least: int
) -> None:
    rule = rule_of(kind, num_hostile=num_hostile)
    aggregated(rule, [[1.0]] * least)
    with pytest.raises(RunFailedError, match=f"num_hostile={num_hostile}.*needs {least}"):
        aggregated(rule, [[1.0]] * (least - 1))
    start = RoundStart(params={}, state={}, cohort=[1] * (least - 1), max_value=1.0, server_round=1)
    with pytest.raises(ConfigError, match=f"at most {num_hostile - 1}"):
        rule.at(start, {})


@pytest.mark.parametrize(
    "kind", ["median", "trimmed_mean", "geometric_median", "centered_clipping"]
)
@pytest.mark.parametrize("hostile", [10, 20])
def test_almost_half_may_send_the_largest_values(kind: str, hostile: int) -> None:
    generator = torch.Generator().manual_seed(3)
    honest = 1e-3 * torch.randn(hostile + 1, 200, generator=generator)
    updates = torch.cat([honest, torch.full((hostile, 200), 1024.0)])
    found = rule_of(kind, num_hostile=hostile).reduce(updates)
    assert float(found.value.norm()) < 10 * float(honest.norm(dim=1).max())


@pytest.mark.parametrize("kind", ["krum", "multi_krum", "bulyan"])
def test_one_decoy_does_not_blind_distances(kind: str) -> None:
    generator = torch.Generator().manual_seed(4)
    honest = 1e-3 * torch.randn(12, 5000, generator=generator)
    near = 3e-3 * torch.ones(2, 5000)
    decoy = torch.full((1, 5000), 2.0**20)
    found = rule_of(kind, num_hostile=3).reduce(torch.cat([honest, near, decoy]))
    assert float(found.value.abs().max()) < 5e-3
    assert float(found.aside[-1]) == 1.0
    assert float(found.aside[12:14].min()) > 0.5


def test_multi_krum_keeps_no_hostile_one_where_few_answer() -> None:
    rule = rule_of("multi_krum", num_hostile=4, num_kept=16)
    updates = torch.cat([torch.zeros(7, 3), torch.full((4, 3), 1000.0)])
    assert rule.reduce(updates).value.tolist() == [0.0, 0.0, 0.0]


def test_a_geometric_median_on_an_update_moves_where_it_should() -> None:
    # The median of each number is the first corner, which is not the point
    corner = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    found = rule_of("geometric_median").reduce(corner.repeat(1, 1))
    assert found.value.tolist() == pytest.approx([(3 - 3**0.5) / 6] * 2, abs=1e-4)
    held = torch.cat([corner[:1].repeat(3, 1), corner[1:]])
    assert rule_of("geometric_median").reduce(held).value.tolist() == [0.0, 0.0]


def test_distances_of_nearly_equal_vectors_keep_their_digits() -> None:
    base = 1000.0 * torch.ones(40_000)
    vectors = torch.stack([base, base + 0.25])
    assert squared_distances(vectors)[0, 1].item() == pytest.approx(40_000 * 0.0625)


def test_every_table_entry_names_its_schema() -> None:
    assert all(kind.schema().kind == name for name, kind in ROBUST.items())
    assert {BucketingConfig().kind, NearestNeighboursConfig().kind} < set(MIXINGS)
