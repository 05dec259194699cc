import itertools
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from small_strategies import took_part

from confide.errors import ConfigError, RunFailedError
from confide.flower.messages import task_identity
from confide.protocol.tensors import Tensors
from confide.strategies.algorithms.fedavg import fedavg
from confide.strategies.flower_adapter import FlowerStrategy, load_flower_strategy
from confide.strategies.strategy import ClientUpdate, FederatedAlgorithm, RoundStart

FLOWER = "flwr.serverapp.strategy"
START: Tensors = {"b": torch.tensor(0.5), "w": torch.tensor([1.0, 2.0])}
UPDATES = [
    ClientUpdate(
        client="a", tensors={"b": torch.tensor(1.0), "w": torch.tensor([1.0, 0.0])}, num_examples=1
    ),
    ClientUpdate(
        client="b",
        tensors={"b": torch.tensor(3.0), "w": torch.tensor([2.0, 5.0])},
        num_examples=100,
    ),
    ClientUpdate(
        client="c",
        tensors={"b": torch.tensor(2.0), "w": torch.tensor([10.0, -1.0])},
        num_examples=10,
    ),
]
CLIENTS, SECRET = ["c", "a", "b"], bytes(32)


@pytest.fixture(autouse=True)
def _identity() -> Iterator[None]:
    with task_identity():
        yield


@pytest.fixture
def _no_naps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{FLOWER}.strategy_utils.sleep", lambda seconds: None)


def adapted(name: str, **kwargs: Any) -> FlowerStrategy:
    algorithm = FlowerStrategy(load_flower_strategy(f"{FLOWER}.{name}", kwargs))
    algorithm.init(START)
    return algorithm


def one_round(
    algorithm: FederatedAlgorithm, updates: list[ClientUpdate], server_round: int = 1
) -> Tensors:
    algorithm.select(CLIENTS, secret=SECRET, server_round=server_round)
    under_way = algorithm.begin(
        RoundStart(
            params=START, state={}, cohort=[1, 100, 10], max_value=1024.0, server_round=server_round
        )
    )
    for update in updates:
        under_way.add(update)
    return under_way.finish(took_part(updates, 3))[0]


def test_fedmedian_gives_the_median_of_the_weights() -> None:
    tensors = one_round(adapted("FedMedian"), UPDATES)
    assert list(tensors) == ["b", "w"]
    assert tensors["b"].shape == ()
    assert tensors["b"].item() == 2.5
    assert tensors["w"].tolist() == [3.0, 2.0]
    assert tensors["w"].dtype == torch.float32


@pytest.mark.parametrize("name", ["FedAvg", "FedMedian"])
def test_order_of_replies_does_not_matter(name: str) -> None:
    expected = one_round(adapted(name), UPDATES)
    for order in itertools.permutations(UPDATES):
        tensors = one_round(adapted(name), list(order))
        assert all(torch.equal(tensors[key], expected[key]) for key in expected)


def test_flowers_fedavg_agrees_with_the_composed_one() -> None:
    theirs, ours = one_round(adapted("FedAvg"), UPDATES), one_round(fedavg(), UPDATES)
    for name in START:
        torch.testing.assert_close(theirs[name], ours[name], rtol=0, atol=1e-6)


def test_state_hidden_in_the_strategy_lives_from_round_to_round() -> None:
    algorithm = adapted("FedAvgM", server_momentum=0.5)
    update = [
        ClientUpdate(
            client=c, tensors={n: torch.ones_like(v) for n, v in START.items()}, num_examples=1
        )
        for c in "ab"
    ]
    first = one_round(algorithm, update)
    algorithm.select(CLIENTS, secret=SECRET, server_round=2)
    under_way = algorithm.begin(
        RoundStart(params=first, state={}, cohort=[1, 1], max_value=1024.0, server_round=2)
    )
    for one in update:
        under_way.add(one)
    second, _ = under_way.finish(took_part("ab", 3))
    assert first["w"].tolist() == [2.0, 3.0]
    assert second["w"].tolist() == [3.5, 4.5]


def test_all_clients_are_selected_by_name() -> None:
    assert adapted("FedAvg").select(CLIENTS, secret=SECRET, server_round=1) == ["a", "b", "c"]


def test_sampling_repeats_for_a_secret_and_leaves_pythons_generator_alone() -> None:
    algorithm = adapted("FedAvg", fraction_train=0.5)
    many, before = [f"bank-{n}" for n in range(8)], random.getstate()
    chosen = [algorithm.select(many, secret=SECRET, server_round=r) for r in (1, 2, 3, 4)]
    again = [algorithm.select(many[::-1], secret=SECRET, server_round=r) for r in (1, 2, 3, 4)]
    assert random.getstate() == before
    assert chosen == again
    assert all(len(names) == 4 for names in chosen)
    assert len({tuple(names) for names in chosen}) > 1


def test_strategy_that_asks_its_clients_for_more_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"FedProx asks its clients for proximal-mu.*strategy=fedprox"
    ):
        adapted("FedProx", proximal_mu=0.1).select(CLIENTS, secret=SECRET, server_round=1)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (f"{FLOWER}.FedNothing", "FedNothing"),
        ("no_such_package.FedAvg", "no_such_package"),
        ("FedAvg", "expected such as flwr.serverapp.strategy.FedMedian"),
        ("pathlib.Path", "is no flwr.serverapp.strategy.Strategy"),
        (f"{FLOWER}.strategy_utils.sample_nodes", "is no flwr.serverapp.strategy.Strategy"),
    ],
)
def test_target_that_names_no_strategy_is_refused(target: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_flower_strategy(target, {})


def test_arguments_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="no_such_argument"):
        load_flower_strategy(f"{FLOWER}.FedAvg", {"no_such_argument": 1})


def test_abstract_strategy_is_refused() -> None:
    with pytest.raises(ConfigError, match="abstract"):
        load_flower_strategy(f"{FLOWER}.Strategy", {})


@pytest.mark.usefixtures("_no_naps")
@pytest.mark.timeout(20)
def test_strategy_that_waits_for_more_clients_than_there_are_is_refused() -> None:
    started = time.monotonic()
    with pytest.raises(
        ConfigError, match=r"more clients than the 3 there are; lower its min_available_nodes"
    ):
        adapted("FedAvg", min_available_nodes=4).select(CLIENTS, secret=SECRET, server_round=1)
    assert time.monotonic() - started < 10


def test_round_without_an_answer_fails() -> None:
    with pytest.raises(RunFailedError, match="aggregated nothing in round 1"):
        one_round(adapted("FedAvg"), [])


@pytest.mark.parametrize(
    ("name", "kwargs", "words"),
    [
        ("FedXgbBagging", {}, "exactly one Array"),
        ("FedAvg", {"weighted_by_key": "patients"}, "Missing required key `patients`"),
        ("QFedAvg", {"client_learning_rate": 0.1, "q": 1.0}, "cannot average what institutions"),
        ("FedProx", {}, "proximal-mu"),
    ],
)
def test_strategy_that_cannot_average_updates_is_refused_when_it_is_made(
    name: str, kwargs: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        load_flower_strategy(f"{FLOWER}.{name}", kwargs)


def test_trial_leaves_no_state_behind() -> None:
    """A round of one update after it is what it would be without."""
    strategy = load_flower_strategy(f"{FLOWER}.FedAdam", {})
    assert strategy.current_arrays is None
    assert strategy.m_t is None
