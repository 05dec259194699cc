"""Predictions.

From files and frames alike, with labels or without, and all that is wrong said at once.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pandas
import pytest
import torch
from datasets import Dataset
from small_models import ROWS, TABLE, TEXTS, make_backbone, save_run, save_table_run

from confide.client.training.trainer import Trainer
from confide.errors import DataError, ModelError
from confide.inference import prediction
from confide.inference.export import export
from confide.inference.inputs import Inputs, read_inputs
from confide.inference.prediction import predict, predict_in_parts, score
from confide.inference.predictor import Predictor, load_predictor
from confide.models.compute import Compute
from confide.models.networks import trainable_tensors
from confide.models.saved import load_model

FRAME = pandas.DataFrame(
    {"age": [30, None, 61.5], "pain": ["some", "none", "some"], "note": [b"x", b"y", b"z"]}
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_table_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def predictor(run: Path) -> Predictor:
    return load_predictor(run, compute=Compute())


def test_predictions_are_the_scores_of_training(run: Path) -> None:
    workload, _, _ = load_model(run / "model", compute=Compute())
    scores = Trainer(workload, private=False).scores(
        trainable_tensors(workload.model), workload.prepare(ROWS)
    )
    made = predict(run, ROWS)
    assert made.columns.tolist() == ["prediction", "probability_well", "probability_ill"]
    assert torch.allclose(torch.tensor(made.iloc[:, 1:].to_numpy()), scores)
    assert made["prediction"].tolist() == [TABLE.labels[i] for i in scores.argmax(dim=1).tolist()]


def test_typed_frames_predict_as_text_does_and_keep_their_index(run: Path) -> None:
    made = predict(run / "model", FRAME.set_index(pandas.Index([7, 5, 6])))
    assert made.index.tolist() == [7, 5, 6]
    assert made.reset_index(drop=True).equals(predict(run, ROWS))


def test_records_that_do_not_fit_may_be_skipped_and_keep_their_place(run: Path) -> None:
    made = predict(run, ROWS)
    odd = FRAME.set_index(pandas.Index([7, 5, 6])).assign(pain=["some", "dull", "some"])
    with pytest.raises(DataError, match="dull"):
        predict(run, odd)
    told = predict(run, odd, skip_misfits=True)
    assert told.index.tolist() == [7, 5, 6]
    assert told["problem"].isna().tolist() == [True, False, True]
    assert told.loc[5, "problem"] == "pain ('dull'): unknown category"
    assert told.loc[5].drop("problem").isna().all()
    assert (
        told.iloc[[0, 2], :-1]
        .reset_index(drop=True)
        .equals(made.iloc[[0, 2]].reset_index(drop=True))
    )
    assert predict(run, FRAME, skip_misfits=True).drop(columns="problem").equals(made)


def test_prediction_of_a_text_does_not_depend_on_the_others(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", backbone=make_backbone(tmp_path / "tiny"))
    together = predict(run, TEXTS)
    alone = pandas.concat(
        [predict(run, TEXTS.select([i])) for i in range(len(TEXTS))], ignore_index=True
    )
    pandas.testing.assert_frame_equal(together, alone, atol=1e-6)


@pytest.mark.parametrize(
    ("states", "labelled"),
    [(["1", "0", "1"], 3), (["1", None, ""], 1), ([None, None, None], 0), (None, 0)],
)
def test_labels_are_scored_where_there_are_some(
    predictor: Predictor, states: list[str] | None, labelled: int
) -> None:
    records = ROWS.remove_columns(["state"])
    if states is not None:
        records = Dataset.from_dict({**records.to_dict(), "state": states})
    metrics, count = score(
        predictor, list(predict_in_parts(predictor, read_inputs(predictor, records)))
    )
    assert count == labelled
    assert bool(metrics) == bool(labelled)


def test_scores_are_those_of_the_labelled_records(predictor: Predictor) -> None:
    likeliest = predict(predictor.folder, ROWS)["prediction"].tolist()
    right = [{"well": "0", "ill": "1"}[name] for name in likeliest]
    records = Dataset.from_dict({**ROWS.to_dict(), "state": [right[0], None, right[2]]})
    metrics, _ = score(
        predictor, list(predict_in_parts(predictor, read_inputs(predictor, records)))
    )
    assert metrics["accuracy"] == 1.0


def test_all_problems_are_named_with_their_first_record(predictor: Predictor) -> None:
    rows = {
        "age": ["30", "5", "old", "older"],
        "state": ["1", "0", "0", "9"],
        "pain": ["some", "none", "none", "much"],
    }
    with pytest.raises(DataError) as caught:
        read_inputs(predictor, Dataset.from_dict(rows))
    found = caught.value.problems
    assert [problem.split(":")[0] for problem in found] == [
        "Column age",
        "Column pain",
        "Column state",
    ]
    assert ["First" + problem.rpartition(" First")[2] for problem in found] == [
        "First in record 3 ('old'), then record 4 ('older').",
        "First in record 4 ('much').",
        "First in record 4 ('9').",
    ]


def test_problems_name_the_place_of_a_record(predictor: Predictor) -> None:
    rows = Dataset.from_dict({"age": ["30", "old"], "pain": ["some", "none"]})
    with pytest.raises(DataError, match=r"First in ward/b\.png \('old'\)\.$"):
        read_inputs(predictor, rows, places=["ward/a.png", "ward/b.png"])


def test_missing_columns_are_named_beside_what_else_is_wrong(predictor: Predictor) -> None:
    with pytest.raises(DataError) as caught:
        read_inputs(predictor, Dataset.from_dict({"age": ["old"], "weight": ["7"]}))
    assert "The records lack column pain; they have age, weight." in caught.value.problems[0]
    assert caught.value.problems[1].endswith("First in record 1 ('old').")
    assert len(caught.value.problems) == 2


def test_columns_of_several_types_are_refused(predictor: Predictor) -> None:
    with pytest.raises(DataError, match="Column age holds values of several types"):
        read_inputs(predictor, pandas.DataFrame({"age": [1, b"x", "y"], "pain": ["some"] * 3}))


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (FRAME.iloc[:0], "at least one record; got 0, with columns age, pain, note"),
        (pandas.DataFrame(), "got 0, with columns none"),
        (pandas.concat([FRAME, FRAME[["pain"]]], axis=1), "column pain more than once"),
        (FRAME.rename(columns={"age": 0}), "lack column age; they have 0, pain, note"),
    ],
)
def test_odd_frames_are_refused_in_words(
    run: Path, frame: pandas.DataFrame, words: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=words):
        predict(run, frame)
    with pytest.raises(DataError, match=words):
        export(run, "merged", tmp_path / "out", check=frame)
    assert not (tmp_path / "out").exists()


def test_diverged_model_predicts_nothing(tmp_path: Path) -> None:
    run = save_table_run(tmp_path)
    predictor = load_predictor(run, compute=Compute())
    broken = Predictor(
        folder=predictor.folder,
        description=predictor.description,
        task=predictor.task,
        prepare=predictor.prepare,
        logits=lambda batch: torch.full((len(batch["features"]), 2), torch.nan),
    )
    with pytest.raises(ModelError, match="its outputs are not finite"):
        list(predict_in_parts(broken, read_inputs(broken, ROWS)))


@pytest.mark.parametrize(
    ("place", "match"), [("none", "no such folder"), (".", "neither it nor its model/ holds")]
)
def test_folder_without_a_model_is_refused(tmp_path: Path, place: str, match: str) -> None:
    with pytest.raises(ModelError, match=match):
        predict(tmp_path / place, ROWS)


# --- a task of one's own

MODULE = """
from confide.tasks.tabular import Tabular

