"""``confide predict`` and ``confide export`` as an operator types them."""

import csv
import datetime
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pandas
import pyarrow
import pyarrow.parquet
import pytest
from small_models import save_table_run
from sqlalchemy import create_engine

from confide.cli import main
from confide.client.commands.export import _parser
from confide.client.commands.predictions_file import WRITERS
from confide.inference.predictor import FORMS

HEAD = "id,age,pain,state\n"
GOOD = HEAD + 'a,30,some,1\nb,,none,\n"c, d",61.5,some,0\n'


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_table_run(tmp_path_factory.mktemp("run")))


@pytest.fixture
def records(tmp_path: Path) -> str:
    file = tmp_path / "new.csv"
    file.write_text(GOOD)
    return str(file)


def read(path: Path) -> pandas.DataFrame:
    if path.suffix == ".parquet":
        return pandas.read_parquet(path)
    if path.suffix == ".jsonl":
        return pandas.DataFrame([json.loads(line) for line in path.read_text().splitlines()])
    return pandas.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",")


def test_records_are_not_replaced_by_their_predictions(
    run: str, records: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = Path(records)
    monkeypatch.chdir(file.parent)
    (file.parent / "link.csv").symlink_to(file)
    for given, output in [
        (records, records),
        (records, "./new.csv"),
        ("new.csv", "link.csv"),
        ("link.csv", records),
    ]:
        assert main(["predict", run, given, "--output", output]) == 2
        assert "is INPUT itself" in capsys.readouterr().err
    assert file.read_text() == GOOD


def test_predictions_are_their_owners_alone_and_lie_in_no_run(
    run: str, records: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.csv"
    assert main(["predict", run, records, "--output", str(output)]) == 0
    assert output.stat().st_mode & 0o777 == 0o600
    inside = Path(run) / "model" / "out.csv"
    assert main(["predict", run, records, "--output", str(inside)]) == 2
    assert "may travel, and predictions hold your records" in capsys.readouterr().err
    assert not inside.exists()


def test_what_a_terminal_obeys_is_shown_there_and_kept_elsewhere(run: str, tmp_path: Path) -> None:
    hostile = "\x1b[2Jx\x9b"
    (tmp_path / "new.csv").write_text(GOOD.replace("a,", f"{hostile},"))
    command = [sys.executable, "-m", "confide.cli", "predict", run, str(tmp_path / "new.csv")]
    assert hostile.encode() in subprocess.run(command, capture_output=True, check=True).stdout
    leader, follower = pty.openpty()
    with open(leader, "rb", buffering=0) as screen:
        done = subprocess.run(
            command, stdout=follower, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        )
        os.close(follower)
        shown = screen.read(2**16)
    assert done.returncode == 0
    assert rb"\x1b[2Jx\x9b,30,some" in shown
    assert b"\x1b" not in shown


def test_errors_quote_nothing_that_a_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "\x1b[2J", "new.csv"]) == 1
    told = capsys.readouterr().err
    assert r"\x1b[2J: no such folder" in told
    assert "\x1b" not in told


