"""Where others' noise is counted on: refused with the reason wherever it does not add up."""

from collections.abc import Sequence

import pytest

from confide.config.client import ClientConfig, OptimizerConfig
from confide.config.composing.compose import compose
from confide.config.privacy import BudgetConfig, PrivacyConfig
from confide.config.strategies.codecs import CodecConfig
from confide.config.strategies.peers import ADDS_UP, peers_problem
from confide.config.strategies.strategy import ALGORITHMS, ObjectiveConfig
from confide.config.tunings.lora import LoraConfig
from confide.config.tunings.tuning import TuningConfig
from confide.errors import ConfigError
from confide.strategies.algorithm import local_steps
from confide.strategies.parts import build_algorithm

ONE_STEP = ClientConfig(local_steps=1)
FULL = TuningConfig(kind="full")
PEERS = (
    "experiment=synthetic_logistic",
    "privacy=record",
    "strategy=fedavg",
    "client=table",
    "client.local_steps=1",
    "aggregation=secure",
    "privacy.trust=peers",
    "privacy.honest_peers=3",
)


def problem(
    objective: str = "plain",
    client: ClientConfig = ONE_STEP,
    tuning: TuningConfig = FULL,
    upload: str = "none",
) -> str | None:
    return peers_problem(
        ALGORITHMS[objective].schema(), client, tuning=tuning, upload=CodecConfig(kind=upload)
    )


@pytest.mark.parametrize("objective", ADDS_UP)
def test_one_plain_step_a_round_adds_up(objective: str) -> None:
    assert problem(objective) is None


@pytest.mark.parametrize("objective", sorted(set(ADDS_UP) - {"fedprox"}))
def test_what_adds_up_takes_plain_steps_at_the_institution(objective: str) -> None:
    settings: ObjectiveConfig = ALGORITHMS[objective].schema()
    assert build_algorithm(settings).client is local_steps


@pytest.mark.parametrize("objective", sorted(set(ALGORITHMS) - set(ADDS_UP)))
def test_algorithms_that_send_or_keep_more_do_not_add_up(objective: str) -> None:
    assert f"objective.kind={objective} sends or keeps" in str(problem(objective))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"client": ClientConfig(local_steps=2)}, "local_steps=2: later gradients"),
        ({"client": ClientConfig()}, "local_steps=None: later gradients"),
        (
            {"client": ClientConfig(local_steps=1, optimizer=OptimizerConfig(kind="adam"))},
            "kind=adam divides",
        ),
        ({"client": ClientConfig(local_steps=1, steps_within_s=2.0)}, "steps_within_s=2"),
        ({"tuning": LoraConfig(ranks={"a": 2})}, "lower ranks add no noise"),
        ({"upload": "quantised"}, "upload.kind=quantised"),
    ],
)
def test_what_does_not_add_up_says_why(settings: dict[str, object], reason: str) -> None:
    assert reason in str(problem(**settings))  # type: ignore[arg-type]


def test_momentum_and_decay_of_one_step_add_up() -> None:
    optimizer = OptimizerConfig(momentum=0.9, weight_decay=0.1)
    assert problem(client=ClientConfig(local_steps=1, optimizer=optimizer)) is None


def test_a_run_may_count_on_others() -> None:
    config = compose(list(PEERS))
    assert (config.privacy.trust, config.privacy.honest) == ("peers", 3)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (["client.local_steps=2"], "total variation 0.313 where noise of all 20 would allow 0.101"),
        (["aggregation=plain"], "the coordinator sees each update"),
        (["privacy.honest_peers=null"], "set both, or neither"),
        (["privacy.trust=alone"], "set both, or neither"),
        (["privacy.unit=none"], "without a protected unit there is no noise"),
        (["strategy=scaffold"], "objective.kind=scaffold sends or keeps"),
    ],
)
def test_a_run_that_counts_on_others_in_vain_is_refused(
    changed: Sequence[str], reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        compose([*PEERS, *changed])


def test_alone_is_the_default() -> None:
    assert (PrivacyConfig().trust, PrivacyConfig().honest) == ("alone", 1)
    assert not list(PrivacyConfig().problems())


@pytest.mark.parametrize(("alone", "is_sound"), [(3.0, True), (1.0, False), (None, False)])
def test_a_budget_with_peers_is_no_larger_than_the_one_without(
    alone: float | None, is_sound: bool
) -> None:
    assert is_sound == (not list(BudgetConfig(epsilon=alone, epsilon_with_peers=2.0).problems()))
