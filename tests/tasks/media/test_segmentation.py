"""Masks: read without conversion, judged by sums, trained in one engine, exported."""

import json
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest
import torch
from builders import build_plan, workload_of
from datasets import Dataset
from masks_made import write_squares
from PIL import Image

from confide.client.commands.predict import main
from confide.client.records.checked import load_checked_records
from confide.client.training.private.dp_sgd import DpSgd
from confide.client.training.private.preflight import preflight
from confide.config.composing.compose import compose
from confide.config.data import DataConfig
from confide.config.models.unet import UNetConfig
from confide.config.outcomes.mask import MaskConfig
from confide.config.tasks.media.segmentation import SegmentationConfig
from confide.errors import ConfigError, DataError, ModelError, PrivacyError
from confide.inference.export import export
from confide.inference.predictor import load_predictor
from confide.models.compute import Compute
from confide.models.networks import trainable_tensors
from confide.models.saved import save_model
from confide.tasks.outcomes.mask import Mask, run_lengths

OUTCOME = MaskConfig(labels=["background", "square"], values=[0, 255])
TASK = SegmentationConfig(outcome=OUTCOME, size=16, channels=1)
SMALL = UNetConfig(widths=[4, 8])
NAMES = list(OUTCOME.metric_table)


def plan_of() -> Any:
    return build_plan(task=TASK, backbone=SMALL)


def loaded(path: Path, task: SegmentationConfig = TASK) -> Dataset:
    config = DataConfig(path=str(path), num_clients=1, partitioner="iid")
    return load_checked_records(config, task).records


def test_masks_keep_their_classes(tmp_path: Path) -> None:
    records = loaded(write_squares(tmp_path / "ward"))
    examples = workload_of(plan_of()).task.encode(records)
    assert examples.labels.shape == (12, 16, 16)
    assert examples.labels.flatten(1).sum(dim=1).tolist() == [36] * 12
    light = examples.columns["pixel_values"][:, 0] > 120
    assert light.equal(examples.labels == 1)  # picture and mask belong together


@pytest.mark.parametrize("mode", ["L", "P", "1"])
def test_a_mask_is_the_same_in_every_form(mode: str, tmp_path: Path) -> None:
    path = write_squares(tmp_path / "ward", count=4)
    expected = workload_of(plan_of()).task.encode(loaded(path)).labels
    values = 1 if mode == "P" else 255
    for file in path.parent.glob("*_mask.png"):
        mask = (numpy.array(Image.open(file)) > 0).astype(numpy.uint8) * values
        image = Image.fromarray(mask)
        if mode == "P":
            image.putpalette([0, 0, 0, 255, 0, 0])
        (image.convert("1") if mode == "1" else image).save(file)
    levels = {"L": [0, 255], "P": [0, 1], "1": [0, 1]}[mode]
    task = SegmentationConfig(
        outcome=MaskConfig(labels=["background", "square"], values=levels), size=16, channels=1
    )
    made = workload_of(build_plan(task=task, backbone=SMALL)).task.encode(loaded(path, task))
    assert made.labels.sum() == expected.sum() > 0


