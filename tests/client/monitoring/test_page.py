"""An institution's page in each state: every one has a sentence, none tells what policy keeps."""

import os
import re
import shlex
from html import unescape
from pathlib import Path

import pytest
from boards_made import HOSTILE, answer, busy_institution, institution
from small_kit import NAME, PRIVATE, TASK

from confide.client.commands.client import main as client
from confide.client.monitoring.page import board
from confide.client.monitoring.snapshot import InstitutionWatch
from confide.pages.board import Section, render_board


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return busy_institution(tmp_path_factory.mktemp("busy") / "kit").folder


def text_of(folder: Path, *overrides: str) -> str:
    return unescape(render_board(board(InstitutionWatch(folder, overrides)()), refreshes=True))


def section(folder: Path, name: str, *overrides: str) -> Section:
    return next(
        it for it in board(InstitutionWatch(folder, overrides)()).sections if it.name == name
    )


def cells(found: Section) -> list[list[str]]:
    assert found.table is not None
    return [[cell.text for cell in row.cells] for row in found.table.rows]


def test_a_kit_that_nobody_asked_yet(tmp_path: Path) -> None:
    kit = institution(tmp_path)
    page = text_of(kit.folder)
    for sentence in (
        f"{NAME} takes part, and waits to be asked.",
        "Nothing: every check of this kit is well.",
        "No plan came yet: no run was begun with this institution.",
        "Nothing was ever spent: the ledger is not begun.",
        "Nothing was refused here.",
        "No event yet: this side was not started before.",
    ):
        assert sentence in page


def test_a_kit_that_does_not_run(tmp_path: Path) -> None:
    kit = institution(tmp_path, up=False)
    shown = board(InstitutionWatch(kit.folder)())
    assert shown.mark == "bad"
    assert shown.state == f"{NAME} takes no part: trainer, executor, supernode do not run."
    assert [one.says for one in section(kit.folder, "to-do").advice][:1] == [
        "trainer: does not run."
    ]


def test_what_waits_is_told_with_the_command_that_approves_it(busy: Path) -> None:
    shown = board(InstitutionWatch(busy, ["policy.approval=manual"])())
    assert shown.mark == "wait"
    (one,) = section(busy, "to-do", "policy.approval=manual").advice
    assert one.says == (
        f"Job {HOSTILE} waits for your approval: tabular, full tuning of logistic, 2 rounds. The"
        " coordinator sees each update. It costs epsilon 4 at delta 1e-05 a record, of the lifetime"
        " budget."
    )
    program, command, *words = shlex.split(one.command)
    assert (program, command) == ("confide", "client")
    assert client([*words, "--yes", "policy.approval=manual"]) == 0
    assert section(busy, "to-do", "policy.approval=manual").advice == []
    assert cells(section(busy, "plans"))[0][:2] == [HOSTILE, "approved, not asked again yet"]


def test_plans_budget_and_refusals_are_told(busy: Path) -> None:
    assert [row[1] for row in cells(section(busy, "plans"))][1:] == ["refused", "answered"]
    (budget,) = section(busy, "budget").budgets
    assert 0 < budget.spent < budget.committed < budget.limit == 20
    ((_, job, asked, why, fix),) = cells(section(busy, "refusals"))
    assert (job, asked) == ("greedy", "taking part")
    assert why == f"{NAME} declined: epsilon is above what its policy allows."
    assert "policy.max_epsilon" in fix


def test_nothing_that_policy_keeps_is_on_the_page(busy: Path) -> None:
    page = render_board(board(InstitutionWatch(busy)()), refreshes=True)
    seen = unescape(re.sub(r"<[^>]*>", " ", page)).replace(str(busy), "")
    kept = [TASK.label_column, *TASK.metrics]
    assert [word for word in kept if re.search(rf"\b{re.escape(word)}\b", seen)] == []
    assert re.findall(r"\d+ (?:\w+ )?(?:records|units|examples)", seen) == []
    assert re.findall(r"(?:records|units|examples)\W+\d+", seen) == []


def test_a_ledger_that_cannot_be_trusted(tmp_path: Path) -> None:
    kit = institution(tmp_path)
    answer(kit, ("train", PRIVATE))
    kit.ledger.write_bytes(b"no ledger at all")
    shown = board(InstitutionWatch(kit.folder)())
    assert (shown.mark, shown.state) == (
        "bad",
        f"{NAME} takes no part: its ledger cannot be trusted.",
    )
    found = section(kit.folder, "budget")
    assert found.is_empty
    assert "cannot be read" in found.empty
    assert any(one.says.startswith("ledger:") for one in section(kit.folder, "to-do").advice)


def test_a_log_that_was_changed_and_one_that_is_half_written(tmp_path: Path) -> None:
    kit = institution(tmp_path)
    answer(kit, ("query", PRIVATE))
    (file,) = kit.audit_log.glob("audit-*.jsonl")
    whole = file.read_bytes()
    with file.open("ab") as log:
        log.write(b'{"number": 99, "ti')
    shown = section(kit.folder, "audit")
    assert shown.paragraphs == ()
    assert len(cells(shown)) == whole.count(b"\n")
    file.write_bytes(whole.replace(b"answered", b"refused", 1))
    told = section(kit.folder, "audit")
    assert "is not what was written" in told.paragraphs[0]
    assert any(one.says.startswith("audit log:") for one in section(kit.folder, "to-do").advice)


def test_a_plan_that_is_gone_or_another_is_not_told_as_the_jobs(tmp_path: Path) -> None:
    kit = institution(tmp_path)
    answer(kit, ("query", PRIVATE))
    (file,) = (kit.own / "plans").glob("*.json")
    file.write_text(file.read_text().replace('"num_rounds":2', '"num_rounds":3'))
    assert cells(section(kit.folder, "plans"))[0][3] == "Its plan is not kept here any more."
    file.write_text("{")
    assert cells(section(kit.folder, "plans"))[0][3:] == ["Its plan is not kept here any more.", ""]


@pytest.mark.parametrize("text", ["policy: [", "name: ward\npolicy: {budget: 3}\n"])
def test_a_kit_that_cannot_be_read_still_has_a_page(tmp_path: Path, text: str) -> None:
    institution(tmp_path)
    (tmp_path / "client.yaml").write_text(text)
    advice = section(tmp_path, "to-do").advice
    assert any(one.says.startswith("client.yaml:") and one.mark == "bad" for one in advice)
    assert text_of(tmp_path)


def test_a_kit_without_a_budget_says_that_it_protects_nothing(tmp_path: Path) -> None:
    public = {"budget": {"epsilon": None}, "required_unit": "none", "min_records": 50}
    kit = institution(tmp_path, policy=public)
    assert "it protects nothing" in section(kit.folder, "budget").empty


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_of_another_user_are_unknown(tmp_path: Path) -> None:
    kit = institution(tmp_path)
    (kit.state / "logs").chmod(0)
    try:
        shown = board(InstitutionWatch(kit.folder)())
    finally:
        (kit.state / "logs").chmod(0o700)
    assert shown.state == f"What runs at {NAME} is not known to this user."
