import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from confide.server.report.card import model_card
from confide.server.report.page import report_page
from confide.server.report.read import RunFiles, read_run


def test_metadata_is_what_hubs_read(private_run: Path) -> None:
    card = ModelCard.load(private_run / "model_card.md")
    federated = json.loads((private_run / "summary.json").read_text())["federated"]

    assert card.data.tags == ["federated-learning", "differential-privacy"]
    told = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert told == {
        name: pytest.approx(federated[name], abs=1e-4)
        for name in ("accuracy", "macro_f1", "auc", "log_loss")
    }


def test_the_privacy_statement_is_whole(private_run: Path) -> None:
    text = (private_run / "model_card.md").read_text()
    summary = json.loads((private_run / "summary.json").read_text())

    rows = [
        "unit | record",
        "epsilon asked for, at each institution | 3.0",
        "delta | 1e-05",
        "accountant | pld",
    ]
    for told in ("zero-out", *(f"| {row} |" for row in rows)):
        assert told in text
    assert all(part in text for part in summary["privacy"]["not_protected"])
    assert summary["model_sha256"] in text


def test_a_private_run_without_baselines_has_a_card(private_run: Path) -> None:
    run = read_run(private_run)
    privacy = {name: told for name, told in run.summary["privacy"].items() if name != "baselines"}
    card = model_card(replace(run, summary={**run.summary, "privacy": privacy, "baselines": {}}))
    assert "cost the same epsilon once more" in model_card(run)
    assert "once more" not in card


def test_a_model_without_privacy_warns(plain_run: Path) -> None:
    assert "trained without differential privacy" in (plain_run / "model_card.md").read_text()


def test_what_institutions_are_called_is_text(private_run: Path) -> None:
    run = read_run(private_run)
    summary = json.loads(json.dumps(run.summary).replace("Hungary", "<b>[x](y)```"))
    report = {**run.config["report"], "card": {"name_institutions": True}}
    card = model_card(replace(run, summary=summary, config={**run.config, "report": report}))

    assert "<b>" not in card
    assert r"\<b\>\[x\](y)\`\`\`" in card


def test_a_simulation_claims_no_premises(private_run: Path) -> None:
    run = read_run(private_run)
    deployed = replace(run, summary={**run.summary, "engine": {"name": "deployment"}})

    assert "Simulated on one machine" in model_card(run)
    assert "trained on its own premises" in model_card(deployed)


def test_institutions_are_numbered_unless_the_report_names_them(private_run: Path) -> None:
    run = read_run(private_run)
    names = list(run.clients)
    card = model_card(run)
    assert not any(name in card for name in names)
    assert all(f"institution {place}" in card for place in range(1, len(names) + 1))
    report = {**run.config["report"], "card": {"name_institutions": True}}
    named = model_card(replace(run, config={**run.config, "report": report}))
    assert all(name in named for name in names)


def test_makers_say_what_only_they_know(private_run: Path) -> None:
    run = read_run(private_run)
    assert model_card(run).count("Not stated by its makers.") == 2
    said = {
        "intended_use": "Triage, by cardiologists",
        "limits": "Not for <children>",
        "contact": "models@example.org",
        "license": "For research, by contract",
    }
    report = {**run.config["report"], "card": said}
    card = model_card(replace(run, config={**run.config, "report": report}))
    assert "Not stated by its makers" not in card
    for words in ("Triage, by cardiologists", r"\<children\>", "models@example.org"):
        assert words in card
    data = ModelCard(card).data
    assert (data.license, data.license_name) == ("other", "for-research-by-contract")


def test_paths_of_the_machine_are_not_handed_over(private_run: Path) -> None:
    run = read_run(private_run)
    data = {**run.summary["data"], "path": "/home/you/secret/hearts.csv"}
    card = model_card(replace(run, summary={**run.summary, "data": data}))
    assert "hearts.csv" in card
    assert "/home/you" not in card


def test_energy_and_lineage_are_told(private_run: Path) -> None:
    run = read_run(private_run)
    card, energy = model_card(run), run.summary["energy"]
    total = sum(energy["cpu_seconds"].values())
    assert energy["kwh"] == pytest.approx(total * 12.0 * 1.67 / 3.6e6, rel=0.01, abs=1e-9)
    assert "no meter was read" in card
    assert run.summary["lineage"]["plan_sha256"] in card


PARENT = {
    "job": "first",
    "model_sha256": "ab" * 32,
    "plan_sha256": "cd" * 32,
    "num_rounds": 50,
    "epsilon": 3.0,
    "delta": 1e-5,
    "unit": "record",
}


def gone_on(folder: Path, **lineage: Any) -> RunFiles:
    """Return a run as if it had gone on from earlier ones."""
    found = read_run(folder)
    told = {**found.summary["lineage"], "parents": [PARENT], **lineage}
    return replace(found, summary={**found.summary, "lineage": told})


def test_what_a_model_costs_with_the_runs_before_it_is_told_first(private_run: Path) -> None:
    claimed = {"epsilon": 6.0, "delta": 2e-5, "unit": "record"}
    run = gone_on(private_run, claimed=claimed)
    card, page = model_card(run), report_page(run)
    (guarantee,) = re.findall(r"\*\*Privacy guarantee.\*\* (.*)", card)
    for told in ("this run alone", "went on from (50 rounds)", "at most epsilon 6 at delta 2e-05"):
        assert told in guarantee.replace("\\", "")
        assert told in page
    assert "| with the runs that it went on from, at most | epsilon 6 at delta 2e-05 |" in card
    assert "epsilon at most, with earlier runs" in page
    assert "rounds, after 50 earlier" in page
    alone = model_card(read_run(private_run))
    assert "this run alone" not in alone
    assert "went on from, at most" not in alone


def test_a_run_before_without_privacy_leaves_no_epsilon(private_run: Path) -> None:
    open_run = {**PARENT, "unit": "none", "epsilon": None, "delta": None}
    run = gone_on(private_run, parents=[open_run], unprotected=["first"])
    (guarantee,) = re.findall(r"\*\*Privacy guarantee.\*\* (.*)", model_card(run))
    assert "no epsilon covers the model: trained without privacy were first" in guarantee
    assert "went on from, at most" not in model_card(run)


@pytest.mark.parametrize("called", ["federated", "job", "accuracy", "none"])
def test_an_institution_may_be_called_like_a_part_of_the_summary(
    called: str, plain_run: Path
) -> None:
    run = read_run(plain_run)
    first = json.dumps(next(iter(run.clients)))
    renamed = json.loads(json.dumps(run.summary).replace(first, json.dumps(called)))
    assert model_card(replace(run, summary=renamed)) == model_card(run)
