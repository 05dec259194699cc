"""LEAF's JSON: a record a sample, and what is wrong by file and user."""

import json
from pathlib import Path
from typing import Any

import pytest

from confide.client.records.drafting.reading import draft_source
from confide.client.records.sources.sources import load_records, shared_columns
from confide.errors import DataError

LEAF = {
    "users": ["f_1", "f_2"],
    "num_samples": [2, 1],
    "user_data": {
        "f_1": {"x": [[0.5, 1.0], [2.0, -3.25]], "y": [1.0, 0.0]},
        "f_2": {"x": [[7, 8]], "y": [1.0]},
    },
}


def write(path: Path, whole: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(whole if isinstance(whole, str) else json.dumps(whole))
    return path


def changed(**parts: Any) -> dict[str, Any]:
    return {**LEAF, **parts}


def rows(path: Path, *columns: str) -> list[tuple[Any, ...]]:
    found = load_records(str(path), columns, in_memory_mb=64)
    assert not found.problems
    return [tuple(row[name] for name in columns) for row in found.records.to_list()]


def test_a_list_becomes_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "all_data_0.json", LEAF)
    assert shared_columns(str(path)) == ("user", "x0", "x1", "y")
    assert rows(path, "user", "x0", "x1", "y") == [
        ("f_1", "0.5", "1", "1"),
        ("f_1", "2", "-3.25", "0"),
        ("f_2", "7", "8", "1"),
    ]


def test_texts_stay_texts(tmp_path: Path) -> None:
    speaker = {"x": ["to be or not", "007"], "y": ["t", "o"]}
    path = write(
        tmp_path / "shakespeare.json",
        {"users": ["HAMLET"], "num_samples": [2], "user_data": {"HAMLET": speaker}},
    )
    assert rows(path, "user", "x", "y") == [
        ("HAMLET", "to be or not", "t"),
        ("HAMLET", "007", "o"),
    ]


def test_lists_of_texts_become_columns(tmp_path: Path) -> None:
    tweets = {"x": [["1467", "Mon", "NO_QUERY", "ann", "it rains", ""]], "y": [0]}
    path = write(
        tmp_path / "sent140.json",
        {"users": ["ann"], "num_samples": [1], "user_data": {"ann": tweets}},
    )
    assert rows(path, "x4", "y") == [("it rains", "0")]


def test_a_folder_is_one_source(tmp_path: Path) -> None:
    more = {"users": ["f_3"], "num_samples": [1], "user_data": {"f_3": LEAF["user_data"]["f_2"]}}
    write(tmp_path / "d" / "all_data_0.json", LEAF)
    write(tmp_path / "d" / "all_data_1.json", more)
    assert [user for (user,) in rows(tmp_path / "d", "user")] == ["f_1", "f_1", "f_2", "f_3"]


def test_train_and_test_are_one_source_with_a_column(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write(tmp_path / "d" / split / "all_data_0.json", LEAF)
    found = load_records(str(tmp_path / "d"), ("user", "split"), in_memory_mb=64)
    assert [row["split"] for row in found.records.to_list()] == ["test"] * 3 + ["train"] * 3
    assert any("train and test are read as one" in note for note in found.notes)


def test_a_record_with_such_a_key_is_still_a_record(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", '{"users": 3, "y": "no"}\n{"users": 4, "y": "yes"}\n')
    assert rows(path, "users", "y") == [("3", "no"), ("4", "yes")]


@pytest.mark.parametrize(
    ("whole", "said"),
    [
        (changed(num_samples=[2, 5]), "user f_2: num_samples says 5, and there are 1; correct it"),
        (changed(num_samples=[2]), "num_samples has 1 entries for 2 users"),
        (changed(num_samples=None), "num_samples is no list"),
        (changed(users=["f_1", "f_2", "f_3"]), "user f_3 is in users and not in user_data"),
        (changed(users=["f_1"]), "user f_2 is in user_data and not in users"),
        (changed(users=["f_1", "f_1", "f_2"]), "users names f_1 twice"),
        (changed(user_data=[]), "user_data is no object"),
        (
            changed(user_data={**LEAF["user_data"], "f_2": {"x": [[7, 8]], "y": [1, 2]}}),
            "user f_2: 1 samples x, and 2 y; write as many of both",
        ),
        (
            changed(user_data={**LEAF["user_data"], "f_2": {"x": [[7, 8, 9]], "y": [1]}}),
            "user f_2: a sample has x of 3.*first sample of all has columns x0 to y",
        ),
        (
            changed(user_data={**LEAF["user_data"], "f_2": {"x": [[7, [8]]], "y": [1]}}),
            "user f_2: x1 is a list inside a list",
        ),
        (
            changed(user_data={**LEAF["user_data"], "f_2": {"x": [[7, float("nan")]], "y": [1]}}),
            "user f_2: x1 is nan.*null where it is missing",
        ),
        (
            changed(user_data={**LEAF["user_data"], "f_2": {"x": [[7, 8]]}}),
            "user f_2: expected lists x and y",
        ),
        (
            changed(users=[], num_samples=[], user_data={}),
            "no user has a sample",
        ),
        (json.dumps(LEAF)[:-4], "line 1 is not JSON"),
        (
            json.dumps(LEAF).replace('"f_2": {', '"f_1": {'),
            "an object names f_1 twice",
        ),
    ],
)
def test_what_is_malformed_is_told_by_file_and_user(tmp_path: Path, whole: Any, said: str) -> None:
    path = write(tmp_path / "all_data_0.json", whole)
    with pytest.raises(DataError, match=rf"data\.path=.*all_data_0\.json: .*{said}"):
        rows(path, "user", "x0", "x1", "y")


def test_a_user_in_two_files_is_told(tmp_path: Path) -> None:
    write(tmp_path / "d" / "all_data_0.json", LEAF)
    write(tmp_path / "d" / "all_data_1.json", LEAF)
    with pytest.raises(DataError, match=r"all_data_1\.json: user f_1 is in all_data_0\.json as"):
        rows(tmp_path / "d", "user")


def test_other_files_are_told(tmp_path: Path) -> None:
    write(tmp_path / "d" / "all_data_0.json", LEAF)
    (tmp_path / "d" / "readme.md").write_text("hello")
    with pytest.raises(DataError, match=r"move readme\.md elsewhere"):
        rows(tmp_path / "d", "user")


def test_in_which_folder_a_record_lay_is_no_input(tmp_path: Path) -> None:
    points = [[index / 7, (index * 5 % 13) / 3] for index in range(60)]
    labels = [float(index * 7 % 5 > 2) for index in range(60)]
    user = {"x": points, "y": labels}
    whole = {"users": ["f_1"], "num_samples": [60], "user_data": {"f_1": user}}
    for split in ("train", "test"):
        write(tmp_path / split / "a.json", whole)
    draft = draft_source(str(tmp_path))
    assert set(draft.task.columns) == {"x0", "x1"}
    assert "split" not in draft.left_out
    assert any("with a column split" in note for note in draft.notes)
