"""The section on a classification's test: the summary's figures, in words, tables and marks."""

import copy
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from report_run import run

from confide.server.report.card import model_card
from confide.server.report.page import report_page
from confide.server.report.read import RunFiles, read_run
from confide.server.report.sections import class_sentences
from confide.server.report.sections.evaluation import evaluation_blocks

NASTY = '<img src=x onerror=alert(1)> | "co"'
SECTION = "<h2>How far the model can be relied on"


@pytest.fixture(scope="module")
def noisy_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noisy scores at epsilon 8, of three metrics."""
    return run(
        tmp_path_factory.mktemp("noisy"),
        "privacy=record",
        "privacy.epsilon=8",
        "policy.metrics_privacy=noisy",
        "task.metrics=[accuracy,auc,brier]",
        "report.costs.false_negative=5",
        "simulation.baselines=[]",
    )


def changed(of: RunFiles, **changes: Any) -> RunFiles:
    """Return a run whose evaluation was changed."""
    summary = copy.deepcopy(dict(of.summary))
    summary["evaluation"] |= changes
    return dataclasses.replace(of, summary=summary)


def said(of: RunFiles) -> str:
    blocks = evaluation_blocks(of)
    return "\n".join(text for it in blocks for text in (*it.paragraphs, *it.notes))


def tables(of: RunFiles) -> list[list[list[str]]]:
    return [
        [[cell.text for cell in row.cells] for row in table.rows]
        for block in evaluation_blocks(of)
        for table in block.tables
    ]


def test_page_has_every_metric_with_its_interval(plain_run: Path) -> None:
    of = read_run(plain_run)
    metrics = of.summary["evaluation"]["metrics"]
    assert set(metrics) == {"accuracy", "macro_f1", "auc", "log_loss"}
    page = report_page(of)
    assert SECTION in page
    for name, figure in metrics.items():
        low, high = figure["interval"]
        assert low < figure["value"] < high
        assert f"<td>{name}</td><td>{figure['value']:.3f} <small>{low:.3f}–{high:.3f}" in page


def test_page_marks_the_threshold_that_costs_say_and_tells_both_views(plain_run: Path) -> None:
    of = read_run(plain_run)
    thresholds = of.summary["evaluation"]["thresholds"]
    row = next(row for row in thresholds["rows"] if row["chosen"])
    best = [
        row
        for block in evaluation_blocks(of)
        for table in block.tables
        for row in table.rows
        if row.best
    ]
    assert [row.cells[0].text for row in best] == [f"{thresholds['chosen']:.3f}"]
    page = said(of)
    left = class_sentences.percent(1 - row["flagged"]["value"])
    assert f"Below {row['threshold']:.3f} are {left}" in page
    assert f"At or above {row['threshold']:.3f} are" in page
    # The same words for a bank's records and a clinic's
    assert not re.search(r"\b(bank|clinic|patient|loan)s?\b", page)
    assert "Both mistakes cost the same (report.costs)" in page


def test_page_and_card_draw_and_tell_calibration(plain_run: Path) -> None:
    of = read_run(plain_run)
    page, card = report_page(of), model_card(of)
    for title in ("Calibration: are", "Precision and recall", "ROC curve", "Which class is taken"):
        assert f"<h3>{title}" in page
    one = of.summary["evaluation"]["classes"]["present"]
    said = f"Probabilities are off by {one['calibration_error']['value']:.3f} on average"
    assert said in page
    assert said in card
    lines = [line for line in card.splitlines() if line.startswith("| 0.")]
    assert 3 <= len(lines) <= 6
    assert all(line.count("|") == 7 for line in lines)


def test_institutions_have_their_metrics_and_what_the_threshold_does(plain_run: Path) -> None:
    of = read_run(plain_run)
    clients = of.summary["evaluation"]["clients"]
    rows = {row[0]: row[1:] for row in tables(of)[-1]}
    assert set(rows) == set(clients) == set(of.clients)
    for name, one in clients.items():
        told = [one["metrics"][it]["value"] for it in ("accuracy", "macro_f1", "auc", "log_loss")]
        told.append(one["at_threshold"]["sensitivity"]["value"])
        assert rows[name][:5] == [f"{value:.3f}" for value in told]


def test_noisy_scores_have_noisy_curves_that_say_so(noisy_run: Path) -> None:
    of = read_run(noisy_run)
    evaluation = of.summary["evaluation"]
    # Three statistics, and noise of four institutions in each count.
    assert evaluation["noise"] > 1
    assert (evaluation["bins"], len(evaluation["counted"])) == (16, 4)
    for figure in evaluation["metrics"].values():
        low, high = figure["interval"]
        assert low <= figure["value"] <= high
    brier = evaluation["metrics"]["brier"]
    assert brier["value"] == pytest.approx(of.summary["federated"]["brier"], abs=1e-6)
    page = said(of)
    assert "Institutions released these counts with noise, of a standard deviation of" in page
    assert "A missed one costs 5 and a false alarm 1 (report.costs)" in page
    assert "and this noise a perfectly calibrated model" in page


def test_names_are_text_on_page_and_card(plain_run: Path) -> None:
    of = read_run(plain_run)
    evaluation = copy.deepcopy(of.summary["evaluation"])
    evaluation["classes"] = {NASTY: evaluation["classes"]["present"]}
    evaluation["clients"] = {NASTY: next(iter(evaluation["clients"].values()))}
    evaluation |= {"positive": NASTY, "counted": [NASTY]}
    evaluation["confusion"]["labels"] = [NASTY, "absent"]
    nasty = changed(of, **evaluation)
    assert "<img" not in report_page(nasty)
    card = model_card(nasty)
    assert re.search(r"(?<!\\)<img", card) is None
    header = next(line for line in card.splitlines() if line.startswith("| taken for"))
    assert len(re.findall(r"(?<!\\)\|", header)) == 7


@pytest.mark.parametrize("section", [None, {}, {"kind": "of a later release", "figures": 1}])
def test_run_of_another_release_has_a_page_without_the_section(
    plain_run: Path, section: dict[str, Any] | None
) -> None:
    of = read_run(plain_run)
    summary = {name: value for name, value in of.summary.items() if name != "evaluation"}
    summary |= {} if section is None else {"evaluation": section}
    older = dataclasses.replace(of, summary=summary)
    assert SECTION not in report_page(older)
    assert "calibrated" not in model_card(older)


def test_what_is_unknown_is_shown_as_that(plain_run: Path) -> None:
    of = read_run(plain_run)
    text = json.dumps(of.summary["evaluation"]["thresholds"])
    unknown = json.loads(
        re.sub(r'"value": [\d.]+, "interval": \[[^]]+\]', '"value": null, "interval": null', text)
    )
    for row in unknown["rows"]:
        row["cost"] = row["net_benefit"] = {"value": 0.0, "interval": None}
    assert "an unknown share of all" in said(changed(of, thresholds=unknown))


def test_many_institutions_are_left_to_the_summary(plain_run: Path) -> None:
    of = read_run(plain_run)
    one = next(iter(of.summary["evaluation"]["clients"].values()))
    many = changed(of, clients={f"ward {k}": one for k in range(60)})
    assert "summary.json has the figures of all 60 institutions." in said(many)


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.5, "50 %"), (0.0051, "0.51 %"), (0.0994, "9.9 %"), (0.1, "10 %"), (0, "0 %")],
)
def test_shares_are_told_in_percent(value: float, told: str) -> None:
    assert class_sentences.percent(value) == told


def test_metric_that_is_no_share_has_intervals_on_the_whole_page(plain_run: Path) -> None:
    of = read_run(plain_run)
    task = {**of.config["task"], "primary_metric": "auc"}
    ranked = dataclasses.replace(of, config={**of.config, "task": task})
    low, high = of.summary["evaluation"]["metrics"]["auc"]["interval"]
    page = report_page(ranked)
    assert f"(95 % interval {low:.3f} to {high:.3f})" in page
    assert "No intervals are shown" not in page
    for one in of.summary["evaluation"]["clients"].values():
        figure = one["metrics"]["auc"]
        low, high = figure["interval"]
        assert page.count(f"{figure['value']:.3f} <small>{low:.2f}–{high:.2f}</small>") >= 2
