"""Whole runs of a language model that answers: engines, interruptions, groups."""

import json
import re
from pathlib import Path

import pytest
from small_language_models import make_language_model
from stopped_run import Simulate, stopped

from confide.server.report.card import model_card
from confide.server.report.page import report_page
from confide.server.report.read import read_run

PRIVATE = ("privacy=record", "privacy.epsilon=8")


@pytest.fixture
def words(tmp_path: Path) -> tuple[str, ...]:
    """Return the overrides of a run on 48 conversations of three shops."""
    lines = [
        {
            "shop": "abc"[number % 3],
            "customer": f"{number % 3}-{number % 12}",
            "prompt": f"Where is order {number}?",
            "answer": f"Order {number} is on its way.",
        }
        for number in range(48)
    ]
    records = tmp_path / "talks.jsonl"
    records.write_text("".join(json.dumps(line) + "\n" for line in lines))
    backbone = make_language_model(tmp_path / "backbone")
    return (
        "task=conversations",
        "backbone=language_model",
        f"backbone.name={backbone.name}",
        "backbone.trained_layers=1",
        "tuning=lora",
        "tuning.rank=4",
        "task.max_tokens=96",
        "task.outcome.max_tokens=32",
        "data=default",
        f"data.path={records}",
        "data.public=true",
        "data.partition_by=shop",
        "client.local_steps=2",
        "server.num_rounds=3",
        "simulation.baselines=[]",
    )


@pytest.mark.slow
def test_a_run_that_is_stopped_and_worker_processes_give_the_same_model(
    run: Simulate, words: tuple[str, ...]
) -> None:
    expected = run(*words, *PRIVATE, name="undisturbed")
    stopped(run, *words, *PRIVATE, after=2)
    resumed = run(*words, *PRIVATE, resume=True)
    workers = ("simulation.engine=process", "simulation.workers=2")
    spread = run(*words, *PRIVATE, *workers, name="spread")
    for summary in (resumed, spread):
        assert summary["model_sha256"] == expected["model_sha256"]
        assert summary["federated"] == expected["federated"]
    assert expected["privacy"]["epsilon"] == pytest.approx(8.0, rel=0.01)


@pytest.mark.slow
def test_customers_are_protected_and_scores_leave_with_noise(
    run: Simulate, words: tuple[str, ...]
) -> None:
    noisy = ("privacy=group", "privacy.epsilon=100", "data.group_column=customer")
    scored = (
        "privacy.metrics_epsilon=100",
        "data.test=0.4",
        "policy.metrics_privacy=noisy",
        "server.num_rounds=1",
    )
    summary = run(*words, *noisy, *scored)
    assert summary["federated"]["nll_noise"] > 0
    assert summary["federated"]["nll"] > 0


def test_a_card_says_that_a_model_may_recite(
    run: Simulate, words: tuple[str, ...], tmp_path: Path
) -> None:
    run(*words, "privacy=none", "server.num_rounds=1", name="plain")
    read = read_run(tmp_path / "plain")
    assert "<h1>Answers to conversations, trained by 3 institutions" in report_page(read)
    card = model_card(read)
    assert "may recite conversations" in card
    assert "pipeline_tag: text-generation" in card
    assert re.search("in the last layer, trained in", card)
