"""``confide explain`` as an operator types it."""

import csv
import json
import sys
from pathlib import Path

import pytest
from explained_models import drawn_loans, save_loans, save_plan
from pictures_made import build_pictures
from small_language_models import TASK, make_language_model
from small_models import TEXT, make_backbone

from confide.cli import main
from confide.config.models.cnn import CnnConfig
from confide.explaining.explanation import WARNING
from confide.inference.export import export


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loans") / "RUN"
    save_loans(folder)
    return folder


@pytest.fixture
def loans(tmp_path: Path) -> str:
    columns = drawn_loans(30)
    with (tmp_path / "loans.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return str(tmp_path / "loans.csv")


def test_records_get_sentences_and_files_that_only_their_owner_reads(
    run: Path, loans: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, values = tmp_path / "why.html", tmp_path / "why.json"
    words = ["explain", str(run), loans, "--rows", "3,7", "--fix", "shoe,house"]
    assert main([*words, "--output", str(page), "--output", str(values)]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("Record 3: predicted ")
    assert "\nRecord 7: predicted " in told.out
    assert "accuracy" in told.out
    assert WARNING in told.err
    for path in (page, values):
        assert path.stat().st_mode & 0o777 == 0o600
    records = json.loads(values.read_text())["records"]
    changed = [it["column"] for one in records for it in one["counterexample"].get("changes", [])]
    assert changed
    assert not {"shoe", "house"} & set(changed)
    assert "Record 7" in page.read_text()


def test_without_a_name_the_first_records_are_explained_and_json_is_json(
    run: Path, loans: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", str(run), loans, "--json", "--parts", "attributions"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["record"] for one in told["records"]] == list(range(1, 11))
    assert "The first 10 of 30 records" in told["notes"][0]
    assert told["importance"] is None
    assert told["dependence"] == []


def test_rows_may_be_ranges_and_are_explained_once(
    run: Path, loans: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["explain", str(run), loans, "--rows", "9,2-4,3", "--parts", "attributions", "--json"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["record"] for one in told["records"]] == [9, 2, 3, 4]


def test_of_two_classes_all_is_told_of_one_and_what_is_shown_has_one_name(
    run: Path, loans: str, tmp_path: Path
) -> None:
    page, values = tmp_path / "why.html", tmp_path / "why.json"
    words = ["explain", str(run), loans, "--output", str(page), "--output", str(values)]
    for target in ("approved", "refused"):
        own = [] if target == "approved" else ["--target", target]
        assert main([*words, *own]) == 0
        told = json.loads(values.read_text())
        assert {it["prediction"].split()[0] for it in told["records"]} == {"approved", "refused"}
        assert {it["of"] for it in told["records"]} == {f"log-odds of {target}"}
        assert {it["shown"]["of"] for it in told["records"]} == {f"probability of {target}"}
        assert {it["of"] for it in told["dependence"]} == {f"probability of {target}"}
        assert told["curves"]["outputs"] == [f"log-odds of {target}"]
        # Higher income speaks for approval
        income = told["curves"]["columns"]["income"]["y"][0]
        assert (income[-1] > income[0]) == (target == "approved")
        text = page.read_text()
        assert text.count("add up to the difference between both, in log-odds of") == 1
        assert "Numbers below add to" not in text


def test_records_that_do_not_fit_are_told_and_may_be_skipped(
    run: Path, loans: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = ["explain", str(run), loans, "--parts", "attributions", "--json"]
    assert main([*whole, "--rows", "3,5"]) == 0
    expected = json.loads(capsys.readouterr().out)["records"]
    lines = Path(loans).read_text().splitlines()
    lines[2] = "much" + lines[2][lines[2].index(",") :]
    odd = tmp_path / "odd.csv"
    odd.write_text("\n".join(lines) + "\n")
    words = ["explain", str(run), str(odd), "--parts", "attributions", "--json"]
    assert main([*words, "--rows", "3"]) == 1
    assert "explain the others with --misfits skip" in capsys.readouterr().err
    assert main([*words, "--rows", "2,3", "--misfits", "skip"]) != 0
    assert "--rows 2: does not fit: income ('much'): not a number." in capsys.readouterr().err
    assert main([*words, "--rows", "3,5", "--misfits", "skip"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["records"] == expected
    assert told["notes"] == [
        "1 record skipped, which did not fit: record 2 (income ('much'): not a number)."
    ]
    assert main([*words, "--misfits", "skip"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["record"] for one in told["records"]] == [1, *range(3, 12)]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["--method", "lime", "--baseline", "zero"],
            ["--method lime", "--baseline zero: expected"],
        ),
        (["--rows", "3,x,9-7"], ["--rows x,9-7: expected numbers and ranges such as 3,7-9"]),
        (["--rows", "1-999999"], ["--rows 1-999999: expected at most 10,000 records"]),
        (["--rows", "31"], ["--rows 31: expected numbers of records, from 1 to 30"]),
        (["--target", "aproved"], ["--target aproved: expected one of refused, approved"]),
        (["--to", "maybe"], ["--to maybe: expected one of refused, approved"]),
        (["--change", "incom", "--fix", "age"], ["--change incom", "--fix age: expected one of"]),
        (["--change", "debt", "--fix", "debt"], ["--fix debt: --change names it too"]),
        (["--parts", "all"], ["--parts all: expected one of attributions"]),
        (["--output", "why.pdf"], ["--output why.pdf: expected a name that ends in .html or"]),
        (["--output", "nowhere/why.html"], ["there is no folder nowhere"]),
    ],
)
def test_what_cannot_be_answered_is_refused_by_name(
    run: Path, loans: str, words: list[str], expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", str(run), loans, *words]) == 2
    told = capsys.readouterr()
    for text in expected:
        assert text in told.err
    assert told.out == ""


def test_nothing_made_of_records_is_written_into_a_run(
    run: Path, loans: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for target in (run / "why.html", run / "model" / "why.json"):
        assert main(["explain", str(run / "model"), loans, "--output", str(target)]) == 2
        assert "may travel, and explanations hold your records" in capsys.readouterr().err
        assert not target.exists()


def test_records_are_not_replaced_by_their_explanations(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = tmp_path / "loans.json"
    records.write_text('[{"income": "80", "debt": "10", "house": "owns", "shoe": "44"}]')
    (tmp_path / "link.json").symlink_to(records)
    for target in (records, tmp_path / "link.json"):
        assert main(["explain", str(run), str(records), "--output", str(target)]) == 2
        assert "is INPUT itself" in capsys.readouterr().err
    assert records.read_text().startswith('[{"income"')


def test_columns_are_asked_of_tables_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_plan(tmp_path / "RUN", build_pictures(), CnnConfig(widths=[4]))
    assert main(["explain", str(tmp_path / "RUN"), str(tmp_path), "--to", "light"]) == 2
    assert "--to: only rows of a table have columns" in capsys.readouterr().err


def test_an_exported_model_without_gradients_is_explained_by_shapley_values(
    run: Path, loans: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(run, "onnx", tmp_path / "onnx")
    words = ["explain", str(tmp_path / "onnx"), loans, "--rows", "3", "--json"]
    assert main(words) == 0
    (by_onnx,) = json.loads(capsys.readouterr().out)["records"]
    assert by_onnx["attributions"]["method"] == "shapley"
    assert main(["explain", str(run), loans, "--rows", "3", "--json"]) == 0
    (by_run,) = json.loads(capsys.readouterr().out)["records"]
    # Of a linear model both are its weights times the distance
    for one, other in zip(
        by_onnx["attributions"]["units"], by_run["attributions"]["units"], strict=True
    ):
        assert one["adds"] == pytest.approx(other["adds"], abs=1e-4)
    assert main([*words, "--method", "integrated_gradients"]) == 2
    assert "takes gradients, and this model has none" in capsys.readouterr().err


def test_an_answer_is_explained_token_by_token_of_questions_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_plan(tmp_path / "RUN", TASK, make_language_model(tmp_path / "tiny"), "lora")
    questions, page = tmp_path / "questions.csv", tmp_path / "why.html"
    questions.write_text("prompt\nWhen?\n")
    words = ["explain", str(tmp_path / "RUN"), str(questions), "--method", "occlusion"]
    assert main([*words, "--json", "--output", str(page)]) == 0
    (record,) = json.loads(capsys.readouterr().out)["records"]
    found = record["attributions"]
    assert [it["unit"] for it in found["units"]] == list("When?")
    assert len(found["pieces"]) == TASK.outcome.max_tokens
    for place, unit in enumerate(found["units"]):
        assert sum(it["adds"][place] for it in found["pieces"]) == pytest.approx(unit["adds"])
    text = page.read_text()
    assert text.count('<th scope="row">') == len(found["pieces"]) + 1
    # Occlusion hides a unit at a time: its values need not add up, and are not said to
    assert "need not add up" in text
    assert "together they add up" not in text
    assert main([*words, "--target", "0"]) == 2
    assert "--target 0: expected one of 1, 2," in capsys.readouterr().err


def test_without_captum_the_extra_is_named(
    run: Path, loans: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # As Python itself marks a module that cannot be imported
    monkeypatch.setitem(sys.modules, "captum", None)
    assert main(["explain", str(run), loans]) == 2
    assert "pip install 'confide[explain]'" in capsys.readouterr().err


def test_texts_are_explained_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_plan(tmp_path / "RUN", TEXT, make_backbone(tmp_path / "tiny"))
    (tmp_path / "new.csv").write_text("text\nlate again and so rude\n")
    assert main(["explain", str(tmp_path / "RUN"), str(tmp_path / "new.csv")]) == 0
    told = capsys.readouterr().out
    assert "integrated gradients" in told
    assert any(word in told for word in ("late", "again", "rude"))
