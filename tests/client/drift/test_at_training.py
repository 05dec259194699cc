"""The reference that a deployed institution makes when a trained model is scored."""

import stat
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
from builders import build_request
from small_kit import NAME, PRIVATE, RECORDS, TASK, ask, make_kit, start

from confide.client.deployment.kit import InstitutionKit
from confide.client.deployment.served import DeployedInstitution
from confide.client.drift import at_training
from confide.client.drift.kept import Categories, Numbers
from confide.client.drift.profile import read_profile
from confide.client.drift.references import reference_path
from confide.client.training.deadline import Deadline
from confide.storage.tensor_files import sha256


def score(door: DeployedInstitution, round_number: int = 0) -> str | None:
    asked = replace(ask(server_round=round_number), splits=("validation", "test"))
    return door.handle("evaluate", asked).refusal


def test_a_scored_model_leaves_its_reference_at_the_institution_alone(tmp_path: Path) -> None:
    kit = make_kit(tmp_path)
    door = DeployedInstitution(kit, deadline=Deadline())
    assert door.handle("train", ask()).refusal is None
    path = reference_path(kit, sha256(start()))
    assert not path.exists()
    assert score(door) is None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    made = read_profile(path)
    assert (made.records, made.source) == (RECORDS, f"records at training, {NAME}")
    column, labels = made.columns["a"], made.labels[TASK.label_column]
    assert isinstance(column, Numbers)
    assert column.values.tolist() == sorted(map(float, range(RECORDS)))
    assert isinstance(labels, Categories)
    assert labels.counts == {"no": RECORDS // 3, "yes": RECORDS - RECORDS // 3}
    # What the model does is told by records that it was not trained on
    assert 0 < len(made.losses) < RECORDS / 2
    assert numpy.isfinite(made.losses).all()
    assert made.features.shape[0] == len(made.losses)


def with_older_references(kit: InstitutionKit) -> Path:
    """Put three references into a kit, the oldest first, and return their folder."""
    folder = reference_path(kit, "x").parent
    folder.mkdir(parents=True)
    for name in ("a", "b", "c"):
        (folder / f"{name}.drift").write_text(name)
    return folder


def test_an_institution_may_keep_none(tmp_path: Path) -> None:
    kit = make_kit(tmp_path, "drift_references=0")
    door = DeployedInstitution(kit, deadline=Deadline())
    assert door.handle("train", ask()).refusal is None
    assert score(door) is None
    assert not reference_path(kit, "x").parent.exists()


def test_the_oldest_references_go(tmp_path: Path) -> None:
    kit = make_kit(tmp_path, "drift_references=2")
    folder = with_older_references(kit)
    door = DeployedInstitution(kit, deadline=Deadline())
    assert door.handle("train", ask()).refusal is None
    assert score(door) is None
    left = {path.name for path in folder.iterdir()}
    assert len(left) == 2
    assert f"{sha256(start())}.drift" in left


def test_models_that_are_asked_about_at_no_cost_drive_out_no_reference(tmp_path: Path) -> None:
    kit = make_kit(tmp_path, "policy.metrics_privacy=none")
    folder = with_older_references(kit)
    door = DeployedInstitution(kit, deadline=Deadline())
    assert door.handle("train", ask()).refusal is None
    others = [{name: it + number for name, it in start().items()} for number in range(5)]
    for splits in ((), ("validation",), ("test",)):
        for tensors in others:
            asked = replace(build_request(PRIVATE, 0, tensors=tensors), splits=splits)
            assert door.handle("evaluate", asked).refusal is None
        if splits != ("test",):
            assert {it.stem for it in folder.iterdir()} == {"a", "b", "c"}
    left = {path.stem for path in folder.iterdir()}
    assert left == {"b", "c", *(sha256(it) for it in others[-2:])}


def test_a_reference_that_fails_changes_no_answer_and_quotes_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise OSError("no space for patient Kowalski")

    kit = make_kit(tmp_path)
    door = DeployedInstitution(kit, deadline=Deadline())
    assert door.handle("train", ask()).refusal is None
    monkeypatch.setattr(at_training, "keep_reference", broken)
    assert score(door) is None
    assert "No reference for confide drift was made: OSError." in caplog.text
    assert "Kowalski" not in "".join(it.message for it in caplog.records if it.levelno >= 20)


def test_a_plan_has_no_word_for_a_reference() -> None:
    assert "drift" not in PRIVATE.to_json()
