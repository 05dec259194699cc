import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest
import torch
from builders import build_plan
from small_strategies import EVERYBODY

import confide.conf
from confide.config.composing.compose import compose
from confide.config.fields import setting
from confide.config.models.perceptrons import LogisticConfig
from confide.config.strategies.aggregators import ROBUST
from confide.config.strategies.drift import (
    FedExPConfig,
    FedNovaConfig,
    L2SpConfig,
    MoonConfig,
    QFedAvgConfig,
)
from confide.config.strategies.objectives import GradientAdamConfig
from confide.config.strategies.personal import (
    ApflConfig,
    DittoConfig,
    FineTuningConfig,
    IfcaConfig,
)
from confide.config.strategies.strategy import (
    ALGORITHMS,
    AlgorithmKind,
    FedDynConfig,
    FedProxConfig,
    FlowerStrategyConfig,
    GradientSumConfig,
    NewtonConfig,
    ObjectiveConfig,
    PrivateNewtonConfig,
    ScaffoldConfig,
    StrategyConfig,
)
from confide.errors import ConfigError
from confide.protocol.released_gram import ReleasedGram
from confide.protocol.tensors import Tensors, shapes_of
from confide.server.report.sentences import strategy_name
from confide.strategies.aggregators import WeightedMean
from confide.strategies.algorithm import Algorithm
from confide.strategies.build import build_strategy
from confide.strategies.composed import Strategy
from confide.strategies.flower_adapter import FlowerStrategy
from confide.strategies.parts import build_algorithm
from confide.strategies.robust.mixing import NearestNeighbours
from confide.strategies.robust.rule import RobustRule
from confide.strategies.selections.uniform import SelectAll, SelectUniform
from confide.strategies.server_optimizers import Adaptive, Sgd, adagrad, adam, yogi
from confide.strategies.strategy import (
    ClientUpdate,
    FederatedAlgorithm,
    RoundStart,
    ServerOptimizer,
)
from confide.strategies.timings.fedasync import FedAsync
from confide.strategies.timings.fedbuff import FedBuff
from confide.strategies.timings.rounds import Rounds
from confide.strategies.timings.timing import Timing

QUICK = "experiment=heart_disease"
START: Tensors = {"w": torch.tensor([1.0, -2.0])}
LINEAR: Tensors = {"w": torch.zeros(2, 1), "b": torch.tensor([1.0, -2.0])}
SECRET = bytes(32)
PLAIN, MEAN = ObjectiveConfig(), WeightedMean(weighting="num_examples")
UNIFORM = WeightedMean(weighting="uniform")
ROUNDS = Rounds()
STEP = Sgd(learning_rate=1.0, momentum=0.0)
ADAPTIVE: dict[str, Adaptive] = {
    "fedadam": adam(learning_rate=0.1, beta1=0.9, beta2=0.99, tau=1e-3),
    "fedyogi": yogi(learning_rate=0.1, beta1=0.9, beta2=0.99, tau=1e-3),
    "fedadagrad": adagrad(learning_rate=0.1, beta1=0.9, tau=1e-3),
}


def by_hand(
    optimizer: ServerOptimizer = STEP,
    objective: ObjectiveConfig = PLAIN,
    aggregator: WeightedMean = MEAN,
    timing: Timing = ROUNDS,
) -> Strategy:
    return Strategy(
        selection=SelectAll(),
        aggregator=aggregator,
        server_optimizer=optimizer,
        objective=objective,
        timing=timing,
    )


BUILT: dict[str, Strategy] = {
    "default": by_hand(),
    "fedavg": by_hand(),
    "fedavgm": by_hand(Sgd(learning_rate=1.0, momentum=0.9)),
    "fedprox": by_hand(objective=FedProxConfig(proximal_mu=0.01)),
    "feddyn": by_hand(objective=FedDynConfig(alpha=0.1), aggregator=UNIFORM),
    "scaffold": by_hand(objective=ScaffoldConfig(), aggregator=UNIFORM),
    "fednova": by_hand(objective=FedNovaConfig()),
    "fedexp": by_hand(objective=FedExPConfig(epsilon=1e-3)),
    "qfedavg": by_hand(objective=QFedAvgConfig(q=1.0)),
    "l2_sp": by_hand(objective=L2SpConfig(alpha=0.01)),
    "moon": by_hand(objective=MoonConfig(mu=1.0, temperature=0.5)),
    "fedbuff": by_hand(aggregator=UNIFORM, timing=FedBuff(concurrency=10, buffer_size=10)),
    "fedasync": by_hand(aggregator=UNIFORM, timing=FedAsync(concurrency=10, mixing=0.6)),
    "fine_tuning": by_hand(objective=FineTuningConfig()),
    "ditto": by_hand(objective=DittoConfig()),
    "apfl": by_hand(objective=ApflConfig()),
    "ifca": by_hand(objective=IfcaConfig()),
    "gradient_sum": by_hand(objective=GradientSumConfig()),
    "gradient_adam": by_hand(objective=GradientAdamConfig()),
    "newton": by_hand(objective=NewtonConfig()),
    "private_newton": by_hand(objective=PrivateNewtonConfig()),
    **{name: by_hand(optimizer) for name, optimizer in ADAPTIVE.items()},
}
# What a strategy asks of clients
NEEDS = {
    "strategy=gradient_sum": ["client=private_table"],
    "strategy=gradient_adam": ["client=gradients"],
    "strategy=private_newton": ["client=private_newton", "privacy=record"],
    "strategy=moon": ["backbone=mlp", "client.optimizer.kind=sgd"],
}
PLAN = build_plan(
    backbone=LogisticConfig(row_norm=3.0),
    num_rounds=3,
    gram=ReleasedGram(job="gram", epsilon=0.5, sha256="0" * 64),
)
MATRIX = {"gram": torch.eye(2).double(), "of": torch.tensor([4.0, 2.0])}
LAYERS = ("fedper", "fedbn", "fedrep")
YAMLS = sorted(
    file.stem for file in (Path(confide.conf.__file__).parent / "strategy").glob("*.yaml")
)


