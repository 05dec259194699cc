"""Recommendation: places of a catalogue, unknown items counted, gradients of single records."""

import json
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from small_items import ITEMS, make_catalogue

from confide.client.training.trainer import Trainer
from confide.config.models.items import ItemsConfig
from confide.config.outcomes.next_item import NextItemConfig
from confide.config.tasks.recommendation import RecommendationConfig
from confide.config.tunings.tuning import TuningConfig
from confide.errors import DataError
from confide.models.compute import Compute
from confide.models.workload import Workload, build_workload
from confide.tasks.recommendation import EXCLUDED, Recommendation

RECORDS = [(["i1", "i2"], "i3"), (["gone", "i4"], "gone"), ([], "i5")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_catalogue(tmp_path_factory.mktemp("items") / "catalogue")


def workload(folder: Path, **settings: object) -> Workload:
    task = RecommendationConfig(
        outcome=NextItemConfig(top=3), known=4, recent=2, metrics=["hit_rate_10"], **settings
    )
    backbone = ItemsConfig(name=str(folder), width=4)
    tuning = TuningConfig(kind="head")
    made = build_workload(task, backbone, tuning, compute=Compute(), seed=0)
    for parameter in made.model.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
    return made


def records(some: list[tuple[list[str], str]] = RECORDS) -> Dataset:
    return Dataset.from_dict(
        {
            "history": [json.dumps(history) for history, _ in some],
            "next_item": [item for _, item in some],
        }
    )


def task_of(made: Workload) -> Recommendation:
    assert isinstance(made.task, Recommendation)
    return made.task


def test_histories_become_places_with_the_newest_last(folder: Path) -> None:
    examples = workload(folder).prepare(records())
    assert examples.columns["history"].tolist() == [[0, 0, 1, 2], [0, 0, 0, 4], [0, 0, 0, 0]]
    assert examples.labels.tolist() == [3, 0, 5]


def test_unknown_items_teach_nothing_count_as_missed_and_are_told(folder: Path) -> None:
    made = workload(folder)
    task, batch = task_of(made), made.prepare(records()).take(torch.arange(3))
    outputs = made.outputs(made.model, batch)
    assert task.loss(outputs, batch)[1] == 0
    assert task.tally(outputs, batch)[1].tolist() == [1, 0, 0, 0, 0]
    (note,) = task.record_notes(records())
    assert note.startswith(f"The catalogue of {ITEMS} items lacks 1 of 4 items of histories")
    assert "1 of 3 next items" in note


def test_what_a_user_has_had_is_not_recommended_unless_items_repeat(folder: Path) -> None:
    for repeats in (False, True):
        made = workload(folder, repeats=repeats)
        batch = made.prepare(records()).take(torch.arange(1))
        outputs = made.outputs(made.model, batch)
        assert (outputs[0, :2] == EXCLUDED).tolist() == [not repeats] * 2
        assert (outputs[0, 2:] != EXCLUDED).all()


def test_predictions_name_items_and_stop_where_none_is_left(folder: Path) -> None:
    task = task_of(workload(folder))
    outputs = torch.full((1, ITEMS), EXCLUDED)
    outputs[0, 6], outputs[0, 2] = 2.0, 1.0
    told = task.predictions(outputs, {})
    assert told["item_1"] == ["i7"]
    assert told["text_2"] == ["item i3"]
    assert told["item_3"] == [None]


@pytest.mark.parametrize("history", ["a b", '{"a": 1}', "[null]", "[[1]]", "", "[" * 100_000])
def test_what_is_no_list_of_items_is_refused(folder: Path, history: str) -> None:
    wrong = Dataset.from_dict({"history": [history], "next_item": ["i1"]})
    with pytest.raises(DataError, match="Column history: 1 of 1 are no JSON list of item ids"):
        workload(folder).prepare(wrong)


@pytest.mark.parametrize("grouped", [False, True])
def test_gradients_of_records_and_users_pass_the_preflight(folder: Path, grouped: bool) -> None:
    assert Trainer(workload(folder), private=True, group_size=3 if grouped else None).shapes


def test_references_are_popularity_and_nearness_of_texts(folder: Path) -> None:
    made = workload(folder)
    examples = made.prepare(records([(["i1"], "i9"), (["i2"], "i9"), (["i9"], "i8")]))
    predictors = task_of(made).references([examples])
    batch = examples.take(torch.arange(3))
    popular = predictors["popularity"](batch)
    assert popular.argmax(dim=1).tolist() == [8, 8, 7]  # i9 is excluded where it was had
    nearest = predictors["nearest text"](batch)
    vectors = torch.nn.functional.normalize(task_of(made).catalogue.vectors, dim=1)
    expected = vectors[0] @ vectors.T
    assert torch.allclose(nearest[0, 1:], expected[1:], atol=1e-6)
