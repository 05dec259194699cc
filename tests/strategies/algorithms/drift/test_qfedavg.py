"""q-FedAvg by hand, and whom it helps."""

import math

import pytest
import torch
from builders import build_institution, build_plan, build_records, workload_of
from small_strategies import compose_strategy, given, local_sgd, round_of
from torch import Tensor, nn

from confide.config.composing.compose import compose
from confide.config.privacy import PrivacyConfig
from confide.config.strategies.drift import QFedAvgConfig
from confide.errors import ConfigError
from confide.models.networks import trainable_tensors
from confide.protocol.messages import Request
from confide.protocol.tensors import Tensors, decode, encode
from confide.strategies.algorithm import ClientResult, Records, join_extra
from confide.strategies.algorithms.drift.qfedavg import mean_loss, qfedavg
from confide.strategies.composed import Strategy
from confide.tasks.task import Batch, Examples

START = {"w": torch.zeros(1)}


def records(*losses: float) -> Records:
    """Return records of given losses, whatever the model is."""

    def losses_fn(outputs: Tensor, batch: Batch) -> Tensor:
        return batch["labels"].float()

    return Records(
        examples=Examples({"labels": torch.tensor(losses)}),
        model=nn.Identity(),
        outputs_fn=lambda batch: batch["labels"],
        losses_fn=losses_fn,
        features_fn=lambda batch: batch["labels"],
        load_fn=lambda tensors: None,
        at_once=2,
    )


def answer(q: float, *losses: float, gradient: float = 2.0) -> ClientResult:
    known = given(START, steps=1, learning_rate=0.1, records=records(*losses))
    return local_sgd(qfedavg(q=q), known, lambda _: {"w": torch.tensor([gradient])})


def weight_of(result: ClientResult) -> float:
    return float(result.extra["weight"]) * 1024


def strategy(*overrides: str) -> Strategy:
    return compose_strategy("strategy=qfedavg", *overrides)


def test_the_loss_is_the_mean_over_all_records() -> None:
    assert mean_loss(records(1.0, 2.0, 3.0, 4.0, 5.0)) == 3.0


def test_a_client_part_by_hand() -> None:
    # F = 3, q = 2, L = 10, update -0.2: 9 * -0.2 and h = 9 + 2 * 3 * 10 * 0.04 = 11.4.
    result = answer(2.0, 1.0, 5.0, 3.0)
    assert float(result.update["w"]) == pytest.approx(-1.8)
    assert weight_of(result) == pytest.approx(11.4)


def test_a_server_part_by_hand() -> None:
    # q = 1, F = 1 and 4: -0.2 + 4 * 0.2 = 0.6 over (1 + 0.4) + (4 + 0.4) = 5.8.
    answers = [(5, answer(1.0, 1.0)), (5, answer(1.0, 4.0, gradient=-2.0))]
    params, _ = round_of(strategy(), START, answers)
    assert float(params["w"]) == pytest.approx(0.6 / 5.8, abs=1e-6)


def test_algorithm_2_of_the_paper_line_by_line() -> None:
    clients, q, lipschitz = {1: (0.5, 3.0), 4: (2.0, -1.0), 9: (0.1, 0.5)}, 0.5, 10.0
    deltas = hs = 0.0
    for loss, gradient in clients.values():
        change = lipschitz * (0.0 - (0.0 - 0.1 * gradient))
        deltas += loss**q * change
        hs += q * loss ** (q - 1) * change**2 + lipschitz * loss**q
    answers = [
        (5, answer(q, loss, gradient=gradient)) for loss, gradient in clients.values()
    ]  # equal weights, as the paper's sums
    params, _ = round_of(strategy(f"strategy.objective.q={q}"), START, answers)
    assert float(params["w"]) == pytest.approx(-deltas / hs, abs=1e-6)


def test_with_q_0_it_is_fedavg_bit_for_bit() -> None:
    answers = [(count, answer(0.0, float(count), gradient=0.3 * count)) for count in (1, 4, 9)]
    plain = [(count, ClientResult(update=one.update)) for count, one in answers]
    found, _ = round_of(strategy("strategy.objective.q=0"), START, answers)
    expected, _ = round_of(compose_strategy("strategy=fedavg"), START, plain)
    assert found["w"].equal(expected["w"])