def from_yaml(*overrides: str) -> FederatedAlgorithm:
    needed = [need for word in overrides for need in NEEDS.get(word, [])]
    return build_strategy(compose([QUICK, *needed, *overrides]).strategy)


def three_rounds(algorithm: FederatedAlgorithm, start: Tensors = START) -> tuple[Tensors, Tensors]:
    params, state = start, algorithm.init(start)
    for server_round, size in enumerate((0.5, -0.25, 1.5), start=1):
        under_way = algorithm.begin(
            RoundStart(
                params=params,
                state=state,
                cohort=[1, 3],
                max_value=1024.0,
                server_round=server_round,
                plan=PLAN,
                released=MATRIX,
            )
        )
        for client, count, values in (("a", 1, [size, 1.0]), ("b", 3, [0.5, size])):
            shapes = algorithm.reply_shapes(shapes_of(start))
            tensors = {
                key: torch.tensor(values).repeat(math.prod(shape))[: math.prod(shape)].view(shape)
                for key, shape in shapes.items()
            }
            under_way.add(ClientUpdate(client=client, tensors=tensors, num_examples=count))
        params, state = under_way.finish(EVERYBODY)
    return params, state


def test_every_yaml_is_built_by_hand_here() -> None:
    # Boosting's model is trees; robust rules, adapters and layers that stay have their own tests.
    robust = [name for name in ROBUST if name in YAMLS]
    assert len(robust) == len(ROBUST)
    apart = ("boosting", "custom", "fedex_lora", "flora", "flower")
    assert sorted([*BUILT, *robust, *LAYERS, *apart]) == YAMLS


@pytest.mark.parametrize("name", ROBUST)
def test_a_robust_strategy_has_its_rule(name: str) -> None:
    settings = [f"strategy={name}", "strategy.aggregator.num_hostile=0"]
    strategy = from_yaml(*settings, "strategy/mixing=nearest_neighbours")
    assert isinstance(strategy, Strategy)
    assert isinstance(strategy.aggregator, RobustRule)
    assert (strategy.aggregator.kind, strategy.aggregator.num_hostile) == (name, 0)
    assert isinstance(strategy.aggregator.mixing, NearestNeighbours)
    kind = "client_momentum" if name == "centered_clipping" else "plain"
    assert strategy.objective.kind == kind
    assert strategy_name(asdict(compose([QUICK, *settings]).strategy)).endswith(ROBUST[name].name)


@pytest.mark.parametrize("name", BUILT)
def test_yaml_builds_the_parts_that_it_names(name: str) -> None:
    composed, built = from_yaml(f"strategy={name}"), BUILT[name]
    start = LINEAR if "newton" in name else START
    params, state = three_rounds(composed, start)
    expected, expected_state = three_rounds(built, start)
    assert isinstance(composed, Strategy)
    assert composed.objective == built.objective
    assert composed.selection == built.selection == SelectAll()
    assert composed.timing == built.timing
    assert state.keys() == expected_state.keys()
    assert torch.equal(params["w"], expected["w"])
    assert all(torch.equal(state[key], expected_state[key]) for key in state)


def test_no_two_server_optimizers_behave_alike() -> None:
    names = ("fedavg", "fedavgm", "feddyn", *ADAPTIVE)
    assert len({tuple(three_rounds(BUILT[name])[0]["w"].tolist()) for name in names}) == len(names)


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        ("fedadam", adam(learning_rate=0.5, beta1=0.5, beta2=0.99, tau=0.25)),
        ("fedyogi", yogi(learning_rate=0.5, beta1=0.5, beta2=0.99, tau=0.25)),
        ("fedadagrad", adagrad(learning_rate=0.5, beta1=0.5, tau=0.25)),
    ],
)
def test_settings_of_the_server_optimizer_reach_it(name: str, optimizer: Adaptive) -> None:
    settings = ["learning_rate=0.5", "beta1=0.5", "tau=0.25"]
    composed = from_yaml(
        f"strategy={name}", *(f"strategy.server_optimizer.{setting}" for setting in settings)
    )
    expected = three_rounds(by_hand(optimizer))
    assert torch.equal(three_rounds(composed)[0]["w"], expected[0]["w"])


