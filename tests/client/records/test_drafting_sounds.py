"""A folder of sounds becomes a project that trains."""

from pathlib import Path

import pytest
from sounds_made import RATE, tone, wav, write_spelled, write_tones

import confide
from confide.client.records.drafting.reading import draft_source
from confide.config.outcomes.transcript import TranscriptConfig
from confide.config.tasks.media.audio_classification import AudioClassificationConfig
from confide.config.tasks.media.speech_recognition import SpeechRecognitionConfig
from confide.errors import DataError
from confide.simulations.commands.init import main as init_main


def test_classes_institutions_and_the_rate_are_found(tmp_path: Path) -> None:
    folder = write_tones(tmp_path / "tones")
    (folder / "east" / "low" / "x.wav").write_bytes(b"?")
    draft = draft_source(str(folder))
    assert isinstance(draft.task, AudioClassificationConfig)
    assert (draft.task.labels, draft.task.rate) == (["high", "low"], RATE)
    assert draft.folders == 2
    assert any("2 institutions: east, west" in note for note in draft.notes)
    assert any("sounds that were looked at are no WAV file" in note for note in draft.notes)


@pytest.mark.parametrize(("recorded", "drafted"), [(8_000, 8_000), (44_100, 16_000)])
def test_sounds_are_not_resampled_upwards(recorded: int, drafted: int, tmp_path: Path) -> None:
    for name, hertz in (("low", 300.0), ("high", 2400.0)):
        (tmp_path / name).mkdir()
        heard = wav(tone(hertz, 0.1, rate=recorded), rate=recorded)
        (tmp_path / name / "1.wav").write_bytes(heard)
    task = draft_source(str(tmp_path)).task
    assert isinstance(task, AudioClassificationConfig)
    assert task.rate == drafted


def test_folders_without_classes_are_refused(tmp_path: Path) -> None:
    folder = write_tones(tmp_path / "tones")
    with pytest.raises(DataError, match=r"expected CLASS/FILE .* that names the sounds"):
        draft_source(str(folder / "east" / "low"))


def test_files_of_another_kind_beside_sounds_are_named(tmp_path: Path) -> None:
    folder = write_tones(tmp_path / "tones")
    (folder / "east" / "low" / "notes.png").write_bytes(b"?")
    with pytest.raises(DataError, match=r"expected sounds .*move east/low/notes\.png"):
        draft_source(str(folder))


def test_project_of_a_folder_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_tones(tmp_path / "tones")
    assert init_main(["tones", "--from", "tones"]) == 0
    assert "confide predict runs/tones tones --output" in Path("README.md").read_text()
    result = confide.simulate(
        ["experiment=tones", "server.num_rounds=1", "task.bands=8", "tracking=none"]
    )
    assert sorted(result.summary["clients"]) == ["east", "west"]
    assert result.summary["privacy"]["unit"] == "record"


def test_texts_beside_sounds_make_speech_recognition(tmp_path: Path) -> None:
    folder = write_spelled(tmp_path / "wards", count=4)
    draft = draft_source(str(folder))
    assert isinstance(draft.task, SpeechRecognitionConfig)
    # Of the texts nothing is in the draft
    assert draft.task.outcome == TranscriptConfig()
    assert (draft.records, draft.folders, draft.task.rate) == (8, 2, RATE)
    assert any("2 institutions: east, west" in note for note in draft.notes)
    alone = draft_source(str(folder / "east"))
    assert isinstance(alone.task, SpeechRecognitionConfig)
    assert alone.folders == 0


def test_project_of_spoken_texts_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_spelled(tmp_path / "wards", count=12)
    assert init_main(["wards", "--from", "wards"]) == 0
    overrides = ("server.num_rounds=1", "client.local_steps=2", "task.seconds=1")
    result = confide.simulate(
        [
            *("experiment=wards", "tracking=none", "backbone.width=8", "backbone.depth=1"),
            *overrides,
        ]
    )
    assert sorted(result.summary["clients"]) == ["east", "west"]
