"""Whole runs with hostile institutions and robust rules."""

from pathlib import Path

import pytest
from stopped_run import PRIVATE, Simulate, stopped

from confide.config.composing.compose import compose
from confide.errors import ConfigError
from confide.server.report.write import write_report_or_warn

TEN = (
    "experiment=heart_disease",
    "data.partitioner=iid",
    "data.partition_by=null",
    "data.num_clients=10",
    "simulation.baselines=[]",
    "server.num_rounds=4",
)
PLAIN = (*TEN, "privacy=none")
RULES = (
    "median",
    "trimmed_mean",
    "krum",
    "multi_krum",
    "geometric_median",
    "norm_bounded",
    "centered_clipping",
)


def attacked(kind: str, *others: str) -> tuple[str, ...]:
    return (f"simulation.attack.kind={kind}", "simulation.attack.num_clients=2", *others)


def test_the_hostile_are_the_most_set_aside(run: Simulate) -> None:
    summary = run(
        *PLAIN,
        *attacked("sign_flip", "strategy=multi_krum", "strategy.aggregator.num_hostile=2"),
    )
    hostile = summary["attack"]["clients"]
    assert len(hostile) == 2
    mostly = {name: line["mostly"] for name, line in summary["set_aside"].items()}
    assert {name for name, rounds in mostly.items() if rounds == 4} == set(hostile)
    # Multi-Krum keeps n - f of n
    assert sum(mostly.values()) == 4 * 2


def test_a_rule_withstands_what_the_mean_does_not(run: Simulate) -> None:
    flip = attacked("sign_flip", "simulation.attack.scale=20")
    alone = run(*PLAIN, name="no attack")["federated"]["log_loss"]
    mean = run(*PLAIN, *flip, name="mean")["federated"]["log_loss"]
    robust = ("strategy=trimmed_mean", "strategy.aggregator.num_hostile=2")
    trimmed = run(*PLAIN, *flip, *robust, name="trimmed")["federated"]["log_loss"]
    assert trimmed < alone + 0.1
    assert mean > alone + 0.3


@pytest.mark.parametrize("rule", RULES)
def test_a_stopped_run_goes_on_to_the_same_weights(run: Simulate, rule: str) -> None:
    overrides = (*TEN, *attacked("alie", f"strategy={rule}"))
    undisturbed = run(*overrides, name="undisturbed")
    stopped(run, *overrides, after=2)
    resumed = run(*overrides, resume=True)
    assert resumed["model_sha256"] == undisturbed["model_sha256"]
    assert resumed["set_aside"] == undisturbed["set_aside"]


@pytest.mark.parametrize("mixing", ["bucketing", "nearest_neighbours"])
def test_engines_give_the_same_weights(run: Simulate, mixing: str) -> None:
    overrides = (*PLAIN, *attacked("gaussian", "strategy=median", f"strategy/mixing={mixing}"))
    inline = run(*overrides, name="inline")
    workers = ("simulation.engine=process", "simulation.workers=2")
    assert run(*overrides, *workers, name="process")["model_sha256"] == inline["model_sha256"]


def test_under_privacy_a_rule_costs_nothing_more(run: Simulate) -> None:
    plain = run(*TEN, *PRIVATE, "strategy=fedavg", name="mean")["clients"]
    robust = run(*TEN, *PRIVATE, "strategy=centered_clipping", name="robust")["clients"]
    assert {name: line["epsilon"] for name, line in robust.items()} == {
        name: line["epsilon"] for name, line in plain.items()
    }


def test_a_backdoor_is_measured(run: Simulate, tmp_path: Path) -> None:
    summary = run(*PLAIN, *attacked("backdoor"), name="run")
    found = summary["attack"]
    assert found["success"] > 0.9 > 0.5 > found["without_trigger"]
    assert summary["baselines"] == {}
    write_report_or_warn(tmp_path / "run")
    assert "were taken for its target" in (tmp_path / "run" / "report.html").read_text()


def test_flipped_labels_are_trained_on_by_the_hostile_alone(run: Simulate) -> None:
    summary = run(*PLAIN, *attacked("label_flip"))
    clean = run(*PLAIN, name="clean")
    changed = {
        name
        for name, line in summary["clients"].items()
        if line["labels"] != clean["clients"][name]["labels"]
    }
    # Counts tell a flip unless there are as many of either class
    assert changed <= set(summary["attack"]["clients"])
    assert summary["model_sha256"] != clean["model_sha256"]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("strategy=bulyan", "strategy.aggregator.num_hostile=2"), "needs 11 .* at most 1"),
        (
            (
                "strategy=trimmed_mean",
                "strategy.aggregator.num_hostile=3",
                "strategy/mixing=bucketing",
            ),
            "needs 7 .* at most 2",
        ),
        (("strategy/mixing=bucketing",), "mixing.kind=bucketing goes before a robust rule"),
        (
            ("strategy=multi_krum", "strategy.aggregator.num_kept=10"),
            "num_kept=10 of 10 updates .* lower it",
        ),
        (
            ("strategy=fedbuff", "simulation.attack.kind=alie"),
            "attack.kind=alie replaces updates .*timing.kind=fedbuff has no rounds",
        ),
        (
            ("simulation.attack.kind=label_flip", "simulation.baselines=[local]"),
            "attack.kind=label_flip changes records",
        ),
    ],
)
def test_what_cannot_be_withstood_is_refused(overrides: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        compose([*PLAIN, *overrides])


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("simulation.attack.clients=[nobody]",), "attack.clients names nobody"),
        (("simulation.attack.num_clients=10",), "nobody honest is left"),
        (("simulation.attack.kind=backdoor", "simulation.attack.target=maybe"), "expected one of"),
    ],
)
def test_attacks_that_cannot_be_are_refused(
    run: Simulate, overrides: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        run(*PLAIN, "simulation.attack.kind=gaussian", *overrides)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ("simulation.attack.num_clients=10", "data.num_clients=10"),
            r"attack\.num_clients=10: with",
        ),
        (("simulation.attack.kind=backdoor", "simulation.attack.target=maybe"), "expected one of"),
    ],
)
def test_what_needs_no_records_is_refused_at_composition(
    overrides: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        compose([*PLAIN, "simulation.attack.kind=gaussian", *overrides])
