"""Learning rates by round."""

from dataclasses import asdict, replace

import pytest
import torch
from builders import build_plan
from small_strategies import compose_strategy, round_of

from confide.client.schedule import make_schedule, plan_of_round
from confide.config.client import ClientConfig, OptimizerConfig
from confide.config.composing.compose import compose
from confide.config.privacy import PrivacyConfig
from confide.config.strategies.schedules import ScheduleConfig
from confide.errors import ConfigError
from confide.protocol.plan import TrainingPlan
from confide.strategies.algorithm import ClientResult

HEART = "experiment=heart_disease"


def rates(schedule: ScheduleConfig, num_rounds: int) -> list[float]:
    return [schedule.rate(number, num_rounds) for number in range(1, num_rounds + 1)]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (ScheduleConfig(), [1, 1, 1, 1, 1]),
        (ScheduleConfig(kind="linear", final=0.2), [1, 0.8, 0.6, 0.4, 0.2]),
        (ScheduleConfig(kind="cosine", final=0.0), [1, 0.853553, 0.5, 0.146447, 0]),
        (ScheduleConfig(kind="cosine", final=0.5), [1, 0.926777, 0.75, 0.573223, 0.5]),
        (ScheduleConfig(kind="step", final=0.25, drops=2), [1, 1, 0.5, 0.25, 0.25]),
        (ScheduleConfig(kind="step", final=0.25, drops=1), [1, 1, 0.25, 0.25, 0.25]),
        (ScheduleConfig(warmup_rounds=3), [0.25, 0.5, 0.75, 1, 1]),
        (ScheduleConfig(kind="linear", final=0.5, warmup_rounds=2), [1 / 3, 2 / 3, 1, 0.75, 0.5]),
    ],
)
def test_rates_by_hand(schedule: ScheduleConfig, expected: list[float]) -> None:
    assert rates(schedule, 5) == pytest.approx(expected, abs=1e-6)
    assert schedule.is_constant == (expected == [1] * 5)


@pytest.mark.parametrize("kind", ["constant", "cosine", "linear", "step"])
@pytest.mark.parametrize("num_rounds", [1, 2, 3, 50])
@pytest.mark.parametrize("warmup", [0, 1, 7])
def test_a_rate_is_a_share_whatever_the_round(kind: str, num_rounds: int, warmup: int) -> None:
    # A plan may have spare rounds, and a hostile coordinator any
    schedule = ScheduleConfig(kind=kind, warmup_rounds=warmup)
    assert all(0 < schedule.rate(number, num_rounds) <= 1 for number in range(1, 200))


