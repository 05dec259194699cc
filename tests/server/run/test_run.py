"""One run, carried by a single institution that answers with zeros."""

import contextlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from rich.console import Console

from confide.config.composing.compose import compose
from confide.errors import ConfideError, FlowerError, RunFailedError, UnforeseenError
from confide.flower.messages import task_identity
from confide.models.networks import trainable_tensors
from confide.models.workload import Workload
from confide.protocol.messages import Reply, pack_reply
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import encode
from confide.server.progress.lines import LineProgress
from confide.server.rounds.exchange import Reach
from confide.server.rounds.outcome import Outcome
from confide.server.run.run import Run, carry_out, open_run
from confide.server.run.summary import Findings, InstitutionResult
from confide.simulations.engines.inline import InlineGrid

ROUNDS = 2


def app_of(workload: Workload) -> ClientApp:
    zeros = {name: torch.zeros_like(t) for name, t in trainable_tensors(workload.model).items()}
    app = ClientApp()

    def handler(kind: str) -> Callable[[Message, Context], Message]:
        def handle(message: Message, context: Context) -> Message:
            arrays = encode(zeros) if kind == "train" else None
            head = f"1:{kind}" if kind != "query" else ""
            reply = Reply(institution="ward", num_examples=3, arrays=arrays, ledger_head=head)
            return Message(pack_reply(reply), reply_to=message)

        return handle

    app.query()(handler("query"))
    app.train()(handler("train"))
    app.evaluate()(handler("evaluate"))
    return app


@dataclass
class Ward:
    """A carrier that writes down what it is asked for, and fails where it is told to."""

    fails_at: str = ""
    error: ConfideError = field(default_factory=lambda: RunFailedError("The ward is closed."))
    asked: list[str] = field(default_factory=list)
    workloads: list[Workload] = field(default_factory=list)

    def prepare(self, run: Run, plan: TrainingPlan, workload: Workload) -> "Ward":
        self.workloads.append(workload)
        return self

    def note(self, what: str) -> None:
        self.asked.append(what)
        if what == self.fails_at:
            raise self.error

    @contextlib.contextmanager
    def connect(self) -> Iterator[tuple[Grid, Reach]]:
        self.note("connect")
        with task_identity():
            yield InlineGrid(app_of(self.workloads[-1]), [1]), Reach()

    def extra(self, server_round: int) -> Mapping[str, Any]:
        self.note(f"extra {server_round}")
        return {"ward": server_round}

    def concluding(self) -> None:
        """Nothing is counted."""

    def committed(self) -> None:
        self.note("committed")

    def findings(self, outcome: Outcome) -> Findings:
        self.note("findings")
        line = InstitutionResult(num_examples=3, test={})
        return Findings(
            pooled_test={"num_examples": 0}, institutions={"ward": line}, reproducible=True
        )

    def close(self) -> None:
        self.note("close")


def opened(folder: Path, *overrides: str) -> Run:
    config = compose(["experiment=heart_disease", f"server.num_rounds={ROUNDS}", *overrides])
    folder.mkdir(exist_ok=True)
    view = LineProgress(Console(file=io.StringIO()), metric="accuracy")
    return open_run(config, folder, progress=view, job_fn=lambda config: "trial")


def summary_of(folder: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return summary


def test_a_run_leaves_plan_model_and_summary_whoever_carries_it(tmp_path: Path) -> None:
    ward = Ward()
    summary = carry_out(opened(tmp_path), ward.prepare)
    assert summary_of(tmp_path) == summary
    assert (summary["status"], summary["job"], summary["rounds"]) == ("completed", "trial", ROUNDS)
    assert TrainingPlan.from_json((tmp_path / "plan.json").read_text()).job == "trial"
    assert (tmp_path / "model").is_dir()


def test_heads_of_ledgers_are_written_down_for_auditors(tmp_path: Path) -> None:
    carry_out(opened(tmp_path), Ward().prepare)
    written = (tmp_path / "ledger_heads.jsonl").read_text().splitlines()
    assert list(map(json.loads, written)) == [{"round": 1, "heads": {"ward": "1:train"}}]


def test_a_round_is_durable_before_the_carrier_counts_it(tmp_path: Path) -> None:
    ward = Ward()
    carry_out(opened(tmp_path), ward.prepare)
    commits = [word for r in range(ROUNDS + 1) for word in (f"extra {r}", "committed")]
    assert ward.asked == ["connect", *commits, "findings", "close"]


def test_an_exception_nobody_foresaw_is_told_in_the_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ward = Ward()
    monkeypatch.setattr(ward, "findings", lambda outcome: {}["patient"])
    with pytest.raises(UnforeseenError, match="unforeseen KeyError: 'patient'") as raised:
        carry_out(opened(tmp_path), ward.prepare)
    assert isinstance(raised.value.__cause__, KeyError)
    assert summary_of(tmp_path)["status"] == "failed"
    assert "KeyError" in summary_of(tmp_path)["error"]


def test_a_failure_closes_the_carrier_and_is_told_in_the_summary(tmp_path: Path) -> None:
    ward = Ward(fails_at="findings")
    with pytest.raises(RunFailedError, match="The ward is closed"):
        carry_out(opened(tmp_path), ward.prepare)
    summary = summary_of(tmp_path)
    assert (summary["status"], summary["rounds"]) == ("failed", ROUNDS)
    assert ward.asked[-1] == "close"


def test_an_error_after_which_a_run_goes_on_leaves_no_summary(tmp_path: Path) -> None:
    ward = Ward(fails_at="connect", error=FlowerError("SuperLink does not answer."))
    with pytest.raises(FlowerError):
        carry_out(opened(tmp_path), ward.prepare, final=RunFailedError)
    assert not (tmp_path / "summary.json").exists()


def test_a_later_process_goes_on_with_job_secret_and_what_the_carrier_kept(tmp_path: Path) -> None:
    first, ward = opened(tmp_path, "simulation.seed=null"), Ward(fails_at="extra 2")
    with pytest.raises(RunFailedError):
        carry_out(first, ward.prepare)
    second = opened(tmp_path, "simulation.seed=null")
    assert (second.job, second.secret, list(second.resumed)) == (first.job, first.secret, [1])
    assert second.before["ward"] == 1
    later = Ward()
    assert carry_out(second, later.prepare)["resumed_after_rounds"] == [1]
    assert later.asked[:3] == ["connect", "extra 1", "committed"]


def test_a_run_starts_from_what_another_one_was_trained_to(tmp_path: Path) -> None:
    def digest(name: str, *overrides: str) -> str:
        run = opened(tmp_path / name, "backbone=mlp", *overrides)
        return str(carry_out(run, Ward().prepare)["model_sha256"])

    first = digest("first", "simulation.seed=1")
    assert digest("anew", "simulation.seed=2") != first
    # Everybody answers with zeros, so that a run ends where it began.
    start = f"server.start_from={tmp_path / 'first'}"
    assert digest("again", "simulation.seed=2", start) == first