class Careful(Tabular):
    def check(self, records):
        found = super().check(records)
        if any(float(age or 99) < 18 for age in records["age"]):
            found.append("Children are not asked.")
        return [*found, "One at a time."] if len(records) > 1 else found
"""


@pytest.fixture
def careful(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "careful_task.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield save_table_run(tmp_path / "run", custom_task="careful_task.Careful")
    sys.modules.pop("careful_task", None)


@pytest.mark.parametrize("form", ["run", "merged"])
def test_task_of_ones_own_is_imported_only_where_it_is_named(
    careful: Path, form: str, tmp_path: Path
) -> None:
    own, folder = ("careful_task.Careful",), careful
    if form == "merged":
        export(careful, form, tmp_path / "out", check=ROWS.select([0]), custom_tasks=own)
        folder = tmp_path / "out"
    sys.modules.pop("careful_task", None)
    with pytest.raises(
        ModelError, match=r"not imported on a file's word.*--custom-task careful_task\.Careful"
    ):
        predict(folder, ROWS)
    assert "careful_task" not in sys.modules
    assert len(predict(folder, ROWS.select([0]), custom_tasks=own)) == 1


def test_what_a_check_of_ones_own_finds_is_told_as_it_is(careful: Path) -> None:
    records = Dataset.from_dict({"age": ["30", "40", "7"], "pain": ["none"] * 3})
    with pytest.raises(DataError) as caught:
        predict(careful, records, custom_tasks=("careful_task.Careful",))
    assert caught.value.problems == ["Children are not asked. First in record 3.", "One at a time."]


def test_a_record_beyond_the_first_part_is_told_by_its_own_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def part_from(start: int, *_: object) -> str:
        if start == 2:
            raise DataError(["Record 1: no.", "Column text: no."])
        return "a part"

    monkeypatch.setattr(prediction, "_PART", 2)
    monkeypatch.setattr(prediction, "_part_from", part_from)
    records = Dataset.from_dict({"text": ["a", "b", "wrong"]})
    inputs = Inputs(records, torch.zeros(3, dtype=torch.bool))
    parts = predict_in_parts(SimpleNamespace(writer=None), inputs)  # type: ignore[arg-type]
    assert next(parts) == "a part"  # type: ignore[comparison-overlap]
    with pytest.raises(DataError) as caught:
        next(parts)
    assert caught.value.problems == ["Record 3: no.", "Column text: no."]
