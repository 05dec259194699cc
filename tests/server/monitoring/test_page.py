"""A coordinator's page in each state: every one has a sentence."""

import json
import os
import shutil
import time
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
from boards_made import HOSTILE, add_run, ask_now, begin, coordinator, end_round, put_up

from confide.pages.board import Board, Section, render_board
from confide.server.deployment.kit import CoordinatorKit
from confide.server.deployment.watched import Asked, UnderWay
from confide.server.monitoring.convergence import Convergence
from confide.server.monitoring.page import board
from confide.server.monitoring.snapshot import CoordinatorWatch

CLEVELAND, VA = "Cleveland", "VA Long Beach"


@pytest.fixture(name="kit")
def make_kit(tmp_path: Path) -> CoordinatorKit:
    return coordinator(tmp_path)


def shown(kit: CoordinatorKit) -> Board:
    return board(CoordinatorWatch(kit.folder)(), Convergence())


def section(kit: CoordinatorKit, name: str) -> Section:
    return next(it for it in shown(kit).sections if it.name == name)


def cells(found: Section) -> list[list[str]]:
    assert found.table is not None
    return [[cell.text for cell in row.cells] for row in found.table.rows]


def under_way(run_dir: Path, **asked: Asked) -> UnderWay:
    now = time.time()
    return UnderWay(
        job="trial",
        folder=str(run_dir),
        process=os.getpid(),
        kind="train",
        server_round=3,
        since=now - 4,
        connected=[CLEVELAND],
        asked=dict(asked),
    )


def test_a_federation_that_never_ran(kit: CoordinatorKit) -> None:
    page = unescape(render_board(shown(kit), refreshes=True))
    for sentence in (
        "No run was begun yet. <code>confide server KIT</code> begins one.",
        "Nothing: every check of this kit is well.",
        "Nothing to draw: no scores of the newest runs were released yet.",
        "None: whoever was asked has answered.",
        "None was started from this kit by this release.",
        "No event yet: this side was not started before.",
    ):
        assert sentence in page
    assert [row[:4] for row in cells(section(kit, "institutions"))] == [
        [CLEVELAND, "no run", "never", "none is under way"],
        [VA, "no run", "never", "none is under way"],
    ]


