"""Pictures from folders, tables, Parquet and arrays, each told and known by its pixels."""

import os
import sqlite3
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest
from datasets import Dataset, Features, Image, Value
from pictures_made import build_pictures, cell, drawn, file_of, lights, write_folder
from PIL import Image as Pillow

from confide.client.records.checked import load_checked_records
from confide.client.records.report import check_records
from confide.client.records.sources.reading import Reading
from confide.client.records.whole import read_whole
from confide.config.data import DataConfig
from confide.config.run import Config
from confide.config.tasks.media.image_classification import ImageClassificationConfig
from confide.errors import DataError
from confide.held import parse_held

TASK = build_pictures()


def loaded(path: Path | str, task: ImageClassificationConfig = TASK, **fields: Any) -> Dataset:
    config = DataConfig(path=str(path), **{"num_clients": 1, **fields})
    return load_checked_records(config, task).records


def known(records: Dataset) -> list[tuple[str, str]]:
    """Return hash of pixels and label of each record."""
    cells = [parse_held(one) for one in records["image"]]
    assert all(cells)
    return sorted((one.sha256, label) for one, label in zip(cells, records["label"], strict=True))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "ward")


def test_every_source_of_the_same_pictures_gives_the_same_units(
    folder: Path, tmp_path: Path
) -> None:
    expected = known(loaded(folder))
    assert len(expected) == 24
    values, labels = lights(24)
    files = sorted(folder.rglob("*.png"), key=lambda path: path.stem)
    names = [path.relative_to(folder).as_posix() for path in files]
    pandas.DataFrame({"image": names, "label": labels}).to_csv(folder / "t.csv", index=False)
    (tmp_path / "bytes").mkdir()
    features = Features({"image": Image(), "label": Value("string")})
    rows = [{"image": {"bytes": file_of(one), "path": None}} for one in values]
    made = Dataset.from_list(
        [{**row, "label": label} for row, label in zip(rows, labels, strict=True)], features
    )
    made.to_parquet(tmp_path / "bytes" / "t.parquet")
    plain = pandas.DataFrame({"image": [file_of(one, "BMP") for one in values], "label": labels})
    plain.to_parquet(tmp_path / "plain.parquet")
    numpy.savez(
        tmp_path / "t.npz",
        train_images=numpy.stack(values[:16]),
        train_labels=numpy.array([[label == "light"] for label in labels[:16]], numpy.uint8),
        test_images=numpy.stack(values[16:]),
        test_labels=numpy.array([[label == "light"] for label in labels[16:]], numpy.uint8),
    )
    with sqlite3.connect(tmp_path / "t.db") as database:
        plain.to_sql("t", database)
    numbered = build_pictures(label_values={"0": "dark", "1": "light"})
    assert known(loaded(folder / "t.csv")) == expected
    assert known(loaded(tmp_path / "bytes" / "t.parquet")) == expected
    assert known(loaded(tmp_path / "plain.parquet")) == expected
    names = {"0": "dark", "1": "light"}
    arrays = known(loaded(tmp_path / "t.npz", numbered))
    assert [(one, names[label]) for one, label in arrays] == expected
    query = "SELECT image, label FROM t"
    assert known(loaded(f"sqlite:///{tmp_path / 't.db'}", query=query)) == expected


def test_a_number_that_is_none_is_no_label(tmp_path: Path) -> None:
    pixels = numpy.stack([drawn(number, (8, 8)) for number in range(3)])
    labels = numpy.array([1.0, numpy.nan, 0.0])
    numpy.savez(tmp_path / "t.npz", train_images=pixels, train_labels=labels)
    task = build_pictures(label_values={"0": "dark", "1": "light"}, self_training=0.9)
    assert set(loaded(tmp_path / "t.npz", task)["label"][:]) == {"1.0", None, "0.0"}


def test_units_are_pixels_and_not_files(tmp_path: Path) -> None:
    values = drawn(0, (8, 8))
    for name, form in (("a.png", "PNG"), ("b.bmp", "BMP"), ("c.tif", "TIFF")):
        (tmp_path / "dark").mkdir(exist_ok=True)
        (tmp_path / "dark" / name).write_bytes(file_of(values, form))
    (tmp_path / "light").mkdir()
    (tmp_path / "light" / "d.png").write_bytes(file_of(drawn(1, (8, 8))))
    checked = load_checked_records(DataConfig(path=str(tmp_path), num_clients=1), TASK)
    assert dict(checked.tally.left_out) == {"repeated": 2}


