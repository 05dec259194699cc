"""``confide audit``: a plan, a run, a fault, and mistakes on the command line."""

import json
from pathlib import Path

import pytest

from confide import cli
from confide.errors import EXIT_FAILED, EXIT_USAGE
from confide.privacy.randomness import KeyedGenerator
from confide.server.run_folder import decides
from confide.simulations.api import simulate

HEART = (
    "experiment=heart_disease",
    "privacy=record",
    "privacy.epsilon=3",
    "server.num_rounds=2",
    "server.progress=quiet",
    "simulation.baselines=[]",
    "tracking=none",
)
PARTS = "audit.parts=[noise,membership,inversion]"


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(HEART, run_dir=tmp_path_factory.mktemp("audited") / "run").run_dir


def test_a_plan_is_simulated_and_audited(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert cli.main(["audit", *HEART, PARTS, "audit.draws=1000", "--output", str(folder)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "noise of a step" in told
    assert "A lower bound below the claim proves nothing" in told
    audit = json.loads((folder / "audit.json").read_text())
    assert audit["faults"] == []
    assert audit["claim"] == {"unit": "record", "epsilon": 3.0, "delta": 1e-5}
    report, card = (folder / name for name in ("report.html", "model_card.md"))
    for page in (report, card):
        assert "A bound above the claim proves a fault" in page.read_text()
    assert (folder / "audit-1.svg").read_text().startswith("<svg")


def test_a_fault_is_named_and_gives_its_exit_status(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add_normal = KeyedGenerator.add_normal
    monkeypatch.setattr(
        KeyedGenerator,
        "add_normal",
        lambda self, targets, *, std: add_normal(self, targets, std=std / 2),
    )
    status = cli.main(["audit", str(run_dir), "audit.parts=[noise]", "audit.draws=1000"])
    assert status == EXIT_FAILED
    said = capsys.readouterr()
    assert "FAULT: noise of a step: claim sigma" in said.err
    assert "Do not rely on this run's epsilon" in " ".join(said.out.split())
    assert "Do not rely on this run" in (run_dir / "model_card.md").read_text()


def test_a_plain_update_gives_a_patient_away_and_a_private_one_does_not(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["audit", str(run_dir), PARTS]) == 0
    shown = json.loads((run_dir / "audit.json").read_text())["parts"]["inversion"]["shown"]
    assert shown["is_real"]
    assert shown["true"].startswith("age=")
    assert shown["plain"]["text"] == shown["true"]
    assert shown["private"]["similarity"] < 0.9
    assert shown["true"] in " ".join(capsys.readouterr().out.split())


def test_an_audit_leaves_the_run_as_it_was(run_dir: Path) -> None:
    kept = {
        path: path.read_bytes()
        for path in run_dir.rglob("*")
        if path.is_file() and path.name in {"summary.json", "config.yaml", "trainable.safetensors"}
    }
    assert cli.main(["audit", str(run_dir), "audit.parts=[inversion]"]) == 0
    assert len(kept) == 3
    assert all(path.read_bytes() == content for path, content in kept.items())


def test_settings_of_an_audit_decide_nothing_of_a_run() -> None:
    assert not decides("audit.trials")
    assert decides("privacy.epsilon")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["RUN", "privacy.epsilon=1"], "only audit.* can be set"),
        (["a", "b"], "name one folder"),
        (["nowhere"], "holds no finished run"),
        (["--output"], "name a folder"),
        (["--multirun"], "no such option"),
        (["audit.trials=1"], "audit.trials=1: expected >= 40"),
        (["client.ledger=here", "policy.budget.epsilon=9"], "would spend from it"),
    ],
)
def test_mistakes_are_named(
    words: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["audit", *words]) == EXIT_USAGE
    assert problem in " ".join(capsys.readouterr().err.split())
