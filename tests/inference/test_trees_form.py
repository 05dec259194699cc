"""Trees as xgboost's own: the same margins to the last bit, on columns as they are."""

import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy
import pandas
import pytest
import torch
from builders import workload_of
from datasets import Dataset
from small_trees import grow_trees, tree_plan

from confide.config.models.trees import TreesConfig
from confide.config.tasks.columns import ColumnConfig
from confide.config.tasks.tabular import TabularConfig
from confide.errors import ConfigError, ModelError
from confide.inference.export import export
from confide.inference.prediction import predict
from confide.inference.trees_file import read_trees
from confide.inference.trees_form import INPUTS, MODEL
from confide.models.networks import trainable
from confide.models.saved import save_model
from confide.protocol.plan import TrainingPlan
from confide.tasks.build import build_task
from confide.tasks.invented import invented_records

PROBABILITIES = 1e-6


def clinic(classes: int) -> TabularConfig:
    """A table with every kind of column, and names that xgboost takes for none."""
    return TabularConfig(
        labels=[f"class-{number}" for number in range(classes)],
        columns={
            "tsh": ColumnConfig(minimum=0, maximum=530),
            "age[years]": ColumnConfig(minimum=18, maximum=110, missing_values=["999"]),
            "sex": ColumnConfig(kind="categorical", categories=["f", "m"], indicator=True),
            "stage": ColumnConfig(
                kind="categorical", categories=["<2", ">=2"], unseen="other", indicator=True
            ),
        },
    )


def saved(folder: Path, *, classes: int = 2, cells: str = "grid") -> tuple[Path, TrainingPlan]:
    """Grow trees on invented records, whose labels follow from their columns, and save them."""
    plan = tree_plan(num_trees=12, depth=3, learning_rate=0.3, task=clinic(classes))
    plan = replace(plan, backbone=TreesConfig(num_trees=12, depth=3, cells=cells))
    workload = workload_of(plan)
    records = workload.prepare(labelled(plan.task, classes))
    trees = grow_trees(plan, records, [range(len(records))])
    with torch.no_grad():
        for name, parameter in trainable(workload.model).items():
            parameter.copy_(trees[name])
    save_model(folder / "model", workload, trees, plan)
    return folder, plan


def labelled(task: TabularConfig, classes: int) -> Dataset:
    frame = invented_records(task, 400).to_pandas()
    tsh = pandas.to_numeric(frame["tsh"]).fillna(0)
    number = (tsh > 100).astype(int) + (frame["sex"] == "m").astype(int) + (tsh > 300).astype(int)
    frame["label"] = [f"class-{one % classes}" for one in number]
    return Dataset.from_pandas(frame, preserve_index=False)


@pytest.mark.parametrize("cells", ["grid", "edges"])
@pytest.mark.parametrize("classes", [2, 4])
def test_xgboost_predicts_the_same(tmp_path: Path, classes: int, cells: str) -> None:
    xgboost = pytest.importorskip("xgboost")
    run, plan = saved(tmp_path / "run", classes=classes, cells=cells)
    records = labelled(plan.task, classes)
    found = export(run, "xgboost", check=records)
    assert (found.difference, found.logit_difference) == (0.0, 0.0)
    assert found.run.metrics["accuracy"] > 0.6
    # As a user of xgboost alone would: columns as they are, NaN where they are missing
    raw = build_task(plan.task.for_trees("raw"), {}, ()).encode(records).columns["features"]
    booster = xgboost.Booster(model_file=run / "export" / "xgboost" / MODEL)
    rows = xgboost.DMatrix(raw.numpy(), feature_names=booster.feature_names)
    own = predict(run, records).filter(like="probability_").to_numpy()
    theirs = booster.predict(rows)
    theirs = numpy.stack([1 - theirs, theirs], axis=1) if classes == 2 else theirs
    assert abs(own - theirs).max() < PROBABILITIES
    explained = booster.predict(rows, pred_contribs=True)
    assert explained.sum(axis=-1).reshape(len(records), -1) == pytest.approx(
        booster.predict(rows, output_margin=True).reshape(len(records), -1), abs=1e-4
    )


