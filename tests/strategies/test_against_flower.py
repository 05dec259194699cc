"""Side by side with Flower's own strategies, on the same replies.

FedAvg, FedAvgM and FedProx's aggregation are the same algorithm. The adaptive ones are not: Flower
starts v at 0 and corrects FedAdam's bias, Reddi et al. do neither. Started at v = 0, and with the
correction in the learning rate, they agree.
"""

from collections.abc import Callable, Iterator

import pytest
import torch
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Strategy as FlowerBase
from small_strategies import compose_strategy, took_part

from confide.flower.messages import task_identity
from confide.protocol.tensors import Tensors, encode
from confide.simulations.engines.inline import InlineGrid
from confide.strategies.composed import Strategy
from confide.strategies.strategy import ClientUpdate, RoundStart

ROUNDS, CLIENTS = 4, 3
START: Tensors = {"b": torch.tensor(0.3), "w": torch.tensor([[1.0, -0.5], [0.25, 0.0]])}
ETA, BETA1, BETA2, TAU = 0.1, 0.9, 0.99, 1e-3
Make = Callable[[int], Strategy]


@pytest.fixture(autouse=True)
def _identity() -> Iterator[None]:
    with task_identity():
        yield


def updates(server_round: int) -> list[ClientUpdate]:
    """Updates of either sign, none near zero, where dividing by their size would magnify
    float32's rounding.
    """
    generator = torch.Generator().manual_seed(server_round)
    made = []
    for number in range(1, CLIENTS + 1):
        drawn = {
            name: torch.rand(value.shape, generator=generator) for name, value in START.items()
        }
        sign = -1.0 if server_round == 3 else 1.0
        tensors = {name: sign * (0.1 + 0.4 * value) for name, value in drawn.items()}
        made.append(
            ClientUpdate(client=f"bank-{number}", tensors=tensors, num_examples=number * 10)
        )
    return made


def flowers_path(strategy: FlowerBase) -> list[Tensors]:
    params, path = START, []
    grid = InlineGrid(ClientApp(), list(range(1, CLIENTS + 1)))
    for server_round in range(1, ROUNDS + 1):
        asked = list(strategy.configure_train(server_round, encode(params), ConfigRecord(), grid))
        replies = [
            Message(reply(params, update), reply_to=message)
            for message, update in zip(asked, updates(server_round), strict=True)
        ]
        arrays, _ = strategy.aggregate_train(server_round, replies)
        assert arrays is not None
        params = {name: torch.from_numpy(arrays[name].numpy().astype("float32")) for name in START}
        path.append(params)
    return path


def reply(params: Tensors, update: ClientUpdate) -> RecordDict:
    weights = encode({name: value + update.tensors[name] for name, value in params.items()})
    return RecordDict(
        {"arrays": weights, "metrics": MetricRecord({"num-examples": update.num_examples})}
    )


def our_path(make: Make, *, v_from_zero: bool = False) -> list[Tensors]:
    params, path = START, []
    state = make(1).init(params)
    if v_from_zero:
        state = {name: torch.zeros_like(value) for name, value in state.items()}
    for server_round in range(1, ROUNDS + 1):
        cohort = [update.num_examples for update in updates(server_round)]
        under_way = make(server_round).begin(
            RoundStart(
                params=params,
                state=state,
                cohort=cohort,
                max_value=1024.0,
                server_round=server_round,
            )
        )
        for update in updates(server_round):
            under_way.add(update)
        params, state = under_way.finish(took_part(range(CLIENTS), CLIENTS))
        path.append(params)
    return path


def distance(ours: list[Tensors], theirs: list[Tensors]) -> float:
    assert len(ours) == len(theirs) == ROUNDS
    return max(
        (a[name] - b[name]).abs().max().item()
        for a, b in zip(ours, theirs, strict=True)
        for name in START
    )


