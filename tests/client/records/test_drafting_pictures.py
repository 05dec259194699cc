"""A folder of pictures becomes a project that trains."""

from pathlib import Path

import pytest
from pictures_made import drawn, file_of, write_folder

import confide
from confide.client.records.drafting.pictures import draft_pictures
from confide.errors import DataError
from confide.simulations.commands.init import main as init_main


def test_classes_channels_and_what_to_look_at_are_found(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "all", 8)
    draft = draft_pictures(folder)
    assert (draft.task.labels, draft.task.channels) == (["dark", "light"], 1)
    assert draft.records == 8
    (folder / "dark" / "x.png").write_bytes(file_of(drawn(0, (4, 4, 3))))
    (folder / "dark" / "y.png").write_bytes(b"?")
    draft = draft_pictures(folder)
    assert draft.task.channels == 3
    assert any("1 of 10 pictures that were looked at are no picture" in n for n in draft.notes)


def test_institutions_are_told_from_patients(tmp_path: Path) -> None:
    for name in ("east", "west"):
        write_folder(tmp_path / "wards" / name, 4)
    draft = draft_pictures(tmp_path / "wards")
    assert draft.task.labels == ["dark", "light"]
    assert any("2 institutions: east, west" in note for note in draft.notes)
    for label in ("dark", "light"):
        for patient in range(2):
            place = tmp_path / "all" / label / f"{label}-{patient}"
            place.mkdir(parents=True)
            (place / "1.png").write_bytes(file_of(drawn(patient)))
    draft = draft_pictures(tmp_path / "all")
    assert draft.task.labels == ["dark", "light"]
    assert any("data.group_column=folder" in choice for choice in draft.choices)


def test_folder_without_classes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(file_of(drawn()))
    with pytest.raises(DataError, match=r"folders name 0 classes"):
        draft_pictures(tmp_path)


def test_project_of_a_folder_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "scans", 40)
    assert init_main(["scans", "--from", "scans"]) == 0
    assert "confide predict runs/scans scans --output" in Path("README.md").read_text()
    result = confide.simulate(
        ["experiment=scans", "server.num_rounds=1", "task.size=8", "tracking=none"]
    )
    assert result.summary["data"]["records"] == 40
    assert result.summary["privacy"]["unit"] == "record"
