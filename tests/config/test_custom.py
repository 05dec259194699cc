"""Parts of one's own are named by dotted path.

What is wrong with one is told with the path, the reason and the fix.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from confide.config.composing.compose import compose
from confide.config.custom import blamed, find_part
from confide.config.strategies.strategy import (
    ComposedStrategyConfig,
    CustomAggregatorConfig,
    CustomStrategyConfig,
    FedProxConfig,
    SgdConfig,
)
from confide.errors import ConfigError, RunFailedError
from confide.server.run_folder import described
from confide.strategies.aggregators import AllUpdates
from confide.strategies.build import build_strategy
from confide.strategies.strategy import Bounds, ClientUpdate

MODULE = """
from dataclasses import replace
from confide.config.strategies.strategy import FedProxConfig
from confide.strategies.aggregators import AllUpdates
from confide.strategies.algorithms.fedavg import fedavg

NUMBER = 3
def nothing(): return None
def raises(trim): raise ValueError(f"trim={trim} is odd")
def proximal(): return replace(fedavg(), objective=FedProxConfig(proximal_mu=0.5))
class Median(AllUpdates):
    def __init__(self): super().__init__(lambda updates, counts: updates.median(dim=0).values)
class FalseSum(Median):
    additive = True
class NoStart:
    additive = False
    def total_weight(self, num_examples): return 1
"""


CUSTOM_RULE = ("strategy/aggregator=custom", "strategy.aggregator._target_=parts_of_mine.Median")


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "parts_of_mine.py").write_text(MODULE)
    (tmp_path / "torn.py").write_text("import parts_of_mine\nraise RuntimeError('half written')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("parts_of_mine", None)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (
            "no_such_module.part",
            r"strategy\._target_=no_such_module\.part: ModuleNotFoundError: .* on PYTHONPATH",
        ),
        (
            "parts_of_mine.absent",
            r"AttributeError: module 'parts_of_mine' has no attribute 'absent'",
        ),
        ("parts_of_mine.NUMBER", r"is int, expected a function or class"),
        ("torn.part", r"RuntimeError: half written"),
    ],
)
def test_part_that_cannot_be_imported_is_refused_with_the_reason(path: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        find_part(path, key="strategy")


@pytest.mark.parametrize(
    "path", ["my_module", "os.system('x')", "a..b", "a.b;c", "a.b " + "c" * 300, "ä.b"]
)
def test_path_that_is_not_dotted_names_is_refused_as_the_config_is_composed(path: str) -> None:
    with pytest.raises(
        ConfigError, match=r"strategy\.aggregator\._target_=.*expected a dotted path"
    ):
        compose(["strategy/aggregator=custom", f'strategy.aggregator._target_="{path}"'])


def test_arguments_without_a_part_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"strategy\.aggregator\._target_ is not set"):
        compose(["strategy/aggregator=custom", "strategy.aggregator.kwargs={trim: 1}"])


def test_custom_rule_has_no_weighting() -> None:
    with pytest.raises(ConfigError, match=r"no setting strategy\.aggregator\.weighting"):
        compose([*CUSTOM_RULE, "strategy.aggregator.weighting=uniform"])


@pytest.mark.parametrize(
    ("part", "kwargs", "words"),
    [
        (
            "nothing",
            {},
            (
                r"returns NoneType, expected a FederatedAlgorithm.*lacks resumable, init, select,"
                r" request, reply_shapes, begin"
            ),
        ),
        (
            "raises",
            {"trim": 3},
            (
                r"parts_of_mine\.raises with strategy\.kwargs=\{'trim': 3\} raises ValueError:"
                r" trim=3 is odd"
            ),
        ),
        ("raises", {"tri": 3}, r"unexpected keyword argument 'tri'"),
        (
            "proximal",
            {},
            r"returns objective=.*kind='fedprox'.*set strategy\.objective to the same",
        ),
    ],
)
def test_what_is_no_strategy_is_refused(part: str, kwargs: dict[str, int], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_strategy(CustomStrategyConfig(_target_=f"parts_of_mine.{part}", kwargs=kwargs))


def test_objective_of_a_strategy_of_ones_own_is_the_configs() -> None:
    objective = FedProxConfig(proximal_mu=0.5)
    algorithm = build_strategy(
        CustomStrategyConfig(_target_="parts_of_mine.proximal", objective=objective)
    )
    assert algorithm.resumable


@pytest.mark.parametrize(
    "reduced", [torch.tensor([torch.nan, 0.0]), torch.zeros(3)], ids=["nan", "shape"]
)
def test_rule_that_makes_no_update_ends_the_run(reduced: torch.Tensor) -> None:
    accumulator = AllUpdates(lambda updates, counts: reduced).start(
        {"w": (2,)}, Bounds(max_value=1.0, max_total_weight=1)
    )
    accumulator.add(ClientUpdate(client="a", tensors={"w": torch.zeros(2)}, num_examples=1))
    with pytest.raises(RunFailedError, match="of 1 updates, expected finite values of shape"):
        accumulator.mean()


def test_rule_sees_updates_in_the_order_of_names() -> None:
    seen: list[list[float]] = []
    rule = AllUpdates(
        lambda updates, counts: (
            seen.append([*updates[:, 0].tolist(), *counts.tolist()]) or updates[0]
        )
    )
    accumulator = rule.start({"w": (1,)}, Bounds(max_value=9.0, max_total_weight=9))
    for client, value in (("b", 2.0), ("a", 1.0)):
        accumulator.add(
            ClientUpdate(
                client=client, tensors={"w": torch.tensor([value])}, num_examples=int(value) + 3
            )
        )
    assert accumulator.mean()["w"].tolist() == [1.0]
    assert seen == [[1.0, 2.0, 4, 5]]


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("nothing", "returns NoneType, expected an Aggregator"),
        ("FalseSum", "additive=True, but sums in CollectedUpdates"),
        ("NoStart", "it lacks start"),
    ],
)
def test_what_is_no_aggregator_is_refused(part: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_strategy(
            ComposedStrategyConfig(
                aggregator=CustomAggregatorConfig(_target_=f"parts_of_mine.{part}"),
                server_optimizer=SgdConfig(),
            )
        )


def test_secrets_among_arguments_are_not_told() -> None:
    secrets = {"api_key": "hunter2", "url": "mysql://ann:hunter2@db/ward", "year": 2026}
    words = "{api_key: hunter2, url: 'mysql://ann:hunter2@db/ward', year: 2026}"
    told = described(
        compose(
            [
                "task=heart_disease",
                "privacy=none",
                "backbone=logistic",
                "tuning=full",
                "data=custom",
                "data._target_=a.b",
                f"data.kwargs={words}",
            ]
        )
    )
    assert told["data"]["kwargs"] == {
        "api_key": "***",
        "url": "mysql://ann:***@db/ward",
        "year": 2026,
    }
    with (
        pytest.raises(ConfigError, match="no connection") as caught,
        blamed("a.b", key="data", kwargs=secrets),
    ):
        raise OSError("no connection")
    assert "hunter2" not in str(caught.value)