def server(name: str, **settings: float) -> Strategy:
    words = [f"strategy.server_optimizer.{key}={value!r}" for key, value in settings.items()]
    return compose_strategy(f"strategy={name}", *words)


def bias_corrected(server_round: int) -> Strategy:
    """FedAdam with Flower's factor, which it takes from round + 1, in the learning rate."""
    factor = (1 - BETA2 ** (server_round + 1)) ** 0.5 / (1 - BETA1 ** (server_round + 1))
    return server("fedadam", learning_rate=ETA * factor, beta1=BETA1, beta2=BETA2, tau=TAU)


SAME: dict[str, tuple[Callable[[], FlowerBase], Callable[[], Strategy]]] = {
    "fedavg": (flower.FedAvg, compose_strategy),
    "fedprox": (
        lambda: flower.FedProx(proximal_mu=0.1),
        lambda: compose_strategy("strategy=fedprox", "strategy.objective.proximal_mu=0.1"),
    ),
    "fedavgm": (
        lambda: flower.FedAvgM(server_momentum=0.9, server_learning_rate=0.5),
        lambda: server("fedavgm", momentum=0.9, learning_rate=0.5),
    ),
    "fedavgm without momentum": (
        lambda: flower.FedAvgM(server_learning_rate=0.5),
        lambda: server("fedavgm", momentum=0.0, learning_rate=0.5),
    ),
}
ADAPTIVE: dict[str, tuple[Callable[[], FlowerBase], Make]] = {
    "fedadam": (
        lambda: flower.FedAdam(eta=ETA, beta_1=BETA1, beta_2=BETA2, tau=TAU),
        bias_corrected,
    ),
    "fedyogi": (
        lambda: flower.FedYogi(eta=ETA, beta_1=BETA1, beta_2=BETA2, tau=TAU),
        lambda _: server("fedyogi", learning_rate=ETA, beta1=BETA1, beta2=BETA2, tau=TAU),
    ),
    "fedadagrad": (
        lambda: flower.FedAdagrad(eta=ETA, tau=TAU),
        lambda _: server("fedadagrad", learning_rate=ETA, beta1=0.0, tau=TAU),
    ),
}
PAPER: dict[str, Make] = {
    "fedadam": lambda _: server("fedadam", learning_rate=ETA),
    "fedyogi": lambda _: server("fedyogi", learning_rate=ETA, tau=0.1),
    "fedadagrad": lambda _: server("fedadagrad", learning_rate=ETA, beta1=0.0, tau=0.1),
}


@pytest.mark.parametrize("name", SAME)
def test_same_algorithm_gives_the_same_tensors_in_every_round(name: str) -> None:
    theirs, ours = SAME[name]
    assert distance(our_path(lambda _: ours()), flowers_path(theirs())) < 1e-6


@pytest.mark.parametrize("name", ADAPTIVE)
def test_adaptive_strategies_agree_when_started_at_v_zero(name: str) -> None:
    theirs, ours = ADAPTIVE[name]
    assert distance(our_path(ours, v_from_zero=True), flowers_path(theirs())) < 1e-6


def test_fedadam_without_the_bias_correction_differs_from_flowers() -> None:
    theirs, _ = ADAPTIVE["fedadam"]
    ours = our_path(
        lambda _: server("fedadam", learning_rate=ETA, beta1=BETA1, beta2=BETA2, tau=TAU),
        v_from_zero=True,
    )
    assert distance(ours, flowers_path(theirs())) > 1e-2


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_form_differs_from_flowers(name: str) -> None:
    larger_tau: dict[str, FlowerBase] = {
        "fedadam": flower.FedAdam(eta=ETA),
        "fedyogi": flower.FedYogi(eta=ETA, tau=0.1),
        "fedadagrad": flower.FedAdagrad(eta=ETA, tau=0.1),
    }
    assert distance(our_path(PAPER[name]), flowers_path(larger_tau[name])) > 1e-3
