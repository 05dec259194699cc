"""Drafts of tables that name a picture or a sound of each record."""

import pytest
import yaml
from datasets import Dataset

from confide.client.records.drafting.draft import draft_task
from confide.client.records.drafting.drafted import Draft, Named
from confide.client.records.drafting.writing import draft_yaml

COUNT = 120


def drafted(names: list[str], label: str = "finding") -> Draft:
    return draft_task(
        Dataset.from_dict(
            {
                "path": names,
                "finding": [("benign", "malignant")[place % 2] for place in range(COUNT)],
                "area": [str(float(place % 50)) for place in range(COUNT)],
                "site": [("north", "south", "west")[place % 3] for place in range(COUNT)],
            }
        ),
        Named(label=label),
    )


@pytest.mark.parametrize(
    ("name", "kind", "setting"),
    [
        ("scans/{}.png", "image_classification", "image_column"),
        ("{}.JPEG", "image_classification", "image_column"),
        ("calls\\{}.wav", "audio_classification", "audio_column"),
    ],
)
def test_a_column_of_paths_is_what_is_told_from(name: str, kind: str, setting: str) -> None:
    draft = drafted([name.format(place) for place in range(COUNT)])
    task = yaml.safe_load(draft_yaml(draft, source="labels.csv"))
    assert (task["kind"], task[setting], task["label_column"]) == (kind, "path", "finding")
    assert task["labels"] == ["benign", "malignant"]
    # A record is known by what its file holds, and not by where it lies
    assert draft.id_column is None
    assert draft.institution == ("site", 3)
    assert "area" in draft.left_out


def test_a_number_may_be_told_from_files_too() -> None:
    draft = drafted([f"{place}.png" for place in range(COUNT)], label="area")
    task = yaml.safe_load(draft_yaml(draft, source="labels.csv"))
    assert (task["kind"], task["outcome"]["kind"]) == ("image_classification", "regression")
    assert task["drafted"] == ["area"]


def test_a_table_that_names_few_files_is_a_table() -> None:
    names = [f"{place}.png" if place % 3 else f"none {place}" for place in range(COUNT)]
    assert drafted(names).task.kind == "tabular"
