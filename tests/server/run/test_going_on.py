"""Which of two models a run releases, and what is said of it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from builders import build_plan

from confide.config.privacy import PrivacyConfig
from confide.config.server import ServerConfig
from confide.models.start import parent_of
from confide.protocol.messages import Evaluation
from confide.server.rounds.outcome import Outcome, Predecessor
from confide.server.rounds.state import RunState
from confide.server.run.going_on import BEFORE, NEW, choose, earlier_runs
from confide.server.run.lineage_words import lineage_sentences, release_sentences

PLAN = build_plan()
IF_BETTER = ServerConfig(release="if_better", start_from="RUN")


def scored(accuracy: float, records: int, **more: float) -> Evaluation:
    return {PLAN.task.primary_metric: accuracy, "num_examples": records, **more}


def outcome(
    new: Mapping[str, Mapping[str, Evaluation]], old: Mapping[str, Mapping[str, Evaluation]]
) -> Outcome:
    params = {"w": torch.tensor([2.0])}
    return Outcome(
        state=RunState(server_round=3, params=params, strategy_state={}),
        kept=params,
        kept_round=3,
        clients={"a": 10},
        test=new.get("test", {}),
        old=new.get("old", {}),
        stopped_early=False,
        predecessor=Predecessor(
            params={"w": torch.tensor([1.0])},
            test=old.get("test", {}),
            old=old.get("old", {}),
            tallies={},
        ),
    )


def verdict(found: Mapping[str, Any]) -> str:
    return release_sentences({"release": found})[-1]


@pytest.mark.parametrize(
    ("new", "old", "margin", "released"),
    [
        (0.8, 0.7, 0.0, NEW),
        (0.7, 0.7, 0.0, BEFORE),  # as good is not better
        (0.6, 0.7, 0.0, BEFORE),
        (0.8, 0.7, 0.2, BEFORE),
        (0.95, 0.7, 0.2, NEW),
    ],
)
def test_the_better_one_is_released(new: float, old: float, margin: float, released: str) -> None:
    ended = outcome({"test": {"a": scored(new, 50)}}, {"test": {"a": scored(old, 50)}})
    chosen = choose(ended, PLAN, replace(IF_BETTER, release_margin=margin))
    assert chosen.released == chosen.compared["released"] == released
    kept = chosen.outcome.kept["w"].item()
    assert (kept, chosen.outcome.kept_round) == ((2.0, 3) if released == NEW else (1.0, 0))


def test_old_and_new_records_count_by_their_number() -> None:
    """Better on a few new records, and worse on the many old ones, is worse."""
    ended = outcome(
        {"test": {"a": scored(0.9, 10)}, "old": {"a": scored(0.6, 90)}},
        {"test": {"a": scored(0.5, 10)}, "old": {"a": scored(0.7, 90)}},
    )
    chosen = choose(ended, PLAN, IF_BETTER)
    assert chosen.released == BEFORE
    told = chosen.compared["scores"]
    assert told[NEW]["all_records"]["accuracy"] == pytest.approx(0.63)
    assert told[BEFORE]["all_records"]["accuracy"] == pytest.approx(0.68)
    assert told[NEW]["all_records"]["num_examples"] == 100


def test_without_scores_nothing_is_better() -> None:
    chosen = choose(outcome({}, {}), PLAN, IF_BETTER)
    assert chosen.released == BEFORE
    said = release_sentences({"release": chosen.compared})
    assert said[0].startswith("Nobody told how the new model scores")


def test_always_compares_and_decides_nothing() -> None:
    ended = outcome({"test": {"a": scored(0.6, 50)}}, {"test": {"a": scored(0.7, 50)}})
    chosen = choose(ended, PLAN, ServerConfig(start_from="RUN"))
    assert chosen.released == NEW
    assert chosen.outcome is ended
    assert "though it is not better" in verdict(chosen.compared)


def test_noise_of_the_difference_is_told() -> None:
    name = f"{PLAN.task.primary_metric}_noise"
    ended = outcome(
        {"test": {"a": scored(0.9, 50, **{name: 0.03})}},
        {"test": {"a": scored(0.7, 50, **{name: 0.04})}},
    )
    chosen = choose(ended, PLAN, IF_BETTER)
    assert chosen.compared["noise"] == pytest.approx(1.96 * 0.05, rel=1e-3)
    assert "noise moves the difference by ± 0.098" in verdict(chosen.compared)


def test_a_run_without_a_predecessor_releases_its_own() -> None:
    ended = replace(outcome({}, {}), predecessor=None)
    chosen = choose(ended, PLAN, ServerConfig())
    assert (chosen.outcome, chosen.compared) == (ended, {})


def test_epsilons_of_a_lineage_add_up_unless_a_run_had_none() -> None:
    private = replace(PLAN, privacy=PrivacyConfig(unit="record", epsilon=2.0, delta=1e-5))
    parent = parent_of(private, "a" * 64)
    told = earlier_runs(replace(private, parents=(parent, parent)))
    assert told["claimed"] == {"epsilon": 6.0, "delta": pytest.approx(3e-5), "unit": "record"}
    said = " ".join(lineage_sentences({"lineage": told}))
    assert "itself the last of 2 runs" in said
    assert "at most epsilon 6 at delta 3e-05 a record" in said
    exposed = parent_of(replace(PLAN, privacy=PrivacyConfig(unit="none"), job="bare"), "b" * 64)
    open_one = earlier_runs(replace(private, parents=(exposed, parent)))
    assert open_one["unprotected"] == ["bare"]
    assert "No epsilon covers the whole lineage" in " ".join(
        lineage_sentences({"lineage": open_one})
    )
    assert earlier_runs(PLAN) == {}
