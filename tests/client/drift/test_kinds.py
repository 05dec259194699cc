"""Every kind of task is looked at through its own Protocols: none needs a word here."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import torch
from builders import build_plan
from datasets import Dataset
from small_language_models import build_answer_plan, make_language_model
from small_seq2seq import build_text_plan, make_seq2seq
from small_whisper import build_whisper_plan, make_whisper

from confide.client.drift.findings import compare
from confide.client.drift.looking import Looked, profile_with
from confide.client.drift.profile import Profile
from confide.config.drift import DriftConfig
from confide.config.models.unet import UNetConfig
from confide.config.outcomes.mask import MaskConfig
from confide.config.tasks.media.segmentation import SegmentationConfig
from confide.inference.inputs import read_inputs
from confide.inference.predictor import Predictor, load_predictor
from confide.models.compute import Compute
from confide.models.networks import trainable_tensors
from confide.models.saved import save_model
from confide.models.workload import build_workload
from confide.protocol.plan import TrainingPlan
from confide.tasks.invented import invented_columns
from confide.tasks.outcomes.build import outcome_of
from confide.tasks.task import InventsRecords

CONFIG = DriftConfig(min_records=20)
MASKS = SegmentationConfig(
    size=16, channels=1, outcome=MaskConfig(labels=["background", "square"], values=[0, 255])
)
PLANS: dict[str, Callable[[Path], TrainingPlan]] = {
    "conversations": lambda folder: build_answer_plan(make_language_model(folder)),
    "texts": lambda folder: build_text_plan(make_seq2seq(folder)),
    "speech": lambda folder: build_whisper_plan(make_whisper(folder), "full"),
    "masks": lambda folder: build_plan(task=MASKS, backbone=UNetConfig(widths=[4, 8])),
}


def saved(folder: Path, plan: TrainingPlan) -> Predictor:
    workload = build_workload(
        plan.encoded_task, plan.backbone, plan.tuning, compute=Compute(), seed=0
    )
    save_model(folder / "model", workload, trainable_tensors(workload.model), plan)
    return load_predictor(folder, compute=Compute())


def invented(predictor: Predictor, count: int, seed: int) -> Dataset:
    if isinstance(predictor.task, InventsRecords):
        return predictor.task.invent(count, torch.Generator().manual_seed(seed))
    config, rng = predictor.plan.task, numpy.random.default_rng(seed)
    targets = outcome_of(config).invent(count, rng)
    return Dataset.from_dict({**targets, **invented_columns(config, count, rng)})


@pytest.mark.parametrize("kind", PLANS)
def test_records_of_every_kind_have_a_profile_and_can_be_compared(
    kind: str, tmp_path: Path
) -> None:
    predictor = saved(tmp_path / "run", PLANS[kind](tmp_path / "backbone"))

    def look(seed: int, like: Profile | None) -> Profile:
        records = invented(predictor, 24, seed)
        looked = Looked(source="invented", scored_records=100, like=like)
        return profile_with(predictor, records, read_inputs(predictor, records), looked)

    before = look(0, None)
    report = compare(before, look(1, before), CONFIG)
    assert before.features.shape[0] == len(before.losses) == 24
    assert {"features", "performance"} <= {it.kind for it in report.findings}
    again = compare(before, replace(before, source="the same"), CONFIG)
    assert again.verdict == "no drift"