def test_who_has_answered_and_who_is_waited_for(kit: CoordinatorKit, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    log = add_run(kit, run_dir)
    begin(log)
    end_round(log, run_dir, 1)
    end_round(log, run_dir, 2)
    old = Asked(kind="train", server_round=3, since=time.time() - 4)
    ask_now(
        kit, under_way(run_dir, **{CLEVELAND: Asked(**{**vars(old), "state": "answered"}), VA: old})
    )
    found = shown(kit)
    assert found.mark == "ok"
    assert found.state.startswith("Job trial, round 3 of 20: asks for training since ")
    assert found.state.endswith(f" s. Waited for: {VA}.")
    there = section(kit, "institutions")
    assert there.paragraphs == [f"Asked for: training. Answered: {CLEVELAND}. Waited for: {VA}."]
    assert [row[4] for row in cells(there)] == ["2", "2"]
    assert cells(there)[0][3] == "answered"
    assert cells(there)[1][3].startswith("waited for, ")
    (drawing,) = section(kit, "convergence").drawings
    assert "style=" not in drawing.svg


def test_people_who_are_waited_for_and_refusals_have_words_and_a_fix(
    kit: CoordinatorKit, tmp_path: Path
) -> None:
    log = add_run(kit, tmp_path / "run")
    begin(log, absent={VA: "budget_exhausted: asked 4.878, allowed 4, committed 3"})
    waits = Asked(kind="train", server_round=3, since=1.0, state="policy_approval")
    ask_now(kit, under_way(tmp_path / "run", **{CLEVELAND: waits}))
    assert shown(kit).mark == "wait"
    there = cells(section(kit, "institutions"))
    assert there[0][3] == f"{CLEVELAND} waits for its people to approve the plan."
    assert there[1][3] == "takes no part"
    now, before = sorted(cells(section(kit, "refusals")))
    assert now[:3] == [
        CLEVELAND,
        f"{CLEVELAND} waits for its people to approve the plan.",
        "asked now",
    ]
    assert before[1] == f"{VA} declined: its lifetime budget would not cover the run."
    assert before[2] == "once"
    assert all(row[-1].endswith(".") for row in (now, before))


def test_rounds_that_an_institution_missed_are_counted_by_code(
    kit: CoordinatorKit, tmp_path: Path
) -> None:
    log = add_run(kit, tmp_path / "run")
    begin(log)
    for number in (1, 2):
        end_round(log, tmp_path / "run", number, refused={VA: "no_reply"})
    ((name, why, missed, _, fix),) = cells(section(kit, "refusals"))
    assert (name, missed) == (VA, "2 times")
    assert why == f"{VA} did not answer before the round's deadline."
    assert "confide doctor" in fix


def test_a_run_that_was_killed_is_told_with_what_goes_on_with_it(
    kit: CoordinatorKit, tmp_path: Path
) -> None:
    run_dir = tmp_path / "a run"
    log = add_run(kit, run_dir)
    begin(log)
    end_round(log, run_dir, 1)
    found = shown(kit)
    assert found.mark == "bad"
    assert found.state == "Job trial is not done, and none of its processes runs."
    advice = section(kit, "to-do").advice
    assert [(one.says, one.mark) for one in advice] == [
        ("Job trial was interrupted after round 1, and can go on.", "bad")
    ]
    assert advice[0].command == f"confide server --resume '{run_dir}'"
    assert cells(section(kit, "runs"))[0][2] == "was cut off"
    begin(add_run(kit, tmp_path / "next", job="next", log=log), job="next")
    ask_now(kit, replace(under_way(tmp_path / "next"), job="next"))
    assert [row[2] for row in cells(section(kit, "runs"))] == ["trains", "was cut off"]


def test_rounds_that_were_killed_leave_a_file_that_tells_nothing(
    kit: CoordinatorKit, tmp_path: Path
) -> None:
    begin(add_run(kit, tmp_path / "run"))
    found = shown(kit)
    kit.under_way.write_text(json.dumps({"job": "tri"}))
    assert shown(kit).state == found.state


def test_runs_that_ended(kit: CoordinatorKit, tmp_path: Path) -> None:
    log = add_run(kit, tmp_path / "one", job="one")
    log.append("run", {"state": "failed", "job": "one", "failed": f"{HOSTILE}."})
    failed = shown(kit)
    assert failed.mark == "bad"
    assert any(one.says == f"Job one failed: {HOSTILE}." for one in section(kit, "to-do").advice)
    add_run(kit, tmp_path / "two", job="two", log=log)
    log.append("run", {"state": "finished", "job": "two", "model_sha256": "00"})
    (tmp_path / "two" / "report.html").write_text("<p>the report</p>")
    assert shown(kit).state.startswith("No run is under way. The last one, two, has its result: ")
    two, one = cells(section(kit, "runs"))
    assert two[:5] == ["two", "2023-11-14 22:13:20Z", "has its result", "0 of 20", "read it"]
    assert (one[0], one[2], one[4]) == ("one", "failed", "none yet")
    shutil.rmtree(tmp_path / "two")
    assert cells(section(kit, "runs"))[0][4] == "its folder is gone"


def test_half_written_files_keep_no_page_from_coming(kit: CoordinatorKit, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    log = add_run(kit, run_dir)
    begin(log)
    end_round(log, run_dir, 1)
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.write('{"round": 1, "pha')
    with kit.runs.open("a") as file:
        file.write('{"job": "half')
    assert section(kit, "convergence").drawings
    (run_dir / "config.yaml").write_text("task: [")
    assert section(kit, "convergence").is_empty
    (run_dir / "metrics.jsonl").write_text("no json\n")
    assert section(kit, "convergence").is_empty


def test_a_kit_that_cannot_be_read_has_a_page(kit: CoordinatorKit) -> None:
    (kit.folder / "server.key").unlink()
    found = shown(kit)
    assert (found.mark, found.state) == ("bad", "The kit cannot be read.")
    assert any("lacks server.key" in one.says for one in section(kit, "to-do").advice)


def test_names_of_others_are_texts(tmp_path: Path) -> None:
    kit = coordinator(tmp_path, HOSTILE, "Ward")
    log = add_run(kit, tmp_path / "run")
    begin(log, absent={HOSTILE: f"no_reply: {HOSTILE}"})
    asked = Asked(kind=HOSTILE, server_round=3, since=1.0, state=HOSTILE)
    ask_now(kit, under_way(tmp_path / "run", **{"Ward": asked}))
    page = render_board(shown(kit), refreshes=True)
    assert "<img" not in page
    assert page.count("&lt;img src=x onerror=alert(1)&gt;") >= 5


def test_a_process_of_a_run_that_died_is_told(kit: CoordinatorKit, tmp_path: Path) -> None:
    begin(add_run(kit, tmp_path / "run"))
    put_up(kit.logs, "superlink", "front")
    assert [row[1] for row in cells(section(kit, "processes"))] == ["runs", "runs", "does not run"]
    assert any(one.says == "rounds: does not run." for one in section(kit, "to-do").advice)
