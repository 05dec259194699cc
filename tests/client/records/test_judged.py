"""Counts that are judged: what is told of values that fit a schema and are wrong all the same."""

import logging
from pathlib import Path

import pandas
import pytest

from confide.client.records.checked import load_checked_records
from confide.client.records.judged import token_notes
from confide.client.records.report import Report, check_records
from confide.config.data import DataConfig
from confide.config.run import Config
from confide.config.tasks.columns import ColumnConfig
from confide.config.tasks.tabular import TabularConfig
from confide.config.tasks.text_classification import TextClassificationConfig
from confide.errors import DataError
from confide.tasks.tokens import TokenCounts

COUNT = 40
TASK = TabularConfig(
    labels=["no", "yes"],
    label_column="ill",
    columns={
        "chol": ColumnConfig(minimum=100.0, maximum=500.0),
        "sex": ColumnConfig(kind="categorical", categories=["f", "m"]),
    },
)


def patients(**columns: object) -> pandas.DataFrame:
    made = {
        "id": range(COUNT),
        "chol": [150 + i for i in range(COUNT)],
        "sex": ["f", "m"] * (COUNT // 2),
        "ill": ["no", "yes"] * (COUNT // 2),
    }
    return pandas.DataFrame({**made, **columns})


def checked(frame: pandas.DataFrame, path: Path, task: TabularConfig = TASK) -> Report:
    frame.to_csv(path, index=False)
    return check_records(Config(task=task, data=DataConfig(path=str(path), id_column="id")))


def test_a_column_in_another_unit_is_a_problem(tmp_path: Path) -> None:
    report = checked(patients(chol=[5 + i / 100 for i in range(COUNT)]), tmp_path / "x.csv")
    assert report.problems == [
        "Column chol: all 40 values lie outside its range, 100 to 500, and each would become the"
        " nearest end of it. Are they in another unit? Convert them, or correct the range. First in"
        " line 2."
    ]


def test_a_file_that_lacks_a_column_or_a_class_is_told(tmp_path: Path) -> None:
    patients().to_csv(tmp_path / "Bern.csv", index=False)
    patients(chol=[None] * COUNT, ill=["no"] * COUNT).to_csv(tmp_path / "Oslo.csv", index=False)
    data = DataConfig(path=str(tmp_path), id_column="id")
    report = check_records(Config(task=TASK, data=data))
    assert report.ready
    column, label = report.notes
    assert column.startswith("Oslo: no record has a value in column chol, which others have.")
    assert label == "Oslo: no record is labelled yes, as others are. Is it coded otherwise?"


def test_one_file_in_another_unit_is_a_problem_of_that_file(tmp_path: Path) -> None:
    patients().to_csv(tmp_path / "Bern.csv", index=False)
    patients(chol=[5.0] * COUNT).to_parquet(tmp_path / "Oslo.parquet")
    data = DataConfig(path=str(tmp_path), id_column="id")
    report = check_records(Config(task=TASK, data=data))
    (problem,) = report.problems
    assert problem.startswith("Oslo: Column chol: all 40 values lie outside")
    assert problem.endswith("First in record 1.")


@pytest.mark.parametrize(
    ("rare", "count", "told"), [(1, 400, True), (4, 400, True), (5, 400, False), (1, 40, False)]
)
def test_a_class_of_hardly_any_records_may_be_mistyped(
    rare: int, count: int, told: bool, tmp_path: Path
) -> None:
    ill = ["yess"] * rare + ["no", "yes"] * count
    frame = pandas.DataFrame(
        {
            "id": range(count),
            "chol": [150 + i % 40 for i in range(count)],
            "sex": ["f", "m"] * (count // 2),
            "ill": ill[:count],
        }
    )
    task = TabularConfig(labels=["no", "yes", "yess"], label_column="ill", columns=TASK.columns)
    report = checked(frame, tmp_path / "x.csv", task)
    assert report.ready
    words = f"Labels with fewer than 5 of {count} records: yess {rare}. Is one mistyped?"
    assert any(note.startswith(words) for note in report.notes) is told


@pytest.mark.parametrize(("outside", "told"), [(3, False), (4, False), (5, True), (39, True)])
def test_many_values_outside_are_a_note(outside: int, told: bool, tmp_path: Path) -> None:
    chol = [5.0] * outside + [150.0 + i for i in range(COUNT - outside)]
    report = checked(patients(chol=chol), tmp_path / "x.csv")
    assert report.ready
    words = f"Column chol: {outside} of 40 values lie outside its range, 100 to 500"
    assert any(note.startswith(words) for note in report.notes) is told


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"chol": [200] * COUNT}, "Column chol: every record has the same value; little"),
        ({"sex": ["f", None] * (COUNT // 2)}, "same value, or none (20 of 40)"),
        ({"sex": [None] * COUNT}, "Column sex: no record has a value"),
    ],
)
def test_a_constant_column_is_a_note(
    columns: dict[str, object], words: str, tmp_path: Path
) -> None:
    report = checked(patients(**columns), tmp_path / "x.csv")
    assert report.ready
    assert any(words in note for note in report.notes)


def test_good_records_get_no_note(tmp_path: Path) -> None:
    assert not checked(patients(), tmp_path / "x.csv").notes


def test_a_run_refuses_and_logs_the_same_sentences(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.csv"
    report = checked(patients(chol=[200] * COUNT), path)
    with caplog.at_level(logging.WARNING):
        load_checked_records(DataConfig(path=str(path), id_column="id"), TASK)
    assert [record.getMessage() for record in caplog.records] == report.notes
    report = checked(patients(chol=[5] * COUNT), path)
    with pytest.raises(DataError) as refusal:
        load_checked_records(DataConfig(path=str(path), id_column="id"), TASK)
    assert list(refusal.value.problems) == report.problems


def test_problems_name_the_line(tmp_path: Path) -> None:
    text = 'id,chol,sex,ill\n1,"1\n2",f,no\n\n2,x,f,yes\n,150,q,maybe\n3,150,f,\n'
    (tmp_path / "x.csv").write_text(text)
    data = DataConfig(path=str(tmp_path / "x.csv"), id_column="id")
    problems = check_records(Config(task=TASK, data=data)).problems
    found = {problem.split(":")[0] + problem.rsplit("First in", 1)[1] for problem in problems}
    assert {"Column chol line 2.", "Column sex line 6.", "Column id line 6."} <= found
    assert sum(one == "Column ill line 6." for one in found) == 1
    assert "Column ill line 7." in found


def test_decimal_commas_and_look_alikes_are_told(tmp_path: Path) -> None:
    frame = patients(chol=["200,5"] * COUNT, sex=["f\u200b", "m"] * (COUNT // 2))
    comma, near = checked(frame, tmp_path / "x.csv").problems
    assert "40 have a decimal comma where a point belongs" in comma
    assert "'f\\u200b' differs from 'f' only by an invisible character" in near


def test_texts_that_lost_characters_are_a_note(tmp_path: Path) -> None:
    frame = pandas.DataFrame({"text": ["a\ufffd", "b"] * 5, "label": ["no", "yes"] * 5})
    frame.to_csv(tmp_path / "x.csv")
    task = TextClassificationConfig(labels=["no", "yes"])
    data = DataConfig(path=str(tmp_path / "x.csv"))
    report = check_records(Config(task=task, data=data))
    assert report.ready
    assert report.notes[0].startswith("Column text: 5 of 10 texts hold U+FFFD")


def test_cut_texts_and_unknown_tokens_are_told_from_a_tenth_on() -> None:
    def told(lengths: list[int], unknown: int) -> list[str]:
        return list(token_notes(TokenCounts(lengths, unknown), {"text": 8}))

    assert told([8] * 95 + [16] * 5, 0) == []
    cut, strange = told([8] * 50 + [16] * 50, 600)
    assert "50% of texts are cut at task.max_tokens=8, which loses 33% of their tokens" in cut
    assert "knows no word for 50% of tokens" in strange
