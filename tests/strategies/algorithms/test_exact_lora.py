"""Exact averages of adapters: by hand, by the products of many, and whatever the order."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
import torch
from builders import build_plan
from small_strategies import took_part
from torch import Tensor

from confide.config.composing.compose import compose
from confide.config.strategies.objectives import FedExLoraConfig, FloraConfig, ObjectiveConfig
from confide.config.tunings.lora import ExactLoraConfig
from confide.errors import ConfigError
from confide.protocol.tensors import Tensors, shapes_of
from confide.strategies.aggregators import WeightedMean
from confide.strategies.composed import Strategy
from confide.strategies.selections.uniform import SelectAll
from confide.strategies.server_optimizers import Sgd
from confide.strategies.strategy import ClientUpdate, RoundStart

A, B, W = "q.lora_A.default.weight", "q.lora_B.default.weight", "q.base_layer.weight"
FEDEX, FLORA = FedExLoraConfig(), FloraConfig()
KINDS = pytest.mark.parametrize("objective", [FEDEX, FLORA], ids=["fedex", "flora"])


def strategy_of(objective: ObjectiveConfig, weighting: str = "num_examples") -> Strategy:
    return Strategy(
        selection=SelectAll(),
        aggregator=WeightedMean(weighting=weighting),
        server_optimizer=Sgd(learning_rate=1.0, momentum=0.0),
        objective=objective,
    )


def play(
    strategy: Strategy,
    params: Tensors,
    updates: Sequence[tuple[int, Tensors]],
    *,
    order: Sequence[int] = (),
    tuning: ExactLoraConfig | None = None,
) -> Tensors:
    """Return the tensors after a round; ``updates``: number of records and update of each."""
    plan = replace(build_plan(), tuning=tuning or ExactLoraConfig(rank=1, alpha=2.0))
    start = RoundStart(
        params=params,
        state=strategy.init(params),
        cohort=[n for n, _ in updates],
        max_value=64.0,
        server_round=1,
        plan=plan,
    )
    under_way = strategy.begin(start)
    for k in order or range(len(updates)):
        n, update = updates[k]
        under_way.add(ClientUpdate(client=str(k), tensors=update, num_examples=n))
    after, _ = under_way.finish(took_part(range(len(updates)), len(updates)))
    return after


def number(a: float, b: float) -> Tensors:
    return {A: torch.tensor([[a]]), B: torch.tensor([[b]])}


def effective(params: Mapping[str, Tensor], scale: float) -> Tensor:
    return params[W].double() + scale * params[B].double() @ params[A].double()


# Two institutions of 1 and 3 records go from A = 1, B = 2 to (3, 3) and (1, 5). The mean of BA is
# (9 + 3 * 5) / 4 = 6; A and B are 1.5 and 4.5 in the mean, whose product is 6.75. s = 2.
TWO = [(1, number(2.0, 1.0)), (3, number(0.0, 3.0))]
START: Tensors = {**number(1.0, 2.0), W: torch.tensor([[10.0]])}


def test_residual_by_hand() -> None:
    after = play(strategy_of(FEDEX), START, TWO)
    assert after[A].item() == pytest.approx(1.5)
    assert after[B].item() == pytest.approx(4.5)
    assert after[W].item() == pytest.approx(10 + 2 * (6 - 6.75))


def test_residual_by_hand_where_everybody_weighs_the_same() -> None:
    # mean(BA) = 7; A = 2, B = 4
    after = play(strategy_of(FEDEX, "uniform"), START, TWO)
    assert after[W].item() == pytest.approx(10 + 2 * (7 - 2 * 4))


def test_all_is_multiplied_out_by_hand() -> None:
    after = play(strategy_of(FLORA), START, TWO)
    assert after[W].item() == pytest.approx(10 + 2 * 6)
    assert after[B].item() == 0
    assert 0 < abs(after[A].item()) <= 1


def random_round(clients: int) -> tuple[Tensors, list[tuple[int, Tensors]]]:
    generator = torch.Generator().manual_seed(clients)

    def drawn(size: float) -> Tensors:
        shapes = {A: (2, 5), B: (3, 2)}
        return {n: size * torch.randn(shape, generator=generator) for n, shape in shapes.items()}

    params = {**drawn(1.0), W: torch.randn(3, 5, generator=generator), "head": torch.ones(2)}
    updates = [(k + 1, {**drawn(0.3), "head": torch.full((2,), float(k))}) for k in range(clients)]
    return params, updates


@KINDS
@pytest.mark.parametrize("stabilised", [False, True])
def test_layer_after_a_round_is_the_mean_of_the_layers(
    objective: ObjectiveConfig, stabilised: bool
) -> None:
    tuning = ExactLoraConfig(rank=2, alpha=3.0, rank_stabilised=stabilised)
    scale = 3.0 / (2**0.5 if stabilised else 2)
    params, updates = random_round(4)
    after = play(strategy_of(objective), params, updates, tuning=tuning)
    total = sum(n for n, _ in updates)
    layers = [
        n / total * effective({**params, A: params[A] + u[A], B: params[B] + u[B]}, scale)
        for n, u in updates
    ]
    assert torch.allclose(effective(after, scale), sum(layers, torch.zeros(())), atol=1e-5)
    # Adapters that are averaged apart are another layer
    plain = {n: params[n] + sum(k * u[n] for k, u in updates) / total for n in (A, B)}
    assert not torch.allclose(effective({**params, **plain}, scale), effective(after, scale))


@KINDS
def test_order_of_arrival_does_not_show(objective: ObjectiveConfig) -> None:
    params, updates = random_round(5)
    one, other = (
        play(strategy_of(objective), params, updates, order=order)
        for order in ((0, 1, 2, 3, 4), (3, 0, 4, 2, 1))
    )
    assert all(torch.equal(one[name], other[name]) for name in params)


def test_adapters_and_head_are_fedavgs_to_the_last_bit() -> None:
    params, updates = random_round(3)
    after = play(strategy_of(FEDEX), params, updates)
    without = {name: value for name, value in params.items() if name != W}
    plain = play(strategy_of(ObjectiveConfig()), without, updates)
    assert all(torch.equal(after[name], plain[name]) for name in plain)


def test_one_institution_is_fedavg() -> None:
    params, updates = random_round(1)
    after = play(strategy_of(FEDEX), params, updates)
    assert torch.allclose(after[W], params[W], atol=1e-7)
    assert torch.equal(after[B], params[B] + updates[0][1][B])


def test_nothing_is_left_out_where_one_half_did_not_move() -> None:
    params, updates = random_round(3)
    frozen = [(n, {**update, A: torch.zeros(2, 5)}) for n, update in updates]
    assert torch.equal(play(strategy_of(FEDEX), params, frozen)[W], params[W])


def test_next_round_of_flora_starts_elsewhere() -> None:
    params, updates = random_round(2)
    after = play(strategy_of(FLORA), params, updates)
    assert not torch.allclose(after[A], params[A])
    assert torch.equal(after[A], play(strategy_of(FLORA), params, updates)[A])


@KINDS
def test_weights_are_sent_and_never_come_back(objective: ObjectiveConfig) -> None:
    params, _ = random_round(1)
    strategy = strategy_of(objective)
    assert strategy.request(params, {}).keys() == params.keys()
    assert strategy.reply_shapes(shapes_of(params)).keys() == params.keys() - {W}


@KINDS
def test_every_update_has_to_come_by_itself(objective: ObjectiveConfig) -> None:
    params, _ = random_round(1)
    start = RoundStart(params=params, state={}, cohort=[1], max_value=1.0, server_round=1)
    under_way = strategy_of(objective).begin(start)
    assert under_way.rule is None
    with pytest.raises(TypeError, match="needs every update"):
        under_way.merge(torch.zeros(1, dtype=torch.int64), 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["strategy=fedex_lora", "tuning=lora"], r"is defined for tuning=lora_exact, and tuning"),
        (["strategy=flora", "tuning=lora_ffa"], r"is defined for tuning=lora_exact, and tuning"),
        (
            ["strategy=fedavg", "tuning=lora_exact"],
            r"never changes; set strategy=fedex_lora or flora, or tuning=lora\.",
        ),
        (
            ["strategy=flora", "tuning=lora_exact", "strategy/aggregator=median"],
            r"aggregator\.kind=median: objective\.kind=flora averages products",
        ),
        (
            [
                "strategy=fedex_lora",
                "tuning=lora_exact",
                "strategy.server_optimizer.momentum=0.5",
            ],
            r"server_optimizer\.momentum=0\.5: objective\.kind=fedex_lora",
        ),
        (
            ["strategy=fedex_lora", "tuning=lora_exact", "strategy/timing=fedbuff"],
            r"clients start from different models",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose(["experiment=tweets", *words])