def test_folders_of_institutions_and_of_patients(tmp_path: Path) -> None:
    for number, name in enumerate(("north", "south")):
        for label in ("dark", "light"):
            place = tmp_path / name / label / f"patient-{number}"
            place.mkdir(parents=True)
            for slice_ in range(2):
                values = drawn(hash((name, label, slice_)) % 1000)
                (place / f"{slice_}.png").write_bytes(file_of(values))
    records = loaded(
        tmp_path, partitioner="natural", num_clients=None, group_column="folder", id_column="file"
    )
    assert sorted(set(records["__file__"])) == ["north", "south"]
    assert sorted(set(records["folder"])) == ["patient-0", "patient-1"]
    assert len(records) == 8


def test_one_class_with_an_unknown_name_is_told_and_no_institution(folder: Path) -> None:
    (folder / "dim").mkdir()
    (folder / "dim" / "x.png").write_bytes(file_of(drawn()))
    with pytest.raises(DataError, match=r"dim"):
        loaded(folder)


@pytest.mark.parametrize("place", ["", "icu", "north/icu"])
def test_folders_of_pictures_to_predict_on_need_not_be_classes(place: str, tmp_path: Path) -> None:
    (tmp_path / "new" / place).mkdir(parents=True)
    (tmp_path / "new" / place / "a.png").write_bytes(file_of(lights(1)[0][0]))
    reading = Reading(files=TASK.files)
    whole = read_whole(
        str(tmp_path / "new"), query=None, needed=["image", "label"], keep=None, reading=reading
    )
    (row,) = whole.kept.to_pylist()
    assert row == {"file": f"{place}/a.png".strip("/"), "folder": place or None}
    assert whole.places == (row["file"],)
    assert whole.records.column_names == ["image"]
    # One that is called as a class makes folders classes, of which another is a mistake
    (tmp_path / "new" / "dark").mkdir()
    (tmp_path / "new" / "dark" / "b.png").write_bytes(file_of(lights(2)[0][1]))
    again = read_whole(
        str(tmp_path / "new"), query=None, needed=["image", "label"], keep=None, reading=reading
    )
    assert "dark" in again.records["label"]


def test_stray_files_are_named(folder: Path) -> None:
    (folder / "dark" / "notes.txt").write_text("?")
    (folder / "dark" / ".DS_Store").write_text("?")
    with pytest.raises(DataError, match=r"move dark/notes\.txt elsewhere"):
        loaded(folder)


def test_what_cannot_be_used_is_counted_with_its_first_place(folder: Path) -> None:
    whole = file_of(drawn(0, (32, 32)))
    (folder / "dark" / "900.png").write_bytes(whole[:-200])
    (folder / "dark" / "901.png").write_bytes(b"?")
    deep = drawn(0, (4, 4)).astype(numpy.uint16) * 200
    (folder / "light" / "902.png").write_bytes(file_of(deep))
    with pytest.raises(DataError) as caught:
        loaded(folder)
    told = "\n".join(caught.value.problems)
    assert "1 of 27 pictures were cut off" in told
    assert "1 of 27 pictures are no picture" in told
    assert "1 of 27 pictures have more than 8 bits" in told
    assert "First in light/902.png." in told


def test_tables_count_files_that_are_not_there_and_cells_that_are_empty(folder: Path) -> None:
    text = "image,label\ndark/000.png,dark\nnowhere.png,dark\n,light\n"
    (folder / "t.csv").write_text(text)
    with pytest.raises(DataError) as caught:
        loaded(folder / "t.csv")
    told = "\n".join(caught.value.problems)
    assert "1 of 3 pictures name a file that is not there" in told
    assert "1 of 3 pictures are null" in told
    assert "First in line 3." in told


def test_what_was_done_to_pictures_is_told_by_the_check(folder: Path) -> None:
    (folder / "dark" / "900.jpg").write_bytes(
        file_of(Pillow.fromarray(drawn(0, (9, 9, 3))).convert("CMYK"), "JPEG")
    )
    (folder / "light" / "901.png").write_bytes(file_of(numpy.full((5, 5), 7, numpy.uint8)))
    report = check_records(Config(task=TASK, data=DataConfig(path=str(folder))))
    notes = "\n".join(report.notes)
    assert report.ready
    assert "1 of 26 pictures are in CMYK" in notes
    assert "1 of 26 pictures are in colour" in notes
    assert "1 of 26 pictures have one value in all pixels" in notes