@pytest.mark.parametrize(("name", "make"), [("fedadam", adam), ("fedyogi", yogi)])
def test_beta2_reaches_the_server_optimizer(name: str, make: Callable[..., Adaptive]) -> None:
    composed = from_yaml(f"strategy={name}", "strategy.server_optimizer.beta2=0.5")
    expected = by_hand(make(learning_rate=0.1, beta1=0.9, beta2=0.5, tau=1e-3))
    assert torch.equal(three_rounds(composed)[0]["w"], three_rounds(expected)[0]["w"])


def test_momentum_and_learning_rate_reach_sgd() -> None:
    composed = from_yaml(
        "strategy=fedavgm", "strategy.server_optimizer={momentum: 0.5, learning_rate: 0.25}"
    )
    expected = three_rounds(by_hand(Sgd(momentum=0.5, learning_rate=0.25)))
    assert torch.equal(three_rounds(composed)[0]["w"], expected[0]["w"])


def test_selection_and_weighting_reach_the_strategy() -> None:
    composed = from_yaml(
        "strategy/selection=uniform",
        "strategy.selection.clients_per_round=2",
        "strategy.aggregator.weighting=uniform",
    )
    assert isinstance(composed, Strategy)
    assert composed.selection == SelectUniform(clients_per_round=2)
    expected = three_rounds(by_hand(aggregator=UNIFORM))
    assert torch.equal(three_rounds(composed)[0]["w"], expected[0]["w"])


def test_parts_mix() -> None:
    composed = from_yaml(
        "strategy=fedadam", "strategy/objective=fedprox", "strategy.objective.proximal_mu=0.5"
    )
    assert isinstance(composed, Strategy)
    assert composed.objective == FedProxConfig(proximal_mu=0.5)
    assert isinstance(composed.server_optimizer, Adaptive)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["strategy=fedprox", "strategy.server_optimizer.beta1=0.5"],
            r"there is no setting strategy\.server_optimizer\.beta1",
        ),
        (
            ["strategy.server_optimizer.kind=yogi"],
            r"kind=yogi: expected one of sgd\. Chosen by its group: strategy/server_optimizer=KIND",
        ),
        (
            ["strategy/server_optimizer=rmsprop"],
            r"Choose one of: adagrad, adam, sgd, yogi",
        ),
    ],
)
def test_setting_of_another_kind_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose([QUICK, *overrides])


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["strategy=fedavg"], "FedAvg"),
        (["strategy=fedavgm"], "FedAvgM"),
        (["strategy=fedprox"], "FedProx"),
        (["strategy=fedadam"], "FedAdam"),
        (["strategy=scaffold"], "SCAFFOLD"),
        (["strategy=fednova"], "FedNova"),
        (["strategy=fednova", "strategy/server_optimizer=adam"], "FedAdam with normalised updates"),
        (["strategy=qfedavg"], "q-FedAvg"),
        (["strategy=ifca"], "IFCA"),
        (["client=private_table"], "FedSGD"),
        (["strategy=fedadam", "strategy/objective=fedprox"], "FedAdam with a proximal term"),
        (
            ["strategy=fedprox", "strategy.server_optimizer.momentum=0.9"],
            "FedAvgM with a proximal term",
        ),
        (
            ["strategy/aggregator=custom", "strategy.aggregator._target_=rules.trimmed_mean"],
            "FedAvg, aggregated by trimmed_mean",
        ),
        (["strategy=flower"], "FedAvg"),
        (["strategy=custom", "strategy._target_=mine.signs"], "signs"),
    ],
)
def test_strategy_says_its_own_name(overrides: list[str], name: str) -> None:
    assert strategy_name(asdict(compose([QUICK, *overrides]).strategy)) == name


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


@dataclass
class ListedConfig(ObjectiveConfig):
    kind: str = setting("listed", "An algorithm with a list.", choices=("listed",))
    layers: list[str] = field(default_factory=list)


def build_listed(*, layers: list[str]) -> Algorithm:
    return Algorithm(finished_fn=lambda state: bool(layers))


def test_settings_of_an_algorithm_may_be_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = AlgorithmKind(schema=ListedConfig, builder=f"{__name__}.build_listed")
    monkeypatch.setitem(ALGORITHMS, "listed", kind)
    assert build_algorithm(ListedConfig(layers=["a"])).finished_fn({})
    assert not build_algorithm(ListedConfig()).finished_fn({})