def test_csv_on_the_standard_output_is_the_input_with_predictions(
    run: str, records: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", run, records]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "id,age,pain,state,prediction,probability_well,probability_ill"
    assert [line.rsplit(",", 3)[0] for line in lines[1:]] == [
        "a,30,some,1",
        "b,,none,",
        '"c, d",61.5,some,0',
    ]
    assert "3 records predicted by model " in err
    trained = "which may include records that the model was trained on"
    assert f"on 2 labelled ones, {trained}: accuracy " in err


def test_values_outside_a_range_are_told(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "odd.csv"
    file.write_text("age,pain\n30,some\n,none\n3000,none\n")
    assert main(["predict", run, str(file)]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 4
    assert err.startswith("note: Column age: 1 of 2 values lie outside its range, ")
    file.write_text("age,pain\n30,some\n")
    assert main(["predict", run, str(file)]) == 0
    assert "note:" not in capsys.readouterr().err


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_format_holds_the_same(suffix: str, run: str, records: str, tmp_path: Path) -> None:
    output = tmp_path / f"out{suffix}"
    assert main(["predict", run, records, "--output", str(output), "--keep", "id"]) == 0
    assert main(["predict", run, records, "--output", str(tmp_path / "all.csv")]) == 0
    made, expected = read(output), read(tmp_path / "all.csv").drop(columns=["age", "pain", "state"])
    pandas.testing.assert_frame_equal(made, expected, check_dtype=False, atol=1e-6)


WORDS = ["None", "NA", "N/A", "nan", "NULL", "007", "1.10", " a ", 'say "x"', "a,b", "1e5", ""]
KEPT = pandas.DataFrame(
    {
        "word": [*WORDS],
        "whole": [2**53 + 1 + i for i in range(len(WORDS))],
        "share": [0.1, -0.0, 1e20] * 4,
        "ward": [True, False, True] * 4,
        "gap": pandas.array([1, None, 3] * 4, "Int64"),
        "day": [datetime.date(2024, 2, 29)] * len(WORDS),
        "age": [30.0, 61.5, 20.0] * 4,
        "pain": ["some", "none", "some"] * 4,
    }
)


@pytest.mark.parametrize("output", ["out.csv", "out.tsv"])
def test_kept_text_comes_out_byte_for_byte(output: str, run: str, tmp_path: Path) -> None:
    text = "note,age,pain\n" + "".join(
        f"{w},30,some\n" for w in WORDS if '"' not in w and "," not in w
    )
    text += '"say ""x""",30,some\n"a,b",30,some\n"a\nb",030.0,none\n"a\rb",,none\n'
    (tmp_path / "new.csv").write_text(text, newline="")
    path = tmp_path / output
    assert main(["predict", run, str(tmp_path / "new.csv"), "--output", str(path)]) == 0
    separator = "\t" if path.suffix == ".tsv" else ","
    with path.open(newline="") as made, (tmp_path / "new.csv").open(newline="") as given:
        rows = [row[:3] for row in csv.reader(made, delimiter=separator)]
        assert rows == list(csv.reader(given))
    if separator == ",":
        kept = ["predict", run, str(tmp_path / "new.csv"), "--output", str(tmp_path / "b.csv")]
        assert main([*kept, "--keep", "note"]) == 0
        assert (tmp_path / "b.csv").read_bytes().splitlines()[1].startswith(b"None,")


def test_kept_types_of_parquet_are_kept(run: str, tmp_path: Path) -> None:
    KEPT.to_parquet(tmp_path / "new.parquet")
    given = pyarrow.parquet.read_table(tmp_path / "new.parquet")
    output = tmp_path / "out.parquet"
    assert main(["predict", run, str(tmp_path / "new.parquet"), "--output", str(output)]) == 0
    assert pyarrow.parquet.read_table(output).select(given.column_names).equals(given)


def test_kept_numbers_of_json_lines_are_as_they_were_written(run: str, tmp_path: Path) -> None:
    lines = [
        '{"id":9007199254740993,"x":1.10,"y":1e2,"z":true,"l":[1, 2.50],"age":30,"pain":"some"}',
        '{"id":2,"x":"a","y":-0.0,"z":null,"l":null,"age":61.50,"pain":"none"}',
    ]
    (tmp_path / "new.jsonl").write_text("\n".join(lines))
    output = tmp_path / "out.jsonl"
    assert main(["predict", run, str(tmp_path / "new.jsonl"), "--output", str(output)]) == 0
    made = output.read_text().splitlines()
    assert [line.partition(',"prediction"')[0] + "}" for line in made] == lines
    assert main(["predict", run, str(tmp_path / "new.jsonl"), "--output", f"{output}.parquet"]) == 0
    table = pyarrow.parquet.read_table(f"{output}.parquet")
    assert table["id"].to_pylist() == [9007199254740993, 2]
    assert table["z"].type == pyarrow.bool_()
    assert table["x"].to_pylist() == ["1.10", "a"]


def test_kept_types_of_a_database_are_kept(run: str, tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/x.db")
    KEPT.drop(columns=["day", "ward"]).to_sql("t", engine, index=False)
    engine.dispose()
    output = tmp_path / "out.jsonl"
    words = [f"sqlite:///{tmp_path}/x.db", "--query", "SELECT * FROM t", "--output", str(output)]
    assert main(["predict", run, *words]) == 0
    first, second, *_ = [json.loads(line) for line in output.read_text().splitlines()]
    assert (first["word"], first["whole"], first["share"]) == ("None", 2**53 + 1, 0.1)
    assert (first["gap"], second["gap"]) == (1, None)


def test_an_input_in_another_encoding_is_refused_or_read(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "new.csv").write_bytes("name,age,pain\nJos\u00e9,30,some\n".encode("latin-1"))
    assert main(["predict", run, str(tmp_path / "new.csv")]) == 1
    assert "line 2 is not UTF-8" in capsys.readouterr().err
    assert main(["predict", run, str(tmp_path / "new.csv"), "--encoding", "latin-1"]) == 0
    assert "Jos\u00e9,30,some" in capsys.readouterr().out


def test_nothing_kept_leaves_predictions_alone(
    run: str, records: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", run, records, "--keep", ""]) == 0
    assert capsys.readouterr().out.startswith("prediction,probability_well,probability_ill\n")


def test_carriage_return_in_a_text_does_not_end_its_line(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.jsonl").write_text('{"note": "one\\rtwo", "age": 3, "pain": "none"}\n')
    assert main(["predict", run, str(tmp_path / "in.jsonl")]) == 0
    (tmp_path / "out.csv").write_text(capsys.readouterr().out, newline="")
    assert pandas.read_csv(tmp_path / "out.csv")["note"].tolist() == ["one\rtwo"]


def test_long_input_is_predicted_whole_and_in_order(run: str, tmp_path: Path) -> None:
    count = 2500
    rows = "".join(f"{i},{i % 90},none,{i % 2}\n" for i in range(count))
    (tmp_path / "in.csv").write_text(HEAD + rows)
    assert (
        main(["predict", run, str(tmp_path / "in.csv"), "--output", str(tmp_path / "out.csv")]) == 0
    )
    made = pandas.read_csv(tmp_path / "out.csv")
    assert made["id"].tolist() == list(range(count))
    assert made.groupby("age")["probability_ill"].nunique().max() == 1


def test_records_that_do_not_fit_are_all_named_and_nothing_is_written(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, output = tmp_path / "bad.csv", tmp_path / "out.csv"
    bad.write_text(HEAD + "a,old,some,1\nb,3,much,7\n")
    output.write_text("as it was\n")
    assert main(["predict", run, str(bad), "--output", str(output)]) == 1
    err = capsys.readouterr().err
    assert "The records have 3 problems" in err
    for place in ("record 1 ('old')", "record 2 ('much')", "record 2 ('7')"):
        assert f"First in {place}." in err
    assert "or predict the others with --misfits skip; what fits was settled" in err
    assert output.read_text() == "as it was\n"
    assert {path.name for path in tmp_path.iterdir()} == {"bad.csv", "out.csv"}


MIXED = HEAD + "a,30,some,1\nb,old,much,\nc,20,dull,0\nd,40,none,0\ne,50,some,7\n"


@pytest.mark.parametrize("suffix", WRITERS)
def test_skipped_records_keep_their_place_and_say_why(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    (tmp_path / "in.csv").write_text(MIXED)
    output = tmp_path / f"out{suffix}"
    words = ["predict", run, str(tmp_path / "in.csv"), "--output", str(output)]
    assert main([*words, "--misfits", "skip"]) == 0
    made = read(output)
    assert made["id"].tolist() == list("abcde")
    assert made["prediction"].notna().tolist() == [True, False, False, True, False]
    assert made["probability_ill"].notna().tolist() == made["prediction"].notna().tolist()
    assert made["problem"].dropna().tolist() == [
        "age ('old'): not a number; pain ('much'): unknown category",
        "pain ('dull'): unknown category",
        "state ('7'): unknown label",
    ]
    err = capsys.readouterr().err
    assert "2 records predicted" in err
    assert "on 2 labelled ones" in err
    assert "3 records skipped, which did not fit" in err


def test_skipping_changes_no_prediction_and_names_no_problem_where_all_fits(
    run: str, records: str, tmp_path: Path
) -> None:
    for how in ("refuse", "skip"):
        output = str(tmp_path / f"{how}.csv")
        assert main(["predict", run, records, "--misfits", how, "--output", output]) == 0
    refused, skipped = (pandas.read_csv(tmp_path / f"{how}.csv") for how in ("refuse", "skip"))
    assert skipped.pop("problem").isna().all()
    pandas.testing.assert_frame_equal(refused, skipped)


def test_a_file_in_which_nothing_fits_is_refused_even_where_misfits_are_skipped(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.csv").write_text(HEAD + "a,old,some,1\nb,3,much,0\n")
    assert main(["predict", run, str(tmp_path / "in.csv"), "--misfits", "skip"]) == 1
    out, err = capsys.readouterr()
    assert not out
    assert "The records have 2 problems" in err


def test_misfits_are_listed_up_to_a_bound(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.csv").write_text(HEAD + "a,30,some,1\n" + "b,30,much,0\n" * 13)
    assert main(["predict", run, str(tmp_path / "in.csv")]) == 1
    err = capsys.readouterr().err
    assert "First in record 2 ('much'), then record 3 ('much'), " in err
    assert "record 11 ('much') and 3 records more." in err


@pytest.mark.parametrize(
    ("words", "status", "match"),
    [
        (["{run}", "none.csv"], 1, "none.csv: no such file"),
        (
            ["{run}", "{records}", "--output", "out.xlsx"],
            2,
            "expected a file that ends in .csv, .tsv, .jsonl, .parquet",
        ),
        (["{run}", "{records}", "--output", "no/out.csv"], 2, "there is no folder no; make it"),
        (
            ["{run}", "{records}", "--keep", "id,name"],
            2,
            "has no column name; it has id, age, pain, state",
        ),
        (["no-run", "{records}"], 1, "no-run: no such folder; name RUN"),
        (["{run}", "{run}"], 1, "is a folder; name one file"),
        (["{run}"], 2, "the following arguments are required: INPUT"),
    ],
)
def test_mistakes_are_named(
    words: list[str],
    status: int,
    match: str,
    run: str,
    records: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["predict", *(word.format(run=run, records=records) for word in words)]) == status
    assert match in capsys.readouterr().err


def test_columns_that_would_be_written_twice_are_refused(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.csv").write_text("age,pain,prediction\n3,none,x\n")
    assert main(["predict", run, str(tmp_path / "in.csv")]) == 2
    assert "column prediction already" in capsys.readouterr().err
    assert main(["predict", run, str(tmp_path / "in.csv"), "--keep", "age"]) == 0


@pytest.mark.slow
def test_reader_that_has_read_enough_is_no_error(run: str, records: str) -> None:
    command = f"set -o pipefail; {sys.executable} -m confide.cli predict {run} {records} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.replace("Broken", "")) == (0, done.stderr)


# --- export


def test_export_prints_sizes_times_and_metrics_and_predict_takes_the_folder(
    run: str, records: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "exported")
    assert main(["export", run, "--to", "merged", "--output", folder, "--check", records]) == 0
    shown = capsys.readouterr().out
    for words in (
        "3 records",
        "MB",
        "ms a record",
        "largest difference",
        "accuracy, 2 labelled",
        f"written to {folder}",
    ):
        assert words in shown
    assert main(["predict", run, records]) == 0
    own = capsys.readouterr().out
    assert main(["predict", folder, records]) == 0
    assert capsys.readouterr().out[:60] == own[:60]


def test_forms_on_the_command_line_are_those_there_are() -> None:
    action = next(action for action in _parser()._actions if action.dest == "to")
    assert tuple(action.choices or ()) == tuple(FORMS)


@pytest.mark.parametrize(
    ("words", "status"), [(["--help"], 0), (["run"], 2), (["run", "--to", "gguf"], 2)]
)
def test_export_says_what_it_takes(
    words: list[str], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", *words]) == status
    assert "hf" in "".join(capsys.readouterr())
