"""A run whose scores left in masked sums: those of all are shown, and nobody's own."""

import html
import io
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_run import HEART
from rich.console import Console

from confide.config.composing.compose import compose
from confide.config.outcomes.table import OUTCOMES
from confide.metrics.evaluation import DESCRIPTIONS, Measured, describe
from confide.metrics.summed import SummedScores
from confide.protocol.masked_sums import EVERYBODY, MaskedSums
from confide.protocol.messages import Evaluation
from confide.protocol.new_plan import make_plan
from confide.server.progress.json_lines import JsonProgress
from confide.server.progress.view import round_note
from confide.server.report.card import model_card
from confide.server.report.compare import best, validation
from confide.server.report.page import report_page
from confide.server.report.read import RunFiles, read_run
from confide.server.report.sections.evaluation import evaluation_blocks, evaluation_card
from confide.server.report.sentences import outcome as result_sentence
from confide.server.report.write import write_comparison, write_report
from confide.server.rounds.outcome import Outcome
from confide.server.rounds.state import RoundRecord, RunState, update_best
from confide.server.run.closing import closing_lines, closing_table
from confide.server.run.measured import by_support, over_institutions, over_sample
from confide.server.run.metrics_log import MetricsSink
from confide.server.run.summary import Findings, InstitutionResult, RunResult, summarise
from confide.server.run.sums import UNKNOWN
from confide.server.run_folder import SUMMARY
from confide.server.trackers.scalars import Scalars, final_scores
from confide.simulations.result import load_run

SPLITS = ("validation", "test")
HOSPITALS = ("Cleveland", "Hungary", "Switzerland", "VA Long Beach")
PLAN = make_plan(compose(HEART), backbone_sha256=None)
MASKED = replace(PLAN, sums=MaskedSums(max_value=16.0))
NAMES = tuple(PLAN.task.metrics)


def told(run: RunFiles, split: str) -> dict[int, dict[str, dict[str, float]]]:
    """Return what institutions told in a real run: round -> institution -> metrics."""
    rounds: dict[int, dict[str, dict[str, float]]] = {}
    rows = run.metrics[run.metrics["phase"] == split]
    for row in rows.itertuples():
        one = rounds.setdefault(row.round, {}).setdefault(row.client, {})
        one |= {row.name: row.value, "num_examples": int(row.num_examples)}
    return rounds


def summed(split: str, each: Mapping[str, Evaluation]) -> dict[str, Evaluation]:
    """Return evaluations as they come out of a masked sum."""
    scores = SummedScores(
        splits=SPLITS, names=NAMES, table=PLAN.task.metric_table, most=len(HOSPITALS)
    )
    total = sum(scores.write({split: one}) for one in each.values())
    return {EVERYBODY: scores.read(total)[split]}


def masked_outcome(run: RunFiles, **changes: Any) -> Outcome:
    """Return the outcome of a real run, had its scores been summed under masks."""
    sizes = {name: int(line["num_examples"]) for name, line in run.clients.items()}
    validated, history = told(run, "validation"), list[RoundRecord]()
    state = RunState(server_round=0, params={}, strategy_state={})
    for done in range(1, run.summary["rounds"] + 1):
        scored = summed("validation", validated[done - 1])
        state = update_best(state, done - 1, scored, metric=run.metric)
        history.append(
            RoundRecord(server_round=done, accepted=tuple(sizes), validation=scored, seconds=0.1)
        )
    last = run.summary["rounds"]
    given: dict[str, Any] = {
        "state": replace(state, server_round=last, history=tuple(history)),
        "kept": {},
        "kept_round": last,
        "clients": sizes,
        "num_clients": len(sizes),
        "num_scorers": len(sizes),
        "test": summed("test", told(run, "test")[last]),
        "validation": summed("validation", validated[last]),
        "stopped_early": False,
    }
    return Outcome(**given | changes)


def masked_summary(outcome: Outcome, **findings: Any) -> dict[str, Any]:
    together, how = over_institutions(outcome, PLAN.task.metric_table)
    known: dict[str, Any] = {
        "pooled_test": together,
        "institutions": {
            name: InstitutionResult(num_examples=count, test=outcome.test.get(name, {}))
            for name, count in outcome.clients.items()
        },
        "reproducible": False,
        "measured": how,
    }
    return summarise(
        RunResult(
            plan=findings.pop("plan", MASKED),
            outcome=outcome,
            findings=Findings(**known | findings),
            model_sha256="ab" * 32,
            seconds={"train": 1.0},
        )
    )


def masked_run(plain: Path, folder: Path, **findings: Any) -> RunFiles:
    """Write a run with the settings of a real one, whose scores were summed under masks."""
    folder.mkdir()
    outcome = masked_outcome(read_run(plain))
    shutil.copy(plain / "config.yaml", folder)
    (folder / SUMMARY).write_text(json.dumps(masked_summary(outcome, **findings)))
    with MetricsSink(folder / "metrics.jsonl") as sink:
        sink.started(outcome.clients)
        sink.resumed(outcome.state)
        sink.evaluated("validation", outcome.kept_round, outcome.validation)
        sink.evaluated("test", outcome.kept_round, outcome.test)
    return read_run(folder)