def test_numbers_at_the_edges_go_the_same_way(tmp_path: Path) -> None:
    xgboost = pytest.importorskip("xgboost")
    run, _ = saved(tmp_path / "run")
    export(run, "xgboost")
    booster = xgboost.Booster(model_file=run / "export" / "xgboost" / MODEL)
    splits = booster.trees_to_dataframe()
    edges = splits.loc[splits["Feature"] == "tsh", "Split"].to_numpy(numpy.float64)
    assert len(edges) > 3
    near = numpy.concatenate([edges * (1 + part) for part in (0, 1e-8, -1e-8, 1e-6, -1e-6)])
    frame = pandas.DataFrame({"tsh": near.clip(0, 530), "sex": "f", "stage": "<2"})
    frame["age[years]"] = "999"
    here, there = (predict(place, frame) for place in (run, run / "export" / "xgboost"))
    pandas.testing.assert_frame_equal(here, there)


def test_inputs_say_what_each_is_by_a_name_that_xgboost_takes(tmp_path: Path) -> None:
    run, _ = saved(tmp_path / "run")
    export(run, "xgboost")
    folder = run / "export" / "xgboost"
    inputs = json.loads((folder / INPUTS).read_text())
    names = json.loads((folder / MODEL).read_text())["learner"]["feature_names"]
    assert [one["name"] for one in inputs] == names
    assert len(set(names)) == len(names)
    assert not any(sign in name for name in names for sign in "[]<")
    assert inputs[1]["column"] == "age[years]"
    assert inputs[1]["missing_values"] == ["999"]
    assert [one.get("category", "") for one in inputs[4:]] == ["<2", ">=2", None]


@pytest.mark.parametrize(
    ("form", "said"), [("hf", "exported to xgboost, onnx only"), ("int8", "xgboost, onnx only")]
)
def test_forms_of_layers_are_refused(tmp_path: Path, form: str, said: str) -> None:
    run, _ = saved(tmp_path / "run")
    with pytest.raises(ConfigError, match=said):
        export(run, form)


def test_without_xgboost_the_product_says_what_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, plan = saved(tmp_path / "run")
    export(run, "xgboost")
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "confide.inference.packages.find_spec",
        lambda name: None if name == "xgboost" else find(name),
    )
    monkeypatch.setitem(sys.modules, "xgboost", None)
    wanted = r"pip install 'confide\[trees\]'"
    with pytest.raises(ConfigError, match=wanted):
        export(run, "xgboost", tmp_path / "other")
    with pytest.raises(ConfigError, match=wanted):
        predict(run / "export" / "xgboost", labelled(plan.task, 2))
    assert len(predict(run, labelled(plan.task, 2))) == 400


def test_damaged_model_is_refused(tmp_path: Path) -> None:
    run, plan = saved(tmp_path / "run")
    export(run, "xgboost")
    (run / "export" / "xgboost" / MODEL).write_text("{}")
    with pytest.raises(ModelError, match=r"model\.json is missing or not what was exported"):
        predict(run / "export" / "xgboost", labelled(plan.task, 2))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("left_children", 0, "node 0 leads to none of its later nodes"),
        ("right_children", 10**8, "node 0 leads to none of its later nodes"),
        ("split_indices", 10**8, "split_indices is no input"),
        ("split_indices", -1, "split_indices is no input"),
        ("split_type", 1, "a split is not by a number"),
    ],
)
def test_trees_that_lead_nowhere_are_refused_before_xgboost_follows_them(
    tmp_path: Path, name: str, value: int, said: str
) -> None:
    run, _ = saved(tmp_path / "run")
    export(run, "xgboost")
    path = run / "export" / "xgboost" / MODEL
    assert read_trees(path) == path.read_bytes()
    learner = json.loads(path.read_text())
    learner["learner"]["gradient_booster"]["model"]["trees"][0][name][0] = value
    path.write_text(json.dumps(learner))
    with pytest.raises(ModelError, match=said):
        read_trees(path)


@pytest.mark.slow
def test_onnx_predicts_the_same(tmp_path: Path) -> None:
    run, plan = saved(tmp_path / "run")
    assert export(run, "onnx", check=labelled(plan.task, 2)).difference < PROBABILITIES


def test_usage_of_the_readme_predicts_what_confide_does(tmp_path: Path) -> None:
    pytest.importorskip("xgboost")
    run, plan = saved(tmp_path / "run")
    (run / "model_card.md").write_text("---\ntags:\n- a\n---\n# Trees\n")
    export(run, "xgboost", check=labelled(plan.task, 2))
    folder = run / "export" / "xgboost"
    readme = (folder / "README.md").read_text()
    assert "library_name: xgboost" in readme
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    (record,) = re.findall(r"record = (\{.*?\n\})", code, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=True
    )
    expected = predict(folder, pandas.DataFrame([json.loads(record.replace(",\n}", "\n}"))]))
    told = expected["probability_class-1"].tolist()
    assert json.loads(done.stdout) == pytest.approx(told, abs=1e-6)
