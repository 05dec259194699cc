"""Whole simulations in virtual time."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stopped_run import PRIVATE, metrics_of, stopped

from confide.config.composing.compose import compose
from confide.errors import ConfigError

Simulate = Callable[..., dict[str, Any]]
HEART = ("experiment=heart_disease", "simulation.baselines=[]", "server.num_rounds=6")
DELAYS = ("simulation/delays=uniform", "simulation.delays.jitter=0.2")
BUFF = (
    *HEART,
    *DELAYS,
    "strategy=fedbuff",
    "strategy.timing.concurrency=3",
    "strategy.timing.buffer_size=2",
)


def test_delays_change_no_weight(run: Simulate) -> None:
    expected = run(*HEART, name="without")
    delayed = run(*HEART, *DELAYS, name="delayed")
    assert delayed["model_sha256"] == expected["model_sha256"]
    assert delayed["virtual"]["seconds"] > 6.0
    assert "virtual" not in expected


def test_the_same_run_twice_is_equal(run: Simulate, tmp_path: Path) -> None:
    first = run(*BUFF, "simulation.delays.dropout=0.1", name="first")
    second = run(*BUFF, "simulation.delays.dropout=0.1", name="second")
    assert first["model_sha256"] == second["model_sha256"]
    assert first["virtual"] == second["virtual"]
    assert metrics_of(tmp_path / "first") == metrics_of(tmp_path / "second")
    other = run(*BUFF, "simulation.delays.dropout=0.1", "simulation.seed=1", name="other")
    assert other["model_sha256"] != first["model_sha256"]


@pytest.mark.parametrize("strategy", ["rounds", "fedbuff"])
def test_engines_agree(run: Simulate, strategy: str) -> None:
    late = ("simulation.delays.deadline_s=7.5", "simulation.delays.dropout=0.1")
    overrides = BUFF if strategy == "fedbuff" else (*HEART, *DELAYS)
    inline = run(*overrides, *late, *PRIVATE, name="inline")
    process = run(
        *overrides,
        *late,
        *PRIVATE,
        "simulation.engine=process",
        "simulation.workers=2",
        name="process",
    )
    assert process["model_sha256"] == inline["model_sha256"]
    assert process["virtual"] == inline["virtual"]
    assert process["clients"] == inline["clients"]
    assert inline["failures"] == process["failures"] != {}


def test_vectorised_computes_who_answers_in_time(run: Simulate) -> None:
    late = (*HEART, *DELAYS, "privacy=none", "client=table", "simulation.delays.deadline_s=7.5")
    inline = run(*late, name="inline")
    vectorised = run(*late, "simulation.engine=vectorised", name="vectorised")
    assert vectorised["virtual"] == inline["virtual"]
    assert vectorised["failures"] == inline["failures"] != {}
    assert vectorised["federated"]["log_loss"] == pytest.approx(
        inline["federated"]["log_loss"], abs=1e-4
    )


def test_a_buffer_of_everybody_without_delays_is_fedavg(run: Simulate) -> None:
    few = (*HEART, "privacy=none", "client=table")
    rounds = run(*few, "strategy=fedavg", "strategy.aggregator.weighting=uniform", name="rounds")
    buffers = run(
        *few,
        "strategy=fedbuff",
        "strategy.timing.concurrency=4",
        "strategy.timing.buffer_size=4",
        name="buffers",
    )
    assert buffers["model_sha256"] == rounds["model_sha256"]


def test_each_answer_is_a_round_to_its_institution(run: Simulate) -> None:
    most = "strategy.timing.most_answers=5"
    summary = run(*BUFF, *PRIVATE, most, "server.num_rounds=50", name="buffers")
    five = "server.num_rounds=5"
    rounds = run(*HEART, *PRIVATE, "strategy=fedavg", five, name="rounds")
    assert summary["stopped_early"]
    for name, client in summary["clients"].items():
        assert client["rounds"] == 5
        # The noise of five rounds, and five rounds of it
        assert client["epsilon"] == pytest.approx(rounds["clients"][name]["epsilon"], rel=1e-9)


def test_who_is_never_in_time_is_charged(run: Simulate, tmp_path: Path) -> None:
    trace = tmp_path / "times.csv"
    names = ["Cleveland", "Hungary", "Switzerland", "VA Long Beach"]
    rows = [f"{name},{1 if name != 'Hungary' else 99}" for name in names]
    trace.write_text("\n".join(["client,seconds", *rows]))
    summary = run(
        *HEART,
        *PRIVATE,
        "simulation/delays=trace",
        f"simulation.delays.path={trace}",
        "simulation.delays.deadline_s=9",
    )
    hungary = summary["clients"]["Hungary"]
    punctual = run(*HEART, *PRIVATE, name="punctual")["clients"]["Hungary"]
    assert hungary["rounds"] == 0
    assert hungary["epsilon"] == pytest.approx(punctual["epsilon"], rel=1e-9)
    assert summary["virtual"]["seconds"] == 6 * 9.0


@pytest.mark.parametrize("words", [(), PRIVATE])
def test_a_stopped_run_goes_on_to_the_same_weights(
    run: Simulate, tmp_path: Path, words: tuple[str, ...]
) -> None:
    overrides = (*BUFF, *words, "simulation.delays.dropout=0.1")
    expected = run(*overrides, name="undisturbed")
    stopped(run, *overrides, after=2)
    stopped(run, *overrides, after=4, resume=True)
    resumed = run(*overrides, resume=True)
    assert resumed["model_sha256"] == expected["model_sha256"]
    assert resumed["virtual"] == expected["virtual"]
    assert resumed["clients"] == expected["clients"]
    assert metrics_of(tmp_path / "run") == metrics_of(tmp_path / "undisturbed")


def test_report_and_comparison_tell_virtual_time(run: Simulate, tmp_path: Path) -> None:
    from confide.server.report.read import read_run
    from confide.server.report.virtual_time import level, over_time, time_to
    from confide.server.report.write import write_comparison, write_report_or_warn

    run(*BUFF, "privacy=none", name="buffers")
    run(*HEART, *DELAYS, "privacy=none", name="rounds")
    both = [read_run(tmp_path / name) for name in ("buffers", "rounds")]
    for one in both:
        write_report_or_warn(one.folder)
        assert "in virtual time" in (one.folder / "report.html").read_text()
    reached = level(both)
    assert reached is not None
    for one in both:
        curve = over_time(one)
        took = time_to(one, reached)
        assert took is not None
        assert curve[took] >= reached
        assert not any(curve[curve.index < took] >= reached)
    page = tmp_path / "comparison.html"
    write_comparison(both, page, title="Two runs")
    assert "virtual time to accuracy" in page.read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("simulation.delays.dropout=0.1",), r"simulation\.delays\.kind=none: without delays"),
        (
            (
                "strategy/selection=uniform",
                "strategy.selection.clients_per_round=2",
                "strategy.selection.over_selection=2",
            ),
            r"over_selection=2: without delays all answer at once",
        ),
        (
            (
                *DELAYS,
                "strategy/selection=uniform",
                "strategy.selection.clients_per_round=3",
                "strategy.selection.over_selection=2",
                "data.num_clients=4",
            ),
            r"over_selection=2 ask 6, which exceeds data\.num_clients=4",
        ),
        (
            ("strategy=fedbuff", "simulation.faults=[{kind: hangs}]"),
            "simulation.faults: hangs with strategy.timing.kind=fedbuff",
        ),
        (
            (*DELAYS, "simulation.faults=[{kind: hangs}]"),
            r"simulation\.faults: hangs with delays\.kind=uniform",
        ),
        (
            ("strategy=fedbuff", "strategy/objective=scaffold"),
            r"strategy\.objective\.kind=scaffold",
        ),
        (("strategy=fedbuff", "server.keep=best"), r"server\.keep=best: with strategy\.timing"),
        (("strategy=fedasync", "server.min_clients=2"), r"server\.min_clients=2: .* of 1 answers"),
        (
            (
                "strategy=fedbuff",
                "strategy/selection=uniform",
                "strategy.selection.clients_per_round=2",
            ),
            r"strategy\.selection\.kind=uniform: with timing\.kind=fedbuff",
        ),
        (
            ("strategy=fedasync", "strategy/server_optimizer=adam"),
            r"strategy\.server_optimizer\.kind=adam: fedasync mixes models",
        ),
        (
            ("simulation/delays=uniform", "simulation.delays.low_s=20"),
            r"simulation\.delays\.low_s=20 exceeds high_s=10",
        ),
        (
            (*DELAYS, "simulation.delays.availability.on_s=3"),
            r"simulation\.delays\.availability\.on_s=3(\.0)?, off_s=None",
        ),
    ],
)
def test_contradictions_are_told(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose(["experiment=heart_disease", *words])


def test_a_summary_is_json_of_plain_numbers(run: Simulate, tmp_path: Path) -> None:
    run(*BUFF)
    told = json.loads((tmp_path / "run" / "summary.json").read_text())["virtual"]
    assert told.keys() == {"seconds", "staleness_mean", "staleness_max"}