WRONG = {
    "unknown": (lambda mask: mask.point(lambda value: value // 2), "hold a value that is no class"),
    "colours": (lambda mask: mask.convert("RGB"), "are in colour or of more than 8 bits"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_mask_is_counted(name: str, tmp_path: Path) -> None:
    change, expected = WRONG[name]
    path = write_squares(tmp_path / "ward", count=4)
    file = path.parent / "2_mask.png"
    change(Image.open(file)).save(file)
    with pytest.raises(DataError, match=f"Column mask: 1 of 4 masks {expected}.*First in line 4"):
        loaded(path)


def test_a_mask_of_another_size_than_its_picture_is_refused(tmp_path: Path) -> None:
    path = write_squares(tmp_path / "ward", count=4)
    file = path.parent / "2_mask.png"
    Image.open(file).crop((0, 0, 12, 16)).save(file)
    with pytest.raises(DataError, match=r"a mask is 12 x 16 pixels and its picture 16 x 16 \(.*2_"):
        workload_of(plan_of()).task.encode(loaded(path))


def test_a_task_without_a_size_is_refused() -> None:
    with pytest.raises(ConfigError, match="size=null: a mask and its picture need a size"):
        compose(
            [
                *("task=masks", "task.outcome.labels=[none,lesion]", "backbone=unet"),
                *("data.path=x.csv", "data.public=true", "tuning=full"),
            ]
        )


def test_metrics_of_any_split_add_up() -> None:
    outcome = Mask(OUTCOME, TASK.labelling)
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn((6, 2, 8, 8), generator=generator)
    targets = torch.randint(0, 2, (6, 8, 8), generator=generator)
    tallies = outcome.tally(outputs, targets)
    parts = [outcome.tally(outputs[i : i + 2], targets[i : i + 2]) for i in (0, 2, 4)]
    assert torch.cat(parts).equal(tallies)
    told, there = outputs.argmax(dim=1) == 1, targets == 1
    table = OUTCOME.metric_table
    found = {name: table[name].score_fn(tallies.numpy(), numpy.zeros(6)) for name in NAMES}
    assert found["iou"] == pytest.approx(float((told & there).sum() / (told | there).sum()))
    dice = 2 * (told & there).sum(dim=(1, 2)) / (told.sum(dim=(1, 2)) + there.sum(dim=(1, 2)))
    assert found["dice"] == pytest.approx(float(dice.mean()))
    assert found["pixel_accuracy"] == pytest.approx(float((told == there).float().mean()))


def test_a_picture_without_the_class_is_right_where_none_is_told() -> None:
    outcome = Mask(OUTCOME, TASK.labelling)
    outputs = torch.stack([torch.ones((1, 4, 4)), -torch.ones((1, 4, 4))], dim=1)
    tally = outcome.tally(outputs, torch.zeros((1, 4, 4)))
    assert OUTCOME.metric_table["dice"].score_fn(tally.numpy(), numpy.zeros(1)) == 1.0


def test_loss_of_a_record_depends_on_no_other() -> None:
    outcome = Mask(OUTCOME, TASK.labelling)
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn((4, 2, 8, 8), generator=generator)
    targets = torch.randint(0, 2, (4, 8, 8), generator=generator)
    alone = [outcome.loss(outputs[i : i + 1], targets[i : i + 1]) for i in range(4)]
    assert torch.allclose(outcome.loss(outputs, targets), torch.cat(alone), atol=1e-6)


def test_preflight_passes_and_the_other_engine_refuses_by_name() -> None:
    workload = workload_of(plan_of())

    def losses(model: Any, batch: Any) -> torch.Tensor:
        return workload.task.loss(workload.outputs(model, batch), batch)

    synthetic = workload.synthetic(4, torch.Generator().manual_seed(3))
    assert len(synthetic.labels.flatten(1).unique(dim=0)) == 4
    model = workload.model.train()
    preflight(DpSgd(model, losses, physical_batch_size=8), synthetic, autocast=None)
    with pytest.raises(PrivacyError, match="is Conv2d"):
        DpSgd(
            workload_of(plan_of()).model.train(), losses, physical_batch_size=8, book_keeping=True
        )


def test_a_model_exports_and_predicts_runs(tmp_path: Path) -> None:
    plan = plan_of()
    workload = workload_of(plan)
    save_model(tmp_path / "run" / "model", workload, trainable_tensors(workload.model), plan)
    path = write_squares(tmp_path / "ward", count=5)
    records = loaded(path)
    assert export(tmp_path / "run", "merged", tmp_path / "exported", check=records).exact
    own = load_predictor(tmp_path / "run", compute=Compute()).outputs(records)
    other = load_predictor(tmp_path / "exported", compute=Compute()).outputs(records)
    assert torch.allclose(own, other, atol=1e-4)
    pandas.read_csv(path)[["image"]].to_csv(path.parent / "unlabelled.csv", index=False)
    for name in ("t.csv", "unlabelled.csv"):
        words = [str(tmp_path / "run"), str(path.parent / name)]
        assert main([*words, "--output", str(tmp_path / "out.csv")]) == 0
        made = pandas.read_csv(tmp_path / "out.csv")
        runs = json.loads(made["prediction"][0])
        assert runs["size"] == [16, 16]
        assert sum(sum(run[1::2]) for run in runs["runs"].values()) == 256


def test_run_lengths_say_where_each_class_is() -> None:
    classes = numpy.random.default_rng(0).integers(0, 3, (7, 5))
    back = numpy.full(35, -1)
    for name, runs in run_lengths(classes).items():
        for start, length in zip(runs[::2], runs[1::2], strict=True):
            back[start : start + length] = int(name)
    assert (back.reshape(7, 5) == classes).all()


def test_a_size_that_cannot_be_halved_is_refused() -> None:
    task = SegmentationConfig(outcome=OUTCOME, size=18, channels=1)
    with pytest.raises(ModelError, match=r"task\.size=18: expected a multiple of 4"):
        workload_of(build_plan(task=task, backbone=UNetConfig(widths=[4, 4, 4])))