def test_other_columns_are_refused(tmp_path: Path) -> None:
    frame = pandas.DataFrame({"image": [[1, 2], [3, 4]], "label": ["dark", "light"]})
    frame.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"Column image holds values of type list"):
        loaded(tmp_path / "t.parquet")


def test_cells_say_no_more_than_where_a_picture_lies(folder: Path) -> None:
    path = folder / "dark" / "000.png"
    (record, *_) = [one for one in loaded(folder)["image"] if str(path) in one]
    assert len(record) < 100 + len(str(path))
    assert parse_held(record).place == str(path)
    assert parse_held("\0picture") is None
    assert parse_held(cell(drawn())).findings == ()


def test_a_table_cannot_say_what_a_picture_holds(tmp_path: Path) -> None:
    cells = [cell(drawn(seed)) for seed in range(2)]
    pandas.DataFrame({"image": cells, "label": ["dark", "light"]}).to_parquet(
        tmp_path / "t.parquet"
    )
    with pytest.raises(DataError, match="Column image: 2 texts begin with a null character"):
        loaded(tmp_path / "t.parquet")


def test_folders_that_would_be_passed_over_are_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "light").rename(tmp_path / "elsewhere")
    (folder / "light").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"not links to folders elsewhere.* what light leads to"):
        loaded(folder)
    (folder / "light").unlink()
    (tmp_path / "elsewhere").rename(folder / "light")
    scan = os.scandir

    def refused(place: str) -> Any:
        if str(place).endswith("light"):
            raise PermissionError(13, "Permission denied", place)
        return scan(place)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(DataError, match="light: the folder cannot be read: Permission denied"):
        loaded(folder)


def test_what_is_no_file_in_a_folder_is_told(folder: Path) -> None:
    (folder / "dark" / "gone").symlink_to(folder / "nowhere")
    with pytest.raises(DataError, match=r"move dark/gone elsewhere"):
        loaded(folder)
    (folder / "dark" / "gone").unlink()
    os.mkfifo(folder / "dark" / "pipe")
    with pytest.raises(DataError, match=r"move dark/pipe elsewhere"):
        loaded(folder)
    (folder / "dark" / "pipe").unlink()
    os.rename(folder / "dark" / "000.png", os.fsencode(folder / "dark") + b"/\xff.png")
    with pytest.raises(DataError, match=r"\\udcff\.png is not UTF-8; rename it"):
        loaded(folder)


def _claiming(path: Path) -> None:
    """Write an array whose header claims 90 TiB."""
    with zipfile.ZipFile(path, "w") as file, file.open("train_images.npy", "w") as array:
        shape = (10**8, 1000, 1000)
        claimed = {"descr": "|u1", "fortran_order": False, "shape": shape}
        numpy.lib.format.write_array_header_1_0(array, claimed)


PIXELS = numpy.zeros((2, 3, 3), numpy.uint8)


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (lambda path: path.write_bytes(b"PK\x03\x04 and nothing else"), "cannot be read as .npz"),
        (_claiming, "cannot be read as .npz: Unable to allocate"),
        (
            lambda path: numpy.savez(path, train_images=numpy.array(3)),
            r"train_images has shape \[\]",
        ),
        (
            lambda path: numpy.savez(path, train_images=PIXELS, train_labels=numpy.array(3)),
            r"train_labels has shape \[\]",
        ),
        (
            lambda path: numpy.savez(path, train_images=PIXELS[:0], train_labels=numpy.zeros(0)),
            r"train_(labels|images) has shape \[0",
        ),
        (
            lambda path: numpy.savez(path, train_images=numpy.array([None, 1], object)),
            "cannot be read as .npz: Object arrays",
        ),
        (
            lambda path: numpy.savez(
                path, train_images=numpy.full((2, 3, 3), "a"), train_labels=numpy.zeros(2)
            ),
            "2 of 2 pictures are no arrays of numbers",
        ),
    ],
)
def test_arrays_that_cannot_be_used_are_told(
    write: Callable[[Path], object], told: str, tmp_path: Path
) -> None:
    write(tmp_path / "t.npz")
    with pytest.raises(DataError, match=told):
        loaded(tmp_path / "t.npz")