def test_the_larger_q_the_nearer_the_worst_served() -> None:
    """Two clients of loss (w - a)^2 / 2 + b, of which that at 0 has ten times the records."""
    found = {}
    for q in (0.0, 1.0, 5.0):
        w, composed = 0.0, strategy(f"strategy.objective.q={q}")
        for _ in range(300):
            answers = []
            for count, optimum in ((10, 0.0), (1, 3.0)):
                known = given(
                    {"w": torch.tensor([w])},
                    learning_rate=0.1,
                    records=records((w - optimum) ** 2 / 2 + 0.1),
                )
                to = torch.tensor([w - optimum])
                result = local_sgd(qfedavg(q=q), known, lambda _, to=to: {"w": to})  # type: ignore[misc]
                answers.append((count, result))
            w = float(round_of(composed, {"w": torch.tensor([w])}, answers)[0]["w"])
        found[q] = w
    assert found[0.0] == pytest.approx(3 / 11, abs=1e-3)  # the mean of all records
    assert found[0.0] < found[1.0] < found[5.0] < 1.5  # the point where both are served alike


def test_order_of_arrival_does_not_matter() -> None:
    answers = [(count, answer(1.5, 1.0 / count, gradient=float(count))) for count in (1, 3, 7)]
    one, other = (round_of(strategy(), START, found)[0] for found in (answers, answers[::-1]))
    assert one["w"].equal(other["w"])


@pytest.mark.parametrize("loss", [0.0, 1e-12])
def test_a_loss_of_nothing_has_a_finite_weight(loss: float) -> None:
    assert math.isfinite(weight_of(answer(0.1, loss)))


def test_an_institution_sends_the_loss_of_the_model_that_came() -> None:
    plan = build_plan(objective=QFedAvgConfig(q=1.0))
    workload = workload_of(plan)
    data, start = build_records(workload), trainable_tensors(workload.model)
    asked = build_institution(plan, data)
    request = Request(plan=plan.to_json(), server_round=1, arrays=encode(join_extra(start, {})))
    reply = asked.handle("train", request)
    assert reply.refusal is None
    assert reply.arrays is not None
    shapes = qfedavg(q=1.0).reply_shapes({name: tuple(it.shape) for name, it in start.items()})
    sent: Tensors = decode(reply.arrays, shapes, max_value=1e9).tensors
    with torch.no_grad():
        batch = data.train.take(torch.arange(len(data.train)))
        loss = float(workload.losses(workload.model, batch).mean())
    update = {name: sent[name] / loss for name in start}
    squares = sum(float(value.square().sum()) for value in update.values())
    rate = plan.client.optimizer.learning_rate
    assert float(sent["extra/weight"]) * 1024 == pytest.approx(loss + squares / rate, rel=1e-4)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["privacy=record"],
            r"kind=qfedavg computes more from records .* set privacy=none, or strategy=fedavg",
        ),
        (["client.optimizer.kind=adam"], r"kind=qfedavg takes the update"),
        (["strategy.server_optimizer.momentum=0.9"], r"momentum=0\.9: objective\.kind=qfedavg"),
        (["strategy/aggregator=bulyan"], r"kind=bulyan: a robust rule"),
        (["strategy.objective.q=-1"], r"q=-1.*: expected >= 0"),
    ],
)
def test_contradictions_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose(["experiment=heart_disease", "strategy=qfedavg", *overrides])


def test_a_private_plan_is_refused_at_the_door() -> None:
    plan = build_plan(objective=QFedAvgConfig())
    private = build_plan(
        objective=QFedAvgConfig(), privacy=PrivacyConfig(unit="record", epsilon=3.0, delta=1e-3)
    )
    request = Request(plan=private.to_json(), server_round=1)
    assert build_institution(plan).handle("train", request).refusal == "plan_invalid"
