"""Drafts of several labels a record, in the forms that files list them."""

import json
import random
from pathlib import Path

import pandas
import pytest
import yaml
from datasets import Dataset

from confide.client.records.drafting.draft import Named, draft_task
from confide.client.records.drafting.reading import draft_source
from confide.client.records.drafting.writing import draft_yaml
from confide.config.outcomes.multi_label import MultiLabelConfig
from confide.config.outcomes.outcome import Labelling
from confide.tasks.outcomes.multi_label import MultiLabel

LABELS = ["billing", "damage", "delay"]
DRAW = random.Random(3)
HELD = [[label for label in LABELS if DRAW.random() < 0.5] for _ in range(120)]
TEXTS = [f"My parcel number {n} has some trouble" for n in range(len(HELD))]


@pytest.mark.parametrize("separator", [";", "|", ", ", None])
def test_lists_of_labels_are_several_labels(separator: str | None, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    listed = [held if separator is None else separator.join(held) for held in HELD]
    rows = [{"text": text, "tags": tags} for text, tags in zip(TEXTS, listed, strict=True)]
    path.write_text("\n".join(map(json.dumps, rows)))
    draft = draft_source(str(path))
    outcome = yaml.safe_load(draft_yaml(draft, source="records"))["outcome"]
    assert (outcome["kind"], outcome["labels"]) == ("multi_label", LABELS)
    assert isinstance(draft.task.outcome, MultiLabelConfig)
    assert draft.task.outcome.separator == (separator or ",").strip()


@pytest.mark.parametrize(
    "values",
    [
        ["Paris, France", "Rome, Italy"],
        ["a", "b"],
        ["1;2;3", "4;5;6"],
        ["Doe, Ann", "Doe, Jo", "Roe, Ann", "Roe, Jo"],  # each part beside two others
        ["1,3", "1,7", "2", "2,3", "2,7"],
    ],
)
def test_categories_that_hold_a_separator_are_classes(values: list[str]) -> None:
    places = [DRAW.choice(values) for _ in TEXTS]
    records = Dataset.from_dict({"text": TEXTS, "place": places})
    assert sorted(draft_task(records, Named(label="place")).task.labels) == values


def test_labels_in_json_are_read_as_those_in_a_text() -> None:
    told = MultiLabel(
        MultiLabelConfig(labels=LABELS, column="tags"), Labelling(labels=[], column="")
    )
    one = told.read({"tags": [json.dumps(held) for held in HELD]})
    other = told.read({"tags": [",".join(held) for held in HELD]})
    assert one.problems == other.problems == []
    assert (one.values == other.values).all()
    assert one.values.sum() == sum(map(len, HELD))


def test_lists_as_python_prints_them_are_read_too(tmp_path: Path) -> None:
    path = tmp_path / "records.csv"
    pandas.DataFrame({"text": TEXTS, "tags": HELD}).to_csv(path, index=False)
    assert "['" in path.read_text()
    assert draft_source(str(path)).task.outcome == MultiLabelConfig(labels=LABELS, column="tags")
    told = MultiLabel(
        MultiLabelConfig(labels=LABELS, column="tags"), Labelling(labels=[], column="")
    )
    one = told.read({"tags": [str(held) for held in HELD]})
    assert one.problems == []
    assert one.values.sum() == sum(map(len, HELD))


def test_unknown_labels_in_json_are_named() -> None:
    told = MultiLabel(
        MultiLabelConfig(labels=LABELS, column="tags"), Labelling(labels=[], column="")
    )
    (problem,) = told.read({"tags": ['["delay","lost"]', "[delay"]}).problems
    assert "lost" in problem.text


def test_parquet_lists_and_json_lists_give_the_same_draft(tmp_path: Path) -> None:
    frame = pandas.DataFrame({"text": TEXTS, "tags": HELD})
    frame.to_parquet(tmp_path / "records.parquet")
    frame.to_json(tmp_path / "records.jsonl", orient="records", lines=True)
    one, other = (draft_source(str(tmp_path / f"records.{end}")) for end in ("parquet", "jsonl"))
    assert one.task == other.task