OPTIMIZERS = {
    "sgd": (),
    "momentum": ("strategy=fedavgm",),
    "adam": ("strategy=fedadam",),
    "yogi": ("strategy=fedyogi",),
    "adagrad": ("strategy=fedadagrad",),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_is_the_learning_rate_of_each_server_optimizer(name: str) -> None:
    """A rate of 1/2 in the second of three rounds, beside half the learning rate."""
    words = OPTIMIZERS[name]
    plain = compose_strategy(*words)
    falling = compose_strategy(
        *words, "strategy.server_optimizer.schedule={kind: linear, final: 1e-6}"
    )
    rate = compose([HEART, *words]).strategy.server_optimizer.learning_rate  # type: ignore[attr-defined]
    halved = compose_strategy(*words, f"strategy.server_optimizer.learning_rate={rate / 2}")
    start = {"w": torch.tensor([1.0, -2.0])}
    result = ClientResult(update={"w": torch.tensor([0.3, -0.1])})

    def second(strategy: object) -> torch.Tensor:
        params, state = round_of(plain, start, [(3, result)])
        found, after = round_of(
            strategy,  # type: ignore[arg-type]
            params,
            [(3, result)],
            state=state,
            server_round=2,
            num_rounds=3,
        )
        seen.append(after)
        return found["w"]

    seen: list[dict[str, torch.Tensor]] = []
    torch.testing.assert_close(second(falling), second(halved), rtol=0, atol=1e-6)
    assert not second(falling).equal(second(plain))
    # What an optimizer keeps is of the update and not of the step
    assert all(it.equal(seen[0][key]) for state in seen for key, it in state.items())


def test_a_full_rate_is_the_step_to_the_last_bit() -> None:
    start = {"w": torch.tensor([0.1, 1e8])}
    result = ClientResult(update={"w": torch.tensor([0.3, -0.1])})
    falling = compose_strategy("strategy.server_optimizer.schedule.kind=linear")
    first, _ = round_of(falling, start, [(3, result)], num_rounds=9)
    expected, _ = round_of(compose_strategy(), start, [(3, result)], num_rounds=9)
    assert first["w"].equal(expected["w"])


# Clients


def plan(schedule: ScheduleConfig, **fields: object) -> TrainingPlan:
    optimizer = OptimizerConfig(learning_rate=0.4, schedule=schedule)
    client = ClientConfig(optimizer=optimizer, local_steps=5)
    return build_plan(client=client, num_rounds=3, **fields)


def test_a_plan_says_the_rate_of_each_round() -> None:
    falling = plan(ScheduleConfig(kind="linear", final=0.5))
    found = [
        plan_of_round(falling, number).client.optimizer.learning_rate for number in range(1, 6)
    ]
    # After the last one, spare rounds have its rate
    assert found == pytest.approx([0.4, 0.3, 0.2, 0.2, 0.2])
    constant = plan(ScheduleConfig())
    assert plan_of_round(constant, 2) is constant


def test_it_changes_nothing_that_privacy_is_counted_by() -> None:
    privacy = PrivacyConfig(unit="record", epsilon=3.0, delta=1e-4)
    falling, constant = (
        plan(one, privacy=privacy) for one in (ScheduleConfig(kind="cosine"), ScheduleConfig())
    )
    one, other = (make_schedule(it, num_examples=99) for it in (falling, constant))
    assert asdict(one) == asdict(other)
    assert asdict(make_schedule(plan_of_round(falling, 2), num_examples=99)) == asdict(one)


def test_a_plan_without_one_has_the_text_that_it_had() -> None:
    constant, falling = plan(ScheduleConfig()), plan(ScheduleConfig(kind="step"))
    assert "schedule" not in constant.to_json()
    assert TrainingPlan.from_json(constant.to_json()) == constant
    assert TrainingPlan.from_json(falling.to_json()) == falling
    assert falling.sha256 != constant.sha256


def test_a_plan_out_of_range_is_refused() -> None:
    wrong = replace(plan(ScheduleConfig(kind="step")), num_rounds=3)
    wrong.client.optimizer.schedule.final = 7.0
    found = [*wrong.problems()]
    assert found == [
        "client.optimizer.schedule.final=7.0: expected >= 1e-06 and <= 1. Share of it that the last"
        " round has."
    ]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["client.optimizer.schedule.warmup_rounds=20"],
            r"client\.optimizer\.schedule\.warmup_rounds=20: the run has 20 rounds, all of which",
        ),
        (
            ["strategy.server_optimizer.schedule.warmup_rounds=30"],
            r"strategy\.server_optimizer\.schedule\.warmup_rounds=30: the run has 20 rounds",
        ),
        (
            ["client.optimizer.schedule.kind=exponential"],
            r"schedule\.kind=exponential: expected one of constant, cosine, linear, step",
        ),
        (["client.optimizer.schedule.final=0"], r"schedule\.final=0.*: expected >= 1e-06"),
        (
            ["client=private_table", "client.optimizer.schedule.kind=linear"],
            r"client has optimizer\.schedule\.kind=linear; set optimizer\.schedule\.kind=constant",
        ),
        (
            ["client=private_table", "strategy.server_optimizer.schedule.warmup_rounds=2"],
            r"schedule\.warmup_rounds=2: objective\.kind=gradient_sum, .*warmup_rounds=0",
        ),
        (
            [
                "strategy=fedasync",
                "simulation/delays=uniform",
                "strategy.server_optimizer.schedule.kind=linear",
            ],
            r"server_optimizer\.kind=sgd: fedasync mixes models .*leave server_optimizer out",
        ),
    ],
)
def test_contradictions_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose([HEART, "server.num_rounds=20", *overrides])


@pytest.mark.parametrize(
    "word",
    ["client.optimizer.schedule.kind=cosine", "strategy.server_optimizer.schedule.kind=cosine"],
)
def test_a_recipe_with_steps_of_its_own_is_not_chosen_beside_it(word: str) -> None:
    private = [HEART, "privacy=record"]
    assert compose(private).strategy.objective.kind == "gradient_sum"  # type: ignore[attr-defined]
    assert compose([*private, word]).strategy.objective.kind == "plain"  # type: ignore[attr-defined]
