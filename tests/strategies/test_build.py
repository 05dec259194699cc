from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import confide.conf
from confide.config.compose import compose
from confide.config.strategy import FlowerStrategyConfig, StrategyConfig
from confide.errors import ConfigError
from confide.protocol.tensors import Tensors
from confide.strategies.build import build_strategy
from confide.strategies.composed import Strategy
from confide.strategies.fedavg import fedavg, fedavgm
from confide.strategies.feddyn import feddyn
from confide.strategies.fedopt import fedadagrad, fedadam, fedyogi
from confide.strategies.fedprox import fedprox
from confide.strategies.flower_adapter import FlowerStrategy
from confide.strategies.selection import SelectAll, SelectUniform
from confide.strategies.strategy import ClientUpdate, FederatedAlgorithm

QUICK = "experiment=heart_disease"
START: Tensors = {"w": torch.tensor([1.0, -2.0])}
SECRET = bytes(32)
BUILDERS: dict[str, Callable[[], Strategy]] = {
    "fedavg": fedavg,
    "fedavgm": fedavgm,
    "fedprox": lambda: fedprox(proximal_mu=0.01),
    "fedadam": fedadam,
    "fedyogi": fedyogi,
    "fedadagrad": fedadagrad,
    "feddyn": feddyn,
}
YAMLS = sorted(
    file.stem for file in (Path(confide.conf.__file__).parent / "strategy").glob("*.yaml")
)


def from_yaml(*overrides: str) -> FederatedAlgorithm:
    return build_strategy(compose([QUICK, *overrides]).strategy)


def three_rounds(algorithm: FederatedAlgorithm) -> tuple[Tensors, Tensors]:
    params, state = START, algorithm.init(START)
    for server_round, size in enumerate((0.5, -0.25, 1.5), start=1):
        under_way = algorithm.begin(
            params, state, cohort=[1, 3], max_value=1024.0, server_round=server_round
        )
        for client, count, values in (("a", 1, [size, 1.0]), ("b", 3, [0.5, size])):
            under_way.add(
                ClientUpdate(client=client, tensors={"w": torch.tensor(values)}, num_examples=count)
            )
        params, state = under_way.finish()
    return params, state


def test_every_yaml_has_its_builder() -> None:
    assert sorted([*BUILDERS, "custom", "flower"]) == YAMLS


@pytest.mark.parametrize("name", BUILDERS)
def test_yaml_builds_what_the_python_builder_does(name: str) -> None:
    composed, built = from_yaml(f"strategy={name}"), BUILDERS[name]()
    (params, state), (expected, expected_state) = three_rounds(composed), three_rounds(built)
    assert isinstance(composed, Strategy)
    assert composed.objective == built.objective
    assert composed.selection == built.selection == SelectAll()
    assert state.keys() == expected_state.keys()
    assert torch.equal(params["w"], expected["w"])
    assert all(torch.equal(state[key], expected_state[key]) for key in state)


def test_no_two_server_optimizers_behave_alike() -> None:
    ends = {name: tuple(three_rounds(make())[0]["w"].tolist()) for name, make in BUILDERS.items()}
    assert ends["fedprox"] == ends["fedavg"]
    assert len(set(ends.values())) == len(BUILDERS) - 1


@pytest.mark.parametrize("name", ["fedadam", "fedyogi", "fedadagrad"])
def test_settings_of_the_server_optimizer_reach_it(name: str) -> None:
    settings = ["learning_rate=0.5", "beta1=0.5", "tau=0.25"]
    composed = from_yaml(
        f"strategy={name}", *(f"strategy.server_optimizer.{setting}" for setting in settings)
    )
    make = {"fedadam": fedadam, "fedyogi": fedyogi, "fedadagrad": fedadagrad}[name]
    expected = three_rounds(make(learning_rate=0.5, beta1=0.5, tau=0.25))
    assert torch.equal(three_rounds(composed)[0]["w"], expected[0]["w"])


@pytest.mark.parametrize(("name", "make"), [("fedadam", fedadam), ("fedyogi", fedyogi)])
def test_beta2_reaches_the_server_optimizer(name: str, make: Callable[..., Strategy]) -> None:
    composed = from_yaml(f"strategy={name}", "strategy.server_optimizer.beta2=0.5")
    assert torch.equal(three_rounds(composed)[0]["w"], three_rounds(make(beta2=0.5))[0]["w"])


def test_momentum_and_learning_rate_reach_sgd() -> None:
    composed = from_yaml(
        "strategy=fedavgm", "strategy.server_optimizer={momentum: 0.5, learning_rate: 0.25}"
    )
    expected = three_rounds(fedavgm(momentum=0.5, learning_rate=0.25))
    assert torch.equal(three_rounds(composed)[0]["w"], expected[0]["w"])


def test_selection_and_weighting_reach_the_strategy() -> None:
    composed = from_yaml(
        "strategy.selection.kind=uniform",
        "strategy.selection.clients_per_round=2",
        "strategy.aggregator.weighting=uniform",
    )
    assert isinstance(composed, Strategy)
    assert composed.selection == SelectUniform(clients_per_round=2)
    expected = three_rounds(fedavg(weighting="uniform"))
    assert torch.equal(three_rounds(composed)[0]["w"], expected[0]["w"])


def test_flowers_strategy_is_adapted() -> None:
    algorithm = build_strategy(FlowerStrategyConfig(_target_="flwr.serverapp.strategy.FedMedian"))
    assert isinstance(algorithm, FlowerStrategy)
    assert isinstance(from_yaml("strategy=flower"), FlowerStrategy)


def test_arguments_reach_flowers_strategy() -> None:
    with pytest.raises(ConfigError, match="no_such_argument"):
        from_yaml("strategy=flower", "+strategy.kwargs.no_such_argument=1")


def test_config_of_neither_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="choose strategy=fedavg"):
        build_strategy(StrategyConfig())
