"""IFCA against its paper's lines, on institutions whose loss is a quadratic of one number."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from builders import build_institution, build_plan
from small_strategies import compose_strategy, given, local_sgd, took_part
from torch import Tensor, nn

from confide.config.composing.compose import compose
from confide.config.privacy import PrivacyConfig
from confide.config.strategies.personal import IfcaConfig
from confide.errors import ConfigError
from confide.protocol.messages import Request
from confide.protocol.tensors import Tensors, shapes_of
from confide.strategies.algorithm import (
    ClientResult,
    Records,
    join_extra,
    split_extra,
    split_prefix,
)
from confide.strategies.personal.ifca import choice_of, ifca
from confide.strategies.strategy import ClientUpdate, RoundStart
from confide.tasks.task import Batch, Examples

STEPS, RATE = 3, 0.1
OPTIMA, SIZES = (-3.0, -2.5, 3.0, 2.0), (5, 9, 2, 12)
"""Two groups of institutions: the record of each says where its loss w -> (w - x)^2 / 2 is least.
They hold so many of it."""


def number(value: float) -> Tensors:
    return {"w": torch.tensor([value])}


def records_of(optimum: float) -> Records:
    """Return a record whose loss follows from the model that was loaded last."""
    loaded: list[Tensor] = []

    def losses_fn(outputs: Tensor, batch: Batch) -> Tensor:
        return (loaded[-1] - batch["labels"]).square() / 2

    return Records(
        examples=Examples({"labels": torch.tensor([optimum])}),
        model=nn.Identity(),
        outputs_fn=lambda batch: batch["labels"],
        losses_fn=losses_fn,
        features_fn=lambda batch: batch["labels"],
        load_fn=lambda tensors: loaded.append(tensors["w"]),
        at_once=2,
    )


def answer(optimum: float, *models: float, server_round: int = 1, rounds: int = 9) -> ClientResult:
    """Have an institution choose among models, and train."""
    beside = {f"{place}/w": torch.tensor([value]) for place, value in enumerate(models[1:], 1)}
    known = given(number(models[0]), extra=beside, records=records_of(optimum), steps=STEPS)
    known = replace(known, server_round=server_round, num_rounds=rounds)
    algorithm = ifca(clusters=len(models), start_spread=1.0, start_seed=0)
    return local_sgd(algorithm, known, lambda at: {"w": at["w"] - optimum})


def run(
    *words: str,
    start: float,
    rounds: int,
    others: Sequence[float] = (),
    cohorts: Sequence[Sequence[int]] = (),
    arrive: int = 1,
) -> tuple[float, list[float], list[float]]:
    """Return the run's number, the other clusters' and what each institution predicts with."""
    strategy, params = compose_strategy(*words), number(start)
    algorithm, plan = strategy.algorithm, replace(build_plan(), num_rounds=rounds)
    state = strategy.init(params)
    state |= {f"algorithm/{place}/w": torch.tensor([it]) for place, it in enumerate(others, 1)}
    kept = [params for _ in OPTIMA]
    for server_round in range(1, rounds + 1):
        cohort = cohorts[server_round - 1] if cohorts else range(len(OPTIMA))
        under_way = strategy.begin(
            RoundStart(
                params=params,
                state=state,
                cohort=[SIZES[k] for k in cohort],
                max_value=1024.0,
                server_round=server_round,
                plan=plan,
            )
        )
        _, extra = split_extra(strategy.request(params, state))
        for k in list(cohort)[::arrive]:
            known = given(params, extra=extra, kept=kept[k], records=records_of(OPTIMA[k]))
            known = replace(known, steps=STEPS, server_round=server_round, num_rounds=rounds)
            result = local_sgd(algorithm, known, lambda at, to=OPTIMA[k]: {"w": at["w"] - to})  # type: ignore[misc]
            kept[k] = result.kept
            tensors = join_extra(result.update, result.extra)
            assert shapes_of(tensors) == algorithm.reply_shapes(shapes_of(params))
            under_way.add(ClientUpdate(client=str(k), tensors=tensors, num_examples=SIZES[k]))
        params, state = under_way.finish(took_part(cohort, len(OPTIMA)))
    own = split_prefix("algorithm/", state)[1]
    predicted = [(algorithm.predict_with or (lambda params, _: params))(params, it) for it in kept]
    return (
        float(params["w"]),
        [float(value) for value in own.values()],
        [float(it["w"]) for it in predicted],
    )


def trained(start: float, optimum: float) -> float:
    for _ in range(STEPS):
        start -= RATE * (start - optimum)
    return start


# The client part


def test_it_trains_the_model_that_fits_and_says_which_by_hand() -> None:
    # Of 0 and 2 the second is nearer to 3: 3 steps of 0.1 go from 2 to 3 - 0.9^3.
    result = answer(3.0, 0.0, 2.0)
    assert float(result.update["w"]) == 0.0
    assert float(result.extra["1/w"]) == pytest.approx(1.0 - 0.9**3)
    assert (result.extra["chosen"] * 1024).tolist() == [0.0, 1.0]
    assert float(result.kept["w"]) == 2.0


def test_of_equal_losses_the_first_is_taken_and_of_none_that_is_a_number() -> None:
    assert choice_of([number(1.0), number(-1.0)], records_of(0.0)) == 0
    assert choice_of([number(math.nan), number(-1.0)], records_of(0.0)) == 1
    assert choice_of([number(math.nan), number(math.nan)], records_of(0.0)) == 0


def test_the_last_round_chooses_and_trains_nothing() -> None:
    result = answer(3.0, 0.0, 2.0, server_round=9)
    assert not float(result.update["w"])
    assert not float(result.extra["1/w"])
    assert (result.extra["chosen"] * 1024).tolist() == [0.0, 1.0]
    assert float(result.kept["w"]) == 2.0


# Both parts


def test_algorithm_1_of_the_paper_line_by_line() -> None:
    models, rounds = [-0.1, 0.2], 4
    expected = list(models)
    for _ in range(rounds - 1):
        sums, weights = [0.0, 0.0], [0, 0]
        for optimum, size in zip(OPTIMA, SIZES, strict=True):
            j = min((0, 1), key=lambda place: (expected[place] - optimum) ** 2)
            sums[j] += size * trained(expected[j], optimum)
            weights[j] += size
        expected = [total / weight for total, weight in zip(sums, weights, strict=True)]
    model, others, own = run("strategy=ifca", start=models[0], others=models[1:], rounds=rounds)
    # Both groups weigh 14, and of equals the first is the run's
    assert model == pytest.approx(expected[0], abs=1e-6)
    assert others == pytest.approx(expected[1:], abs=1e-6)
    assert own == pytest.approx([expected[j] for j in (0, 0, 1, 1)], abs=1e-6)


def test_planted_groups_part_where_fedavg_serves_neither() -> None:
    _, _, own = run("strategy=ifca", start=0.0, rounds=30)
    averaged, _, _ = run("strategy=fedavg", start=0.0, rounds=30)
    weighed = [(5 * -3.0 + 9 * -2.5) / 14, (2 * 3.0 + 12 * 2.0) / 14]
    assert own == pytest.approx([weighed[j] for j in (0, 0, 1, 1)], abs=1e-3)
    assert averaged == pytest.approx(sum(weighed) / 2, abs=1e-3)


@pytest.mark.parametrize("rounds", [2, 6])
def test_with_one_model_the_rounds_before_the_last_are_fedavgs_to_the_bit(rounds: int) -> None:
    one = ("strategy=ifca", "strategy.objective.clusters=1")
    model, others, own = run(*one, start=1.0, rounds=rounds)
    averaged, _, _ = run("strategy=fedavg", start=1.0, rounds=rounds - 1)
    assert (model, others, own) == (averaged, [], [averaged] * len(OPTIMA))


def test_the_order_of_arrival_does_not_matter() -> None:
    cohorts = [(0, 1, 2, 3), (0, 2, 3), (1, 2), (0, 1, 2, 3)]
    one, other = (
        run("strategy=ifca", start=0.0, rounds=4, cohorts=cohorts, arrive=arrive)
        for arrive in (1, -1)
    )
    assert one == other


def test_a_model_that_nobody_chose_stays_and_the_runs_is_that_of_the_largest_group() -> None:
    model, others, own = run(
        "strategy=ifca",
        "strategy.objective.clusters=3",
        start=40.0,
        others=[-1.0, 1.0],
        rounds=3,
        cohorts=[(0, 1, 2, 3), (0, 1, 2, 3), (0, 2, 3)],
    )
    # In the last round 5 records chose the second model and 14 the third
    assert model == others[1] > 1.0
    assert own[0] == others[0] < -1.0
    alone, others, _ = run(
        "strategy=ifca", start=40.0, others=[-1.0], rounds=3, cohorts=[(0, 1)] * 3
    )
    assert alone == others[0]
    kept, _, _ = run("strategy=ifca", start=0.0, others=[40.0], rounds=2)
    _, unchosen, _ = run("strategy=ifca", start=0.0, others=[40.0], rounds=3)
    assert unchosen == [40.0]
    assert kept != 0.0


def test_first_models_differ_by_the_spread_and_the_seed() -> None:
    start = {"w": torch.zeros(20_000), "b": torch.ones(2)}

    def state(**settings: float) -> Tensors:
        return compose_strategy(
            "strategy=ifca",
            "strategy.objective.clusters=3",
            *(f"strategy.objective.{name}={value}" for name, value in settings.items()),
        ).init(start)

    first = state(start_spread=0.5)
    assert {"algorithm/1/w", "algorithm/1/b", "algorithm/2/w", "algorithm/2/b"} <= first.keys()
    assert float(first["algorithm/1/w"].std()) == pytest.approx(0.5, rel=0.05)
    assert abs(float(first["algorithm/2/w"].mean())) < 0.02
    assert not first["algorithm/1/w"].equal(first["algorithm/2/w"])
    assert all(value.equal(state(start_spread=0.5)[name]) for name, value in first.items())
    other = state(start_spread=0.5, start_seed=1)
    assert not first["algorithm/1/w"].equal(other["algorithm/1/w"])


# What does not go together


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["privacy=record"],
            r"kind=ifca computes more from records .* set privacy=none, or strategy=ditto",
        ),
        (["strategy.server_optimizer.momentum=0.9"], r"momentum=0\.9: objective\.kind=ifca"),
        (["strategy/aggregator=median"], r"kind=median: a robust rule"),
        (["strategy/upload=int8"], r"upload\.kind=int8: objective\.kind=ifca"),
        (["server.patience=2"], r"server\.patience=2: .*ifca"),
        (["server.keep=best"], r"server\.keep=best: .*ifca"),
        (["server.num_rounds=1"], r"trains in all rounds but the last"),
        (["strategy.objective.clusters=0"], r"clusters=0.*: expected >= 1"),
        (["strategy.objective.start_spread=0"], r"start_spread=0.*: expected > 0"),
    ],
)
def test_contradictions_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose(["experiment=heart_disease", "strategy=ifca", *overrides])


def test_a_private_plan_is_refused_at_the_door() -> None:
    plan = build_plan(objective=IfcaConfig())
    private = build_plan(
        objective=IfcaConfig(), privacy=PrivacyConfig(unit="record", epsilon=3.0, delta=1e-3)
    )
    request = Request(plan=private.to_json(), server_round=1)
    assert build_institution(plan).handle("train", request).refusal == "plan_invalid"
