"""Files and folders: what is read, what is refused by name, and that nothing is left behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas
import pyarrow
import pyarrow.parquet
import pytest

from confide.client.records.sources.reading import Reading
from confide.client.records.sources.sources import FILE_COLUMN, SourceRecords, load_records
from confide.errors import DataError

ROWS = 300_000
FRAME = pandas.DataFrame(
    {
        "id": [1, 2, 3],
        "age": [63.0, None, 41.5],
        "fbs": pandas.array([True, None, False], "boolean"),
        "note": ["a", "b\nc", "d"],
    }
)
TEXT = {
    "id": ["1", "2", "3"],
    "age": ["63", None, "41.5"],
    "fbs": ["true", None, "false"],
    "note": ["a", "b\nc", "d"],
}


def load(path: Path | str, *columns: str, in_memory_mb: int = 64) -> SourceRecords:
    return load_records(
        str(path), columns or ("id", "age", "fbs", "note"), in_memory_mb=in_memory_mb
    )


def write_arrow(
    frame: pandas.DataFrame, path: Path, new: Callable[..., pyarrow.ipc.RecordBatchStreamWriter]
) -> None:
    table = pyarrow.Table.from_pandas(frame)
    with new(path, table.schema) as writer:
        writer.write_table(table)


WRITERS: dict[str, Callable[[pandas.DataFrame, Path], object]] = {
    "x.jsonl": lambda frame, path: frame.to_json(path, orient="records", lines=True),
    "x.json": lambda frame, path: frame.to_json(path, orient="records", indent=1),
    "lines.json": lambda frame, path: frame.to_json(path, orient="records", lines=True),
    "x.ndjson": lambda frame, path: frame.to_json(path, orient="records", lines=True),
    "x.parquet": lambda frame, path: frame.to_parquet(path),
    "stream.arrow": lambda frame, path: write_arrow(frame, path, pyarrow.ipc.new_stream),
    "file.arrow": lambda frame, path: write_arrow(frame, path, pyarrow.ipc.new_file),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("in_memory_mb", [64, 0])
def test_typed_files_become_the_same_text(name: str, in_memory_mb: int, tmp_path: Path) -> None:
    WRITERS[name](FRAME, tmp_path / name)
    assert load(tmp_path / name, in_memory_mb=in_memory_mb).records.to_dict() == TEXT


@pytest.mark.parametrize(("name", "separator"), [("x.csv", ","), ("x.tsv", "\t"), ("X.CSV", ",")])
def test_delimited_files_are_the_text_that_stands_there(
    name: str, separator: str, tmp_path: Path
) -> None:
    FRAME.to_csv(tmp_path / name, sep=separator, index=False)
    assert load(tmp_path / name).records.to_dict() == TEXT | {
        "age": ["63.0", None, "41.5"],
        "fbs": ["True", None, "False"],
    }


def test_only_the_columns_asked_for_are_kept(tmp_path: Path) -> None:
    FRAME.to_parquet(tmp_path / "x.parquet")
    assert load(tmp_path / "x.parquet", "note", "id").records.column_names == ["note", "id"]


def test_categories_of_pandas_and_odd_paths_are_read(tmp_path: Path) -> None:
    folder = tmp_path / ".hidden [1] *"
    folder.mkdir()
    FRAME.astype({"note": "category"}).to_parquet(folder / "a?b.parquet")
    assert load(folder / "a?b.parquet").records.to_dict() == TEXT


ENCODED: dict[str, tuple[bytes, str]] = {
    "latin-1": (b"id,note\n1,a\n2,caf\xe9\n", r"line 3 is not UTF-8 \(byte 0xe9: .*cp1252"),
    "gbk": (
        "id,note\n1,\u8bca\u65ad\n".encode("gbk"),
        r"line 2 is not UTF-8 .*fit .*gb18030",
    ),
    "utf-16": ("id,note\n1,a\n".encode("utf-16"), "is UTF-16, .*data.encoding=utf-16"),
    "utf-16 without a mark": ("id,note\n1,a\n".encode("utf-16-be"), "data.encoding=utf-16-be"),
    "utf-32": ("id,note\n1,a\n".encode("utf-32"), "is UTF-32"),
    "cut off": ("\u8bca".encode()[:-1], "line 1 ends in the middle of a character"),
}


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.jsonl"])
@pytest.mark.parametrize("what", ENCODED)
def test_text_that_is_not_utf8_is_refused_with_the_line(
    what: str, name: str, tmp_path: Path
) -> None:
    content, message = ENCODED[what]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        load(tmp_path / name, "note")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "gb18030"])
def test_a_named_encoding_is_read(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes("id,note\n1,\u8bca\u65ad\ufffd\n".encode(encoding))
    reading = Reading(encoding=encoding)
    loaded = load_records(str(tmp_path / "x.csv"), ("id", "note"), in_memory_mb=1, reading=reading)
    assert loaded.records.to_dict() == {"id": ["1"], "note": ["\u8bca\u65ad\ufffd"]}
    assert not loaded.notes


def test_what_is_replaced_on_request_is_counted(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"id,note\n1,caf\xe9\n2,b\n")
    reading = Reading(errors="replace")
    loaded = load_records(str(tmp_path / "x.csv"), ("note",), in_memory_mb=1, reading=reading)
    assert list(loaded.records["note"]) == ["caf\ufffd", "b"]
    assert "1 lines hold characters that are not UTF-8" in loaded.notes[0]


def test_utf8_read_as_something_else_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("id,note\n1,caf\u00e9\n", encoding="utf-8")
    reading = Reading(encoding="latin-1")
    loaded = load_records(str(tmp_path / "x.csv"), ("note",), in_memory_mb=1, reading=reading)
    assert "is UTF-8, by all appearances" in loaded.notes[0]


def test_parquet_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    broken = pyarrow.array([b"caf\xe9"]).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"note": broken}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="Column note holds text that is not UTF-8"):
        load(tmp_path / "x.parquet", "note")


WORDS = ["None", "NA", "N/A", "nan", "NaN", "null", "NULL", "#N/A", "-", "inf", " "]


def test_only_an_empty_cell_is_null(tmp_path: Path) -> None:
    frame = pandas.DataFrame({"id": range(len(WORDS) + 1), "note": [*WORDS, ""]})
    frame.to_csv(tmp_path / "x.csv", index=False)
    assert list(load(tmp_path / "x.csv", "note").records["note"]) == [*WORDS, None]


def test_lines_are_those_of_the_file_and_a_record_over_many_is_told(tmp_path: Path) -> None:
    text = 'id,note\n\n1,a\n2,"b\n' + "c\n" * 12 + '"\n3,d\n'
    (tmp_path / "x.csv").write_text(text)
    loaded = load(tmp_path / "x.csv", "id", "note")
    assert [loaded.place("", i) for i in range(3)] == ["line 3", "line 4", "line 18"]
    assert "record that begins in line 4 of x.csv spans 14 lines" in loaded.notes[0]


def test_json_text_that_looks_like_a_date_stays_text_and_a_key_left_out_is_null(
    tmp_path: Path,
) -> None:
    (tmp_path / "x.jsonl").write_text(
        '{"id": "2024-01-02"}\n\n{"id": "2024-01-03T00:00:00Z", "age": 4.0}\n'
    )
    assert load(tmp_path / "x.jsonl", "id", "age").records.to_dict() == {
        "id": ["2024-01-02", "2024-01-03T00:00:00Z"],
        "age": [None, "4"],
    }


def test_missing_columns_are_named_with_those_that_are_there(tmp_path: Path) -> None:
    FRAME.to_parquet(tmp_path / "x.parquet")
    table = load(tmp_path / "x.parquet", "id", "sex", "chol")
    assert table.problems[0].startswith(
        "The records lack column sex, chol; they have id, age, fbs, note. Rename"
    )
    with pytest.raises(DataError, match="lack column sex, chol"):
        load(tmp_path / "x.parquet", "sex", "chol")


# --- refusals

MALFORMED: dict[str, tuple[str, str, str]] = {
    "a long row": (
        "x.csv",
        "id,note\n1,a\n2,b,c\n",
        "line 3 has 3 fields, expected the 2 of the header",
    ),
    "long rows": ("x.csv", "id,note\n1,a,x\n", "line 2 has 3 fields, expected the 2"),
    "a short row": ("x.csv", "id,note\n1,a\n2\n", "line 3 has 1 field, expected the 2"),
    "a blank line inside": ("x.tsv", "id\tnote\n\n1\ta\n \t\n2\n", "line 5 has 1 field"),
    "text after a quote": ("x.csv", 'id,note\n1,"a"b\n', "line 2: text follows a closing quote"),
    "a quote that closes lines later": (
        "x.csv",
        'id,note\n1,"a\n2,b\n3,"c"\n',
        r"line 4: text follows a closing quote\. The quote was opened in line 2",
    ),
    "a quote inside a field": ("x.csv", 'id,note\n1,5" nail\n', "line 2: a quote stands inside"),
    "a carriage return alone": ("x.csv", "id,note\n1,a\r2,b\n", "line 2: a carriage return stands"),
    "line ends of an old Mac": ("x.csv", "id,note\r1,a\r", "line 1: a carriage return stands"),
    "a null character": ("x.csv", "id,note\n1,a\0\n", "line 2 holds a null character"),
    "a null character in JSON": ("x.jsonl", '{"id": 1}\n\0\n', "line 2 holds a null character"),
    "a key twice": ("x.jsonl", '{"id": 1, "id": 2}\n', "line 1 names id twice"),
    "half a character": ("x.jsonl", '{"note": "\\ud83d"}\n', "line 1 holds half of a character"),
    "semicolons": (
        "x.csv",
        "id;age;note, long\n1;2;a\n",
        "header are separated by semicolons, expected commas",
    ),
    "quoted names between semicolons": ("x.csv", '"a,b";"c"\n1;2\n', "separated by semicolons"),
    "tabs in CSV": ("x.csv", "id\tnote\n1\ta\n", "separated by tabs.* call it .tsv"),
    "commas in TSV": ("x.tsv", "id,note\n1,a\n", "separated by commas, expected tabs"),
    "bars": ("x.csv", "id|note\n1|a\n", "separated by vertical bars"),
    "an open quote": ("x.csv", 'id,note\n1,"a\n', "line 2: a quote is opened and never closed"),
    "two columns of a name": (
        "x.csv",
        "id,note,note\n1,a,b\n",
        "2 columns are called note; rename all but one",
    ),
    "a header alone": ("x.csv", "id,note\n", "holds no records"),
    "an empty file": ("x.parquet", "", "the file is empty; export"),
    "half a JSON line": (
        "x.jsonl",
        '{"id": 1}\n{"id": \n',
        "line 2 is not JSON: Expecting value at character 8",
    ),
    "a JSON list": ("x.jsonl", "[1, 2]\n", "line 1 is not a JSON object"),
    "blank JSON lines": ("x.jsonl", "\n\n", "no line holds a record"),
    "not Parquet": ("x.parquet", "id,note\n1,a\n", r"cannot be read as \.parquet: "),
    "not Arrow": ("x.arrow", "id,note\n1,a\n", r"cannot be read as \.arrow: "),
    "another extension": (
        "x.xlsx",
        "x",
        r"expected a file that ends in \.csv, \.tsv, \.jsonl, \.ndjson, \.json, \.parquet, \.arrow",
    ),
    "a list that ends early": (
        "x.json",
        '[{"id": 1},\n {"id": 2}',
        "line 2 is not JSON.*expected a list of JSON objects",
    ),
    "a list of something else": ("x.json", '[{"id": 1}, 2]', "record 2 is no JSON object"),
    "an empty list": ("x.json", "[]", "the list holds no record"),
    "half of a character in a list": (
        "x.json",
        '[{"id": 1, "note": "\\ud800"}]',
        "record 1 holds half of a character",
    ),
    "a list nested too deeply": ("x.json", "[" * 100_000, "nests lists or objects too deeply"),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_what_cannot_be_read_is_refused(what: str, tmp_path: Path) -> None:
    name, content, message = MALFORMED[what]
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=rf"(?s)data\.path=.*{name}.*{message}"):
        load(tmp_path / name, "id", "note")


def test_column_of_structures_is_refused_only_where_it_is_needed(tmp_path: Path) -> None:
    FRAME.assign(scans=[[[1]], [[2]], [[3]]]).to_parquet(tmp_path / "x.parquet")
    assert load(tmp_path / "x.parquet").records.to_dict() == TEXT
    with pytest.raises(
        DataError, match=r"Column scans holds values of type list<.*>; expected text, numbers"
    ):
        load(tmp_path / "x.parquet", "id", "scans")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/nowhere/x.csv", r"data\.path=/nowhere/x\.csv: no such file"),
        ("pkg://nobody/x.csv", "package nobody is not installed"),
    ],
)
def test_what_is_not_there_is_named(path: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(path)


# --- folders


def test_folder_holds_one_file_an_institution(tmp_path: Path) -> None:
    FRAME[:1].to_parquet(tmp_path / "bern.parquet")
    FRAME[1:].to_json(tmp_path / "arosa.2024.jsonl", orient="records", lines=True)
    (tmp_path / ".DS_Store").write_text("x")
    table = load(tmp_path, "id")
    assert table.files == ("arosa.2024", "bern")
    assert table.records.to_dict() == {
        "id": ["2", "3", "1"],
        FILE_COLUMN: ["arosa.2024", "arosa.2024", "bern"],
    }


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "the folder is empty; expected one file for each institution"),
        (
            ["a.csv", "README.md"],
            r"one file for each institution, ending in .*; move README\.md elsewhere",
        ),
        (["a.csv", "sub/"], "move sub elsewhere"),
        (["a.csv", "a.tsv"], r"a\.csv and a\.tsv both stand for a; rename one"),
    ],
)
def test_folder_of_anything_else_is_refused(names: list[str], message: str, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).write_text("id\n1\n")
    with pytest.raises(DataError, match=message):
        load(tmp_path, "id")


def test_file_of_a_folder_that_lacks_a_column_or_records_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,age\n1,2\n")
    (tmp_path / "b.csv").write_text("id\n1\n")
    assert (
        load(tmp_path, "id", "age")
        .problems[0]
        .startswith("b: The records lack column age; they have id.")
    )
    (tmp_path / "c.csv").write_text("id,age\n")
    with pytest.raises(DataError, match=rf"data\.path={tmp_path}: c holds no records"):
        load(tmp_path, "id", "age")


# --- nothing is left, and memory is bounded

LOADS = """
import os, resource, signal, sys
from confide.client.records.sources.reading import Reading
from confide.client.records.sources.sources import load_records
end, rows, *paths = sys.argv[1:]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
tables = [load_records(path, ["id", "text"], in_memory_mb=1) for path in paths]
assert all(table.records[int(rows) - 1]["id"] == str(int(rows) - 1) for table in tables)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, flush=True)
if end == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
"""


def _load_elsewhere(
    paths: Sequence[Path], rows: int, home: Path, *, end: str
) -> tuple[int, list[str]]:
    """Load in a process whose every folder is ``home``.

    Return its extra KiB and what it left there.
    """
    home.mkdir()
    env = os.environ | {
        "HOME": str(home),
        "TMPDIR": str(home),
        "HF_HOME": str(home / "hf"),
        "XDG_CACHE_HOME": str(home),
    }
    command = [sys.executable, "-c", LOADS, end, str(rows), *map(str, paths)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == (-signal.SIGKILL if end == "kill" else 0), done.stderr
    return int(done.stdout), [
        str(left.relative_to(home)) for left in home.rglob("*") if left.is_file()
    ]


def test_a_killed_process_leaves_nothing(tmp_path: Path) -> None:
    rows = 15_000
    frame = pandas.DataFrame(
        {"id": range(rows), "text": ["a tweet of a hundred characters " * 4] * rows}
    )
    frame.to_csv(tmp_path / "x.csv", index=False)
    for name, write in WRITERS.items():
        write(frame, tmp_path / name)
    paths = [path for path in tmp_path.iterdir() if path.is_file()]
    assert _load_elsewhere(paths, rows, tmp_path / "home", end="kill")[1] == []


def test_large_file_streams_through_bounded_memory(tmp_path: Path) -> None:
    text = "a tweet of some two hundred characters and more; " * 4
    with (tmp_path / "x.csv").open("w") as file:
        file.write("id,text,other\n")
        file.writelines(f"{i},{text},{text}\n" for i in range(ROWS))
    extra_kib, left = _load_elsewhere([tmp_path / "x.csv"], ROWS, tmp_path / "home", end="exit")
    assert left == []
    assert (tmp_path / "x.csv").stat().st_size > 110 << 20
    assert extra_kib < 60 << 10


@pytest.mark.parametrize("name", ["t.jsonl", "t.parquet"])
def test_texts_that_would_be_taken_for_files_are_refused(name: str, tmp_path: Path) -> None:
    # Of two such texts with one hash units would keep one
    texts = ["a", f"\0held\0{'0' * 64}\0\0bytes\0left", f"\0held\0{'0' * 64}\0\0bytes\0right"]
    frame = pandas.DataFrame({"note": texts})
    path = tmp_path / name
    WRITERS[f"x{path.suffix}"](frame, path)
    with pytest.raises(DataError, match="Column note: 2 texts begin with a null character"):
        load(path, "note")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"note": ' + "[" * 100_000, "line 1 nests lists or objects too deeply"),
        ('{"note": ["a", "\\ud800"]}', "line 1 holds half of a character"),
    ],
)
def test_lines_of_json_that_nothing_can_hold_are_told(line: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match=told):
        load(tmp_path / "t.jsonl", "note")
