"""FedExP by hand, and its length under noise."""

import pytest
import torch
from builders import build_plan
from small_strategies import compose_strategy, given, local_sgd, round_of

from confide.client.schedule import make_schedule, noise_square
from confide.config.client import ClientConfig, OptimizerConfig
from confide.config.composing.compose import compose
from confide.config.privacy import PrivacyConfig
from confide.errors import ConfigError
from confide.protocol.tensors import Tensors
from confide.strategies.algorithm import ClientResult
from confide.strategies.algorithms.drift.fedexp import fedexp
from confide.strategies.composed import Strategy

START = {"w": torch.zeros(2)}


def strategy(*overrides: str) -> Strategy:
    return compose_strategy("strategy=fedexp", *overrides)


def sent(*update: float, square: float | None = None) -> ClientResult:
    found = sum(value**2 for value in update) if square is None else square
    return ClientResult(
        update={"w": torch.tensor(update)}, extra={"square": torch.tensor([found / 1024])}
    )


def values(tensors: Tensors) -> list[float]:
    return list(tensors["w"].tolist())


def test_a_client_part_by_hand() -> None:
    # One step of 0.1 against the gradient (3, 4): update (-0.3, -0.4), squared norm 0.25.
    known = given(START, steps=1, learning_rate=0.1)
    result = local_sgd(fedexp(epsilon=1e-3), known, lambda _: {"w": torch.tensor([3.0, 4.0])})
    assert values(result.update) == pytest.approx([-0.3, -0.4])
    assert float(result.extra["square"]) * 1024 == pytest.approx(0.25)


def test_a_server_part_by_hand() -> None:
    # Updates (3, 1) and (-1, 1): mean (1, 1), mean square (10 + 2) / 2 = 6; 6 / (2 * 2) = 1.5.
    epsilon = "strategy.objective.epsilon=1e-9"
    params, _ = round_of(strategy(epsilon), START, [(1, sent(3.0, 1.0)), (1, sent(-1.0, 1.0))])
    assert values(params) == pytest.approx([1.5, 1.5], abs=1e-5)
    # With epsilon 1: 6 / (2 * (2 + 1)) = 1
    one = "strategy.objective.epsilon=1.0"
    params, _ = round_of(strategy(one), START, [(1, sent(3.0, 1.0)), (1, sent(-1.0, 1.0))])
    assert values(params) == pytest.approx([1.0, 1.0], abs=1e-6)


def test_means_have_the_weights_of_updates() -> None:
    # Weights 1 and 3: mean (0, 1), mean square (10 + 3 * 2) / 4 = 4; 4 / (2 * 1) = 2.
    epsilon = "strategy.objective.epsilon=1e-9"
    params, _ = round_of(strategy(epsilon), START, [(1, sent(3.0, 1.0)), (3, sent(-1.0, 1.0))])
    assert values(params) == pytest.approx([0.0, 2.0], abs=1e-5)


@pytest.mark.parametrize(
    "updates",
    [[sent(0.3, -0.7)], [sent(0.3, -0.7), sent(0.3, -0.7), sent(0.31, -0.7)]],
    ids=["one client", "alike"],
)
def test_without_drift_it_is_fedavg_bit_for_bit(updates: list[ClientResult]) -> None:
    plain = compose_strategy("strategy=fedavg")
    numbered = list(enumerate(updates, start=3))
    found, _ = round_of(strategy(), START, numbered)
    bare = [(count, ClientResult(update=one.update)) for count, one in numbered]
    expected, _ = round_of(plain, START, bare)
    # The bound of the fixed point is the same, and so are the bits
    assert found["w"].equal(expected["w"])


def test_a_square_below_zero_is_no_step_back() -> None:
    """What noise has on average may be more than what it has this time."""
    found, _ = round_of(strategy(), START, [(1, sent(1.0, 0.0, square=-5.0))])
    assert values(found) == [1.0, 0.0]


def test_order_of_arrival_does_not_matter() -> None:
    answers = [(count, sent(float(count), -1.0 / count)) for count in (1, 3, 7)]
    one, other = (round_of(strategy(), START, found)[0] for found in (answers, answers[::-1]))
    assert one["w"].equal(other["w"])


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_noise_has_the_length_that_is_taken_off(momentum: float) -> None:
    """Of steps of nothing but noise, drawn here; the mean of many is what is taken off."""
    plan = build_plan(
        privacy=PrivacyConfig(unit="record", epsilon=2.0, delta=1e-4, clipping_norm=0.5),
        client=ClientConfig(
            local_steps=3,
            sampling_rate=0.25,
            optimizer=OptimizerConfig(learning_rate=0.2, momentum=momentum),
        ),
    )
    schedule = make_schedule(plan, num_examples=200)
    drawn = torch.Generator().manual_seed(0)
    deviation = schedule.noise_multiplier * 0.5 / (0.25 * 200)
    steps = torch.randn((20_000, 3, 4), generator=drawn) * deviation
    moved, update = torch.zeros(20_000, 4), torch.zeros(20_000, 4)
    for number in range(3):
        moved = momentum * moved + steps[:, number]
        update -= 0.2 * moved
    found = float(update.square().sum(dim=1).mean())
    assert noise_square(plan, schedule, values=4) == pytest.approx(found, rel=0.03)
    assert noise_square(build_plan(), make_schedule(build_plan(), num_examples=9), values=4) == 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["strategy.server_optimizer.learning_rate=0.5"], r"learning_rate=0\.5: objective\.kind"),
        (["strategy.server_optimizer.schedule.kind=cosine"], r"schedule\.kind=cosine: objective"),
        (["strategy/server_optimizer=adam"], r"server_optimizer\.kind=adam: .*takes steps of its"),
        (["client.optimizer.kind=adamw"], r"kind=fedexp takes the update"),
        (["strategy/aggregator=median"], r"kind=median: a robust rule sees an update"),
    ],
)
def test_contradictions_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose(["experiment=heart_disease", "strategy=fedexp", *overrides])
