import dataclasses
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from confide.server.report import guarantee, sentences
from confide.server.report.page import report_page
from confide.server.report.read import RunFiles, read_run
from confide.server.report.write import write_report, write_report_or_warn

NASTY = '<img src=x onerror=alert(1)> $a$ & "co"'
LOADS = {"src", "href", "xlink:href", "data", "action", "poster", "srcset", "background"}


class Page(HTMLParser):
    """What a browser would load, and the tags and ids of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loads += [str(value) for name, value in attrs if name in LOADS]
        self.ids += [str(value) for name, value in attrs if name == "id"]


def test_nothing_is_loaded_and_no_script_runs(private_run: Path) -> None:
    html = (private_run / "report.html").read_text()
    page = Page(html)

    assert not {"script", "link", "iframe", "object", "img"} & page.tags
    assert all(target.startswith("#") for target in page.loads)
    assert not re.search(r"url\((?!#)|@import", html)
    assert len(page.ids) == len(set(page.ids)), "an id twice: figures would share clip paths"


def test_every_part_is_there(private_run: Path) -> None:
    html = (private_run / "report.html").read_text()
    summary = json.loads((private_run / "summary.json").read_text())

    for title in (
        "Local and federated models compared",
        "Quality during training",
        "Privacy spent by each institution",
        "Records at each institution",
        "Data transferred and time needed",
        "Updates that are missing",
        "How to repeat this run",
    ):
        assert f"<h2>{title}" in html
    assert f"{summary['federated']['accuracy']:.3f}" in html
    assert f"{summary['baselines']['pooled']['accuracy']:.3f}" in html
    assert all(name in html for name in summary["clients"])
    assert "error_reply" in html
    assert "Hungary in round 1" in html
    assert html.count("<svg") == 16


def test_a_run_without_privacy_says_so(plain_run: Path) -> None:
    html = (plain_run / "report.html").read_text()

    assert "There is none: this run was trained without differential privacy." in html
    assert "Privacy spent by each institution" not in html
    assert "FedAdam" in html


def renamed(run: RunFiles, old: str, new: str) -> RunFiles:
    summary = json.loads(json.dumps(run.summary).replace(json.dumps(old), json.dumps(new)))
    return dataclasses.replace(
        run, summary=summary, metrics=run.metrics.replace({"client": {old: new}})
    )


def test_an_institutions_name_is_text(private_run: Path) -> None:
    html = report_page(renamed(read_run(private_run), "Hungary", NASTY))

    assert "img" not in Page(html).tags
    assert "$a$" in html


@pytest.mark.parametrize("accuracy", [-0.2, 1.5])
def test_what_an_institution_declares_ends_no_run(
    plain_run: Path, tmp_path: Path, accuracy: float
) -> None:
    shutil.copytree(plain_run, tmp_path / "run")
    summary = json.loads((plain_run / "summary.json").read_text())
    summary["clients"]["Hungary"]["accuracy"] = summary["federated"]["accuracy"] = accuracy
    (tmp_path / "run" / "summary.json").write_text(json.dumps(summary))
    write_report(tmp_path / "run")


@pytest.mark.parametrize("summary", ["[]", "{}", '{"status": "completed"}'])
def test_a_summary_of_another_form_is_a_warning(
    plain_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, summary: str
) -> None:
    shutil.copytree(plain_run, tmp_path / "run")
    (tmp_path / "run" / "summary.json").write_text(summary)
    write_report_or_warn(tmp_path / "run")
    assert "cannot be rendered" in caplog.text


def test_a_failed_run_has_a_report(plain_run: Path) -> None:
    failed = {
        "schema": 1,
        "status": "failed",
        "job": "j",
        "error": "round 2: 1 answered",
        "rounds": 1,
    }
    failed["failures"] = {"2": {"Hungary": "no_reply"}}
    html = report_page(dataclasses.replace(read_run(plain_run), summary=failed))

    assert "round 2: 1 answered" in html
    assert "did not answer before the round" in html


@pytest.mark.parametrize(
    ("epsilon", "told"), [(1.0, "e^1 = 3"), (8.0, "e^8 = 2,981"), (100.0, "e^100 = 10^43")]
)
def test_odds(epsilon: float, told: str) -> None:
    assert guarantee.odds(epsilon).endswith(told)


def test_the_command_is_as_a_shell_takes_it(plain_run: Path) -> None:
    overrides = ["simulation.faults=[{kind: nan}]", "data.path=postgresql://me:secret@host/db"]
    run = dataclasses.replace(
        read_run(plain_run), command={"program": "simulate", "overrides": overrides}
    )

    command = sentences.reproduce(run)

    assert command.startswith("confide simulate 'simulation.faults=[{kind: nan}]' ")
    assert "secret" not in command


def test_a_server_is_told_its_kit(plain_run: Path) -> None:
    overrides = ["server.kit='/kits/coordinator'", "data.public=true", "privacy=record", "job=j1"]
    run = dataclasses.replace(
        read_run(plain_run), command={"program": "server", "overrides": overrides}
    )

    assert sentences.reproduce(run) == "confide server /kits/coordinator privacy=record"


def test_odds_are_no_fact_where_noise_can_be_repeated(private_run: Path) -> None:
    run = read_run(private_run)
    secure = dataclasses.replace(run, summary={**run.summary, "privacy": {"noise": "secure"}})

    assert guarantee.meaning(run).startswith("In this run the noise can be repeated by anyone")
    assert guarantee.meaning(secure).startswith("Epsilon means:")


def test_no_records_for_test_is_nobodys_will(plain_run: Path) -> None:
    run = read_run(plain_run)
    untested = dataclasses.replace(run, summary={**run.summary, "federated": {"test_examples": 0}})

    assert sentences.outcome(untested) == "Not measured: no records were kept for testing."


def test_a_report_tells_no_folders(plain_run: Path) -> None:
    run = read_run(plain_run)
    data = {**run.summary["data"], "path": "/home/me/secret-project/heart.csv"}

    assert "come from heart.csv" in sentences.records(
        dataclasses.replace(run, summary={**run.summary, "data": data})
    )


def test_words_around_texts_are_told(plain_run: Path) -> None:
    run = read_run(plain_run)
    config = {**run.config, "task": {**run.config["task"], "template": "Review: {text}"}}
    told = sentences.records(dataclasses.replace(run, config=config))
    assert "put into these words first: “Review: {text}”" in told


def test_units_are_not_called_records_where_groups_are_protected(private_run: Path) -> None:
    run = read_run(private_run)
    grouped = {**run.config, "privacy": {**run.config["privacy"], "unit": "group"}}
    assert "trained on the records of" not in sentences.records(run)
    told = sentences.records(dataclasses.replace(run, config=grouped))
    assert re.search(r"trained on the records of [\d,]+ groups and tested on [\d,]+ records", told)
