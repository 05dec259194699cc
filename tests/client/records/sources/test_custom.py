"""What a function of one's own returns is read as a file would be.

What is no table is refused with the function's path.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from confide.client.records.checked import read_source
from confide.client.records.sources.custom import check_custom_records
from confide.client.records.sources.sources import FILE_COLUMN
from confide.config.composing.compose import compose
from confide.config.data import DataConfig
from confide.config.tasks.columns import ColumnConfig
from confide.config.tasks.tabular import TabularConfig
from confide.errors import ConfigError, DataError

TASK = TabularConfig(labels=["no", "yes"], columns={"a": ColumnConfig(minimum=0.0, maximum=9.0)})
MODULE = """
import datasets
import pandas

LABELS = ["no", "yes", "yes"]
FRAME = pandas.DataFrame(
    {"a": [1.0, 2.5, None], "label": LABELS, "more": [[1], [2], [3]], 7: [1, 2, 3]}
)
def frame(): return FRAME
def dataset(): return datasets.Dataset.from_dict({"a": [1, 2], "label": ["no", "yes"]})
def mapping(count=2): return {f"ward-{i}": FRAME for i in range(count)}
def splits(): return datasets.DatasetDict({"north": dataset(), "south": dataset()})
def rows(): return [{"a": 1}]
def nested(): return {"ward": mapping()}
def mixed(): return pandas.DataFrame({"a": [1, "x"], "label": ["no", "yes"]})
def emptied(): return FRAME.head(0)
def raises(): raise OSError("the share is not mounted")
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "my_records.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("my_records", None)


def config(name: str, **settings: object) -> DataConfig:
    return DataConfig(**{"path": "", "_target_": f"my_records.{name}", **settings})


def test_frame_and_dataset_become_the_text_of_a_file() -> None:
    assert read_source(config("frame"), TASK).records.to_dict() == {
        "a": ["1", "2.5", None],
        "label": ["no", "yes", "yes"],
    }
    assert read_source(config("dataset"), TASK).records.to_dict() == {
        "a": ["1", "2"],
        "label": ["no", "yes"],
    }


@pytest.mark.parametrize(
    ("name", "files"), [("mapping", ("ward-0", "ward-1")), ("splits", ("north", "south"))]
)
def test_mapping_is_what_a_folder_with_one_file_an_institution_is(
    name: str, files: tuple[str, ...]
) -> None:
    table = read_source(config(name, partitioner="natural"), TASK)
    assert table.files == files
    assert sorted(set(table.records[FILE_COLUMN][:])) == list(files)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("absent", "has no attribute 'absent'"),
        (
            "rows",
            (
                r"my_records\.rows returns list, expected a pandas DataFrame, a datasets\.Dataset,"
                r" or a mapping"
            ),
        ),
        ("nested", "returns dict, expected a pandas DataFrame"),
        ("raises", r"my_records\.raises raises OSError: the share is not mounted"),
    ],
)
def test_what_is_no_table_is_refused(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_source(config(name), TASK)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mixed", "Column a holds values of more than one type"),
        ("emptied", r"data\._target_=my_records\.emptied holds no records"),
    ],
)
def test_table_that_is_none_to_learn_from_is_refused(name: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_source(config(name), TASK)


def test_empty_mapping_and_one_table_for_many_institutions_are_refused() -> None:
    with pytest.raises(DataError, match="empty mapping"):
        read_source(config("mapping", kwargs={"count": 0}), TASK)
    with pytest.raises(
        ConfigError,
        match=r"returns one table, and data\.partitioner=natural partitions by institution",
    ):
        read_source(config("frame", partitioner="natural"), TASK)


def test_function_is_looked_for_before_anything_is_loaded() -> None:
    with pytest.raises(ConfigError, match=r"data\._target_=my_record\.frame: ModuleNotFoundError"):
        check_custom_records(DataConfig(path="", _target_="my_record.frame"))


@pytest.mark.parametrize("words", [["data=custom"], ["data._target_=my_records.frame"]])
def test_records_have_one_source(words: list[str]) -> None:
    with pytest.raises(ConfigError, match="expected one of them"):
        compose(["experiment=heart_disease", *words])


def test_records_of_a_function_are_not_public_unless_somebody_says_so() -> None:
    words = [
        "experiment=heart_disease",
        "data=custom",
        "data._target_=my_records.frame",
        "privacy=record",
    ]
    with pytest.raises(ConfigError, match=r"client\.ledger=null"):
        compose(words)
    assert compose([*words, "data.public=true"]).data.is_public
