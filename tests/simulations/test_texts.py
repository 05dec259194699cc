"""Whole runs of a model that writes texts from others: numbers in English and German words."""

import json
from pathlib import Path

import pytest
from small_seq2seq import ENGLISH, GERMAN, in_words, make_seq2seq
from stopped_run import Simulate, stopped

from confide.server.report.card import model_card
from confide.server.report.page import report_page
from confide.server.report.read import read_run

PRIVATE = ("privacy=record", "privacy.epsilon=8")


@pytest.fixture
def words(tmp_path: Path) -> tuple[str, ...]:
    """Return the overrides of a run on 48 numbers of three offices."""
    lines = [
        {
            "office": "abc"[number % 3],
            "person": f"{number % 3}-{number % 12}",
            "source": in_words(number, ENGLISH),
            "target": in_words(number, GERMAN),
        }
        for number in range(10, 58)
    ]
    records = tmp_path / "numbers.jsonl"
    records.write_text("".join(json.dumps(line) + "\n" for line in lines))
    backbone = make_seq2seq(tmp_path / "backbone")
    return (
        "task=translation",
        "backbone=seq2seq",
        f"backbone.name={backbone.name}",
        "tuning=full",
        "task.max_tokens=16",
        "task.outcome.max_tokens=16",
        "data=default",
        f"data.path={records}",
        "data.public=true",
        "data.partition_by=office",
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
def test_people_are_protected_and_scores_leave_with_noise(
    run: Simulate, words: tuple[str, ...]
) -> None:
    noisy = ("privacy=group", "privacy.epsilon=100", "data.group_column=person")
    scored = (
        "privacy.metrics_epsilon=100",
        "data.test=0.4",
        "policy.metrics_privacy=noisy",
        "server.num_rounds=1",
    )
    summary = run(*words, *noisy, *scored)
    assert {"target_nll_noise", "chrf_noise"} <= summary["federated"].keys()
    assert 0 <= summary["federated"]["chrf"] <= 100


def test_card_and_report_name_the_task_and_that_it_may_recite(
    run: Simulate, words: tuple[str, ...], tmp_path: Path
) -> None:
    summary = run(*words, "privacy=none", "server.num_rounds=1", name="plain")
    assert {"target_nll", "bleu", "chrf", "exact_match"} <= summary["federated"].keys()
    read = read_run(tmp_path / "plain")
    assert "<h1>Texts from texts, trained by 3 institutions" in report_page(read)
    card = model_card(read)
    assert "may recite" in card
    assert "pipeline_tag: text2text-generation" in card
