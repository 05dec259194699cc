"""``confide drift`` as an institution's people type it."""

import csv
import json
import stat
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
from drift_records import write_ward
from small_kit import make_kit
from small_models import save_table_run

from confide.audit_log.files import files_of, lines_of
from confide.cli import main
from confide.client.drift.references import reference_path
from confide.inference.predictor import find_model
from confide.models.saved import read_description

Drift = Callable[..., int]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_table_run(tmp_path_factory.mktemp("run")))


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Records at training, alike, older, and few."""
    made = {
        "old": write_ward(tmp_path / "old.csv", seed=0),
        "alike": write_ward(tmp_path / "alike.csv", seed=1),
        "older": write_ward(tmp_path / "older.csv", seed=2, older=20),
        "few": write_ward(tmp_path / "few.csv", seed=3, count=20, older=40),
    }
    return {name: str(path) for name, path in made.items()}


def changed(source: str, path: Path, *, count: int, without: str = "", **values: str) -> Path:
    """Write records of which the first have other values, and none has a column."""
    with Path(source).open() as file:
        rows = list(csv.DictReader(file))
    for row in rows[:count]:
        row.update(values)
    names = [name for name in rows[0] if name != without]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_the_exit_status_says_whether_there_is_drift(
    run: str, files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    for name, status, begins in [
        ("alike", 0, "No drift found: 200 records against 200 of old.csv"),
        ("older", 3, "Drift: "),
        ("few", 0, "Too few records to look for drift: 20 records"),
    ]:
        assert main(["drift", run, files[name], "--reference", files["old"]]) == status
        assert capsys.readouterr().out.startswith(begins)


def test_the_worst_comes_first_in_plain_words(
    run: str, files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["drift", run, files["older"], "--reference", files["old"]])
    first = capsys.readouterr().out.splitlines()[1]
    assert first.startswith("  age: values are higher: median ")
    assert "in the reference" in first


def test_a_kept_reference_is_as_good_as_its_records(
    run: str, files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "ward.drift"
    assert main(["drift", run, "--reference", files["old"], "--keep-reference", str(kept)]) == 0
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    told = []
    for reference in (files["old"], str(kept)):
        capsys.readouterr()
        main(["drift", run, files["older"], "--reference", reference, "--json"])
        told.append(json.loads(capsys.readouterr().out))
    assert told[0]["findings"] == told[1]["findings"]
    assert told[0]["verdict"] == "drift"
    assert "for the institution alone" in told[0]["holds"].replace("\n", " ")


def test_the_page_is_its_owners_alone_and_names_no_other_place(
    run: str, files: dict[str, str], tmp_path: Path
) -> None:
    page = tmp_path / "drift.html"
    main(["drift", run, files["older"], "--reference", files["old"], "--page", str(page)])
    text = page.read_text()
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert "<script" not in text
    assert "src=" not in text
    assert text.count("<svg") > 2


def test_a_category_that_training_never_saw_is_drift_and_no_mistake(
    run: str, files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = changed(files["alike"], tmp_path / "other.csv", pain="unbearable", count=60)
    assert main(["drift", run, str(other), "--reference", files["old"]]) == 3
    told = capsys.readouterr().out
    assert "pain: 30 % of records have a category that the reference does not; 0 %" in told
    assert "other.csv: 60 of 200 records have a value that the model's schema refuses" in told


def test_a_note_names_the_file_that_it_is_about(
    run: str, files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = changed(files["alike"], tmp_path / "odd.csv", count=2, age="9999")
    main(["drift", run, str(odd), "--reference", files["old"]])
    assert "note: odd.csv: Column age: 2 of 195 values lie outside" in capsys.readouterr().err


@pytest.mark.parametrize("count", [200, 20])
def test_a_column_that_is_missing_is_an_alarm_however_few_the_records(
    count: int, run: str, files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = files["alike"] if count == 200 else files["few"]
    other, page = tmp_path / "other.csv", tmp_path / "drift.html"
    other.write_text(changed(source, other, count=0).read_text().replace("age", "Age", 1))
    words = ["drift", run, str(other), "--reference", files["old"], "--page", str(page)]
    assert main(words) == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"  Column age is missing in all {count} records. (certain)"
    assert "  other.csv: 'age' differs from 'Age' only by upper and lower case." in lines
    assert any("The model needs column age and was not asked" in line for line in lines)
    assert f"Column age is missing in all {count} records." in page.read_text()


def test_a_reference_that_lacks_a_column_is_refused(
    run: str, files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = changed(files["old"], tmp_path / "other.csv", count=0, without="age")
    assert main(["drift", run, files["alike"], "--reference", str(other)]) == 1
    assert "other.csv lacks column age, which the model needs" in capsys.readouterr().err


def test_an_unknown_label_is_told_and_its_records_are_left_out_of_performance(
    run: str, files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for count, status in ((2, 0), (60, 3)):
        other = changed(files["alike"], tmp_path / "other.csv", state="maybe", count=count)
        words = ["drift", run, str(other), "--reference", files["old"], "--json"]
        assert main(words) == status
        told = json.loads(capsys.readouterr().out)
        assert told["skipped"] == [
            f"other.csv: {count} of 200 records have a label that the model's schema does not know,"
            f" such as 'maybe' ({count} records); performance and calibration leave them out."
        ]
        found = {it["kind"]: it["sentence"] for it in told["findings"]}
        assert found["performance"].startswith(f"On {200 - count} labelled records")
    assert "label state: 30 % of records have a label that the reference does not" in {
        it["sentence"].partition(";")[0] for it in told["findings"] if it["is_alarm"]
    }


def test_what_an_exported_model_does_not_show_is_said(
    run: str, files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported = str(tmp_path / "onnx")
    assert main(["export", run, "--to", "onnx", "--output", exported]) == 0
    capsys.readouterr()
    assert main(["drift", exported, files["alike"], "--reference", files["old"]]) == 0
    told = capsys.readouterr().out
    assert "as the model sees them are not compared (MMD): this model does not show what" in told


def test_a_mistyped_threshold_is_told_with_the_one_that_was_meant(
    run: str, files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    thresholds = tmp_path / "drift.yaml"
    thresholds.write_text("min_record: 60\n")
    words = ["drift", run, files["older"], "--reference", files["old"]]
    assert main([*words, "--thresholds", str(thresholds)]) == 2
    told = capsys.readouterr().err
    assert "min_record=60: there is no such setting. Did you mean min_records?" in told


def test_thresholds_are_the_institutions_own(
    run: str, files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    thresholds = tmp_path / "drift.yaml"
    thresholds.write_text("psi: 99\nlabel_psi: 99\nmmd: 2\nperformance: 99\ncalibration: 2\n")
    words = ["drift", run, files["older"], "--reference", files["old"]]
    assert main([*words, "--thresholds", str(thresholds)]) == 0
    thresholds.write_text("alpha: 2\npsy: 1\n")
    assert main([*words, "--thresholds", str(thresholds)]) == 2
    thresholds.write_text("alpha: 2\nmin_records: 1\n")
    capsys.readouterr()
    assert main([*words, "--thresholds", str(thresholds)]) == 2
    told = capsys.readouterr().err
    assert "alpha=2" in told
    assert "min_records=1" in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["{old}"], "Nothing to compare with"),
        (["--reference", "{old}"], "INPUT is missing"),
        (["{old}", "--reference", "{old}", "--page", "/nowhere/x.html"], "no folder /nowhere"),
        (["--reference", "{old}", "--keep-reference", "x.csv"], "ends in .drift"),
        (["{old}", "--reference", "{old}", "--page", "{old}"], "ends in .html"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_loaded(
    words: list[str], told: str, files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["drift", "/no/such/run", *(word.format(**files) for word in words)]) == 2
    assert told in capsys.readouterr().err


def test_nothing_made_of_records_is_written_into_a_run(
    run: str, files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    page, kept = Path(run, "page.html"), Path(run, "model", "kept.drift")
    words = ["drift", run, files["few"], "--reference", files["old"]]
    assert main([*words, "--page", str(page), "--keep-reference", str(kept)]) == 2
    assert capsys.readouterr().err.count("may travel, and this holds statistics") == 2
    assert not page.exists()
    assert not kept.exists()


def test_a_terminal_obeys_no_name(
    run: str, files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = tmp_path / "old\x1b[2J.csv"
    odd.write_bytes(Path(files["old"]).read_bytes())
    assert main(["drift", run, files["few"], "--reference", str(odd)]) == 0
    assert "of old\\x1b[2J.csv" in capsys.readouterr().out


def test_a_reference_of_another_model_is_refused(
    run: str, files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, other = str(tmp_path / "ward.drift"), str(save_table_run(tmp_path / "o", hidden=(3,)))
    main(["drift", other, "--reference", files["old"], "--keep-reference", kept])
    assert main(["drift", run, files["alike"], "--reference", kept]) == 2
    assert "was made with model" in capsys.readouterr().err


def test_a_kit_keeps_the_reference_and_its_log_tells_numbers_alone(
    run: str, files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kit = make_kit(tmp_path / "kit")
    folder = ["--kit", str(kit.folder)]
    assert main(["drift", run, files["alike"], *folder]) == 2
    assert "no reference of model" in capsys.readouterr().err
    assert main(["drift", run, "--reference", files["old"], *folder]) == 0
    assert main(["drift", run, files["older"], *folder]) == 3
    model = read_description(find_model(Path(run))).model_sha256
    assert stat.S_IMODE(reference_path(kit, model).stat().st_mode) == 0o600
    lines = [line.event for path in files_of(kit.audit_log) for line in lines_of(path)]
    (event,) = [it for it in lines if it is not None and it.kind == "drift_checked"]
    assert set(event.content) == {"user", "model", "tests", "verdict", "alarms"}
    assert (event.content["model"], event.content["verdict"]) == (model, "drift")
    assert event.content["alarms"] >= 1


def test_the_same_check_says_the_same(
    run: str, files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    told = []
    for _ in range(2):
        numpy.random.seed(None)
        main(["drift", run, files["older"], "--reference", files["old"], "--json"])
        found = json.loads(capsys.readouterr().out)
        told.append(found["findings"])
    assert told[0] == told[1]