@pytest.fixture
def masked(plain_run: Path, tmp_path: Path) -> RunFiles:
    return masked_run(plain_run, tmp_path / "masked")


def as_read(text: str) -> str:
    """Return a page or a card as one line, without escapes."""
    return " ".join(html.unescape(text).replace("\\", "").split())


def shown(summary: Mapping[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(closing_table(summary))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_summary_tells_scores_of_all_and_nobodys_own(plain_run: Path, masked: RunFiles) -> None:
    plain, summary = json.loads((plain_run / SUMMARY).read_text()), masked.summary
    for section, split in (("federated", "test"), ("federated_validation", "validation")):
        assert summary[section][f"{split}_examples"] == plain[section][f"{split}_examples"]
    # A simulation scores all test records itself, and means over institutions otherwise
    assert summary["federated"]["accuracy"] == pytest.approx(
        plain["federated"]["accuracy"], abs=1e-8
    )
    for name in NAMES:
        assert summary["federated_validation"][name] == pytest.approx(
            plain["federated_validation"][name], abs=1e-6
        )
    assert summary["federated"]["measured"].endswith("from a masked sum")
    assert set(summary["clients"]) == set(HOSPITALS)
    for line in summary["clients"].values():
        assert set(line) == {"num_examples", "rounds"}
    assert EVERYBODY not in json.dumps(summary)
    low, high = summary["evaluation"]["metrics"]["accuracy"]["interval"]
    assert low < summary["federated"]["accuracy"] < high
    assert summary["evaluation"]["clients"] == {}
    assert summary["aggregation"] == {
        "kind": "secure",
        "emulated": False,
        "bits": 64,
        "fewest": 4,
        "lost_rounds": 0,
        "scores": "together",
    }


def test_best_model_is_chosen_by_the_sum(plain_run: Path) -> None:
    run = read_run(plain_run)
    chosen, validated = masked_outcome(run).state.best, told(run, "validation")
    rounds = range(run.summary["rounds"])
    values = [summed("validation", validated[done])[EVERYBODY][run.metric] for done in rounds]
    assert chosen is not None
    assert chosen.value == max(values)


def test_report_and_card_say_that_nobodys_own_scores_are_known(
    plain_run: Path, masked: RunFiles
) -> None:
    write_report(masked.folder)
    page = as_read((masked.folder / "report.html").read_text())
    card = as_read((masked.folder / "model_card.md").read_text())
    for text in (page, card):
        assert EVERYBODY not in text
        assert "sums of at least 4 institutions, never one's update" in text
        assert UNKNOWN in text
    assert "from a masked sum" in page
    assert "test records</th>" not in page
    for name in HOSPITALS:
        assert name in page
    assert f"{masked.summary['federated']['accuracy']:.3f}" in result_sentence(masked)
    assert "Weakest" not in page
    assert "all institutions together, weighted by their validation records" in page
    plain = report_page(read_run(plain_run))
    assert "What the coordinator saw" not in plain
    assert "test records</th>" in plain


def test_closing_lines_and_table_have_no_own_scores(masked: RunFiles) -> None:
    lines = "\n".join(closing_lines(masked.summary, masked.folder))
    assert UNKNOWN in lines
    assert "from a masked sum" in lines
    table = shown(masked.summary)
    assert EVERYBODY not in table + lines
    assert "own" not in table
    assert f"{masked.summary['federated']['accuracy']:.3f}" in table
    assert all(name in table for name in HOSPITALS)


def test_metrics_and_trackers_have_one_line_for_all(masked: RunFiles) -> None:
    rows = masked.metrics[masked.metrics["phase"].isin(SPLITS)]
    assert len(rows)
    assert rows["client"].isna().all()
    assert not rows.duplicated(["round", "phase", "name"]).any()
    lines = [
        json.loads(line) for line in (masked.folder / "metrics.jsonl").read_text().splitlines()
    ]
    tags = {point.tag for point in Scalars(named_clients=9).of(lines)}
    assert "validation/accuracy" in tags
    assert not [tag for tag in tags if tag.startswith(("validation/accuracy/", "test/accuracy/"))]
    assert "federated/accuracy" in final_scores(masked.summary)
    assert not load_run(masked.folder).institutions["federated_pooled"].isna().any()
    assert "federated_own" not in load_run(masked.folder).institutions


def test_runs_are_compared_by_their_sums(plain_run: Path, masked: RunFiles) -> None:
    plain = read_run(plain_run)
    assert validation(masked) == pytest.approx(validation(plain), abs=1e-6)
    page = masked.folder / "compared.html"
    write_comparison([plain, masked], page, title="two")
    assert EVERYBODY not in page.read_text()
    assert best([plain, masked]) in (0, 1)


def test_progress_counts_no_institution_that_is_none(plain_run: Path) -> None:
    outcome, file = masked_outcome(read_run(plain_run)), io.StringIO()
    JsonProgress(file, metric="accuracy").evaluated("test", 2, outcome.test)
    event = json.loads(file.getvalue())
    assert event["clients"] is None
    assert event["accuracy"] == pytest.approx(outcome.test[EVERYBODY]["accuracy"])
    assert round_note(outcome.state, "accuracy").startswith("accuracy 0.")


def test_a_sample_tells_no_mean_over_institutions_that_are_not_known(plain_run: Path) -> None:
    outcome = masked_outcome(read_run(plain_run), num_clients=9)
    assert outcome.is_sampled
    assert over_sample(outcome)["metrics"] == {}
    assert by_support(outcome, "accuracy") is None
    summary = masked_summary(outcome)
    assert summary["sample"]["scored"] == 4
    assert "4 of 9, drawn at random" in "\n".join(closing_lines(summary, plain_run))


def test_scores_with_noise_are_told_with_it(plain_run: Path) -> None:
    noisy = {"accuracy": 0.75, "accuracy_noise": 0.02, "num_examples": 90.5}
    together = summed("test", {"a": noisy, "b": {**noisy, "accuracy": 0.65}})
    plan = make_plan(compose([*HEART, "privacy=record", "privacy.epsilon=3"]), backbone_sha256=None)
    plan = replace(plan, sums=MaskedSums(max_value=16.0))
    run = read_run(plain_run)
    state = RunState(server_round=1, params={}, strategy_state={})
    outcome = masked_outcome(run, test=together, validation=together, state=state)
    summary = masked_summary(outcome, plan=plan)
    assert summary["federated"]["accuracy"] == pytest.approx(0.7)
    assert summary["federated"]["accuracy_noise"] == pytest.approx(0.02 / 2**0.5, rel=1e-3)
    assert "scores" in summary["privacy"]
    assert "validation and test metrics" not in summary["privacy"]["not_protected"]
    exact = masked_summary(masked_outcome(run), plan=plan)
    assert (
        "validation and test metrics of all institutions together"
        in exact["privacy"]["not_protected"]
    )


def test_an_emulated_sum_is_told_as_one(plain_run: Path, tmp_path: Path) -> None:
    run = masked_run(plain_run, tmp_path / "emulated", emulates_sums=True)
    page, card = report_page(run), model_card(run)
    for text in map(as_read, (page, card)):
        assert "This simulation added updates up in the open" in text
        assert "never one's update" not in text


def test_sums_that_were_lost_are_counted(plain_run: Path) -> None:
    summary = masked_summary(masked_outcome(read_run(plain_run), lost_sums=2))
    assert "2 sums were not opened" in "\n".join(closing_lines(summary, plain_run))


def test_a_plain_run_says_nothing_of_sums(plain_run: Path) -> None:
    assert "aggregation" not in json.loads((plain_run / SUMMARY).read_text())


@pytest.mark.parametrize("personal", ["ditto", "fedrep"])
def test_personal_models_are_told_together(personal: str, plain_run: Path, tmp_path: Path) -> None:
    plan = make_plan(
        compose([*HEART, "backbone=mlp", f"strategy={personal}"]), backbone_sha256=None
    )
    plan = replace(plan, sums=MaskedSums(max_value=16.0))
    outcome = masked_outcome(read_run(plain_run))
    outcome = replace(outcome, personal=outcome.test)
    summary = masked_summary(outcome, plan=plan)
    value = outcome.test[EVERYBODY]["accuracy"]
    assert summary["personal"]["together"] == value
    assert f"summed: accuracy {value:.3f}" in "\n".join(closing_lines(summary, tmp_path))
    run = read_run(plain_run)
    strategy = {**run.config["strategy"], "objective": {"kind": personal}}
    page = report_page(replace(run, summary=summary, config={**run.config, "strategy": strategy}))
    assert "each scored by its own model" in page
    assert EVERYBODY not in page


@pytest.mark.parametrize("kind", DESCRIPTIONS)
@pytest.mark.parametrize("is_pooled", [False, True])
def test_metrics_of_every_outcome_are_shown_without_institutions(
    kind: str, masked: RunFiles, *, is_pooled: bool
) -> None:
    table, settings = OUTCOMES[kind].metrics, None
    if kind == "regression":
        settings = OUTCOMES[kind].schema(column="cost", minimum=0.0, maximum=1.0)
    elif kind == "survival":
        settings = OUTCOMES[kind].schema(time_column="t", event_column="e", horizon=3.0)
    elif kind == "spans":
        settings = OUTCOMES[kind].schema()
    measured = Measured(
        labels=["a", "b", "c"],
        metrics=table,
        federated={**dict.fromkeys(table, 0.625), "num_examples": 40},
        is_pooled=is_pooled,
        test={},
        tallies={},
        is_summed=True,
        settings=settings,
    )
    evaluation = describe(kind, measured)
    assert set(table) <= set(evaluation["metrics"])
    run = replace(masked, summary={**masked.summary, "evaluation": evaluation})
    cells = [
        cell.text
        for block in evaluation_blocks(run)
        for one in block.tables
        for row in one.rows
        for cell in row.cells
    ]
    assert "0.625" in cells
    assert not set(HOSPITALS) & set(cells)
    said = " ".join(evaluation_card(run))
    assert not [name for name in HOSPITALS if name in said]
