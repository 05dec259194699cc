"""One of each kind of record: its units make the whole difference from the baseline."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import small_language_models
import small_seq2seq
import small_whisper
import torch
from explained_models import invented, save_plan
from pictures_made import build_pictures
from small_items import make_catalogue
from small_models import TABLE, TEXT, make_backbone

from confide.config.custom import implementation
from confide.config.models.cnn import CnnConfig
from confide.config.models.ctc import CtcConfig
from confide.config.models.items import ItemsConfig
from confide.config.models.patches import PatchesConfig
from confide.config.models.perceptrons import LogisticConfig
from confide.config.models.unet import UNetConfig
from confide.config.outcomes.forecast import ForecastConfig
from confide.config.outcomes.mask import MaskConfig
from confide.config.outcomes.multi_label import MultiLabelConfig
from confide.config.outcomes.next_item import NextItemConfig
from confide.config.outcomes.ordinal import OrdinalConfig
from confide.config.outcomes.outcome import OutcomeConfig
from confide.config.outcomes.regression import RegressionConfig
from confide.config.outcomes.spans import SpansConfig
from confide.config.outcomes.survival import SurvivalConfig
from confide.config.outcomes.table import OUTCOMES
from confide.config.outcomes.transcript import TranscriptConfig
from confide.config.tasks.media.audio_classification import AudioClassificationConfig
from confide.config.tasks.media.segmentation import SegmentationConfig
from confide.config.tasks.media.speech_recognition import SpeechRecognitionConfig
from confide.config.tasks.recommendation import RecommendationConfig
from confide.config.tasks.series import ReadingConfig, SeriesConfig
from confide.config.tasks.table import TASKS
from confide.config.tasks.token_classification import TokenClassificationConfig
from confide.errors import ConfigError
from confide.explaining.attribution import attribute, method_for
from confide.explaining.case import Case
from confide.explaining.network import Network
from confide.explaining.target import target_fn
from confide.inference.predictor import Predictor

SOUND = AudioClassificationConfig(labels=["low", "high"], seconds=0.3, bands=16)
SERIES = SeriesConfig(
    readings={"load": ReadingConfig(0, 100), "heat": ReadingConfig(-10, 40)},
    lookback=24,
    outcome=ForecastConfig(column="load", minimum=0, maximum=100, steps=2),
)
MASKS = SegmentationConfig(
    size=16, channels=1, outcome=MaskConfig(labels=["ground", "square"], values=[0, 255])
)
TAGS = TokenClassificationConfig(outcome=SpansConfig(types=["PER", "LOC"]), max_tokens=16)
SPEECH = SpeechRecognitionConfig(
    seconds=0.7,
    bands=16,
    step_ms=10,
    outcome=TranscriptConfig(characters=" abc", max_characters=16),
)
CASES: dict[str, Callable[[Path], tuple[Any, Any]]] = {
    "texts": lambda folder: (TEXT, make_backbone(folder / "tiny")),
    "tags": lambda folder: (TAGS, make_backbone(folder / "tiny")),
    "pictures": lambda folder: (build_pictures(), CnnConfig(widths=[4])),
    "masks": lambda folder: (MASKS, UNetConfig(widths=[4, 8])),
    "sounds": lambda folder: (SOUND, CnnConfig(widths=[4, 8])),
    "series": lambda folder: (SERIES, PatchesConfig(patch=8, width=8, heads=2, layers=1)),
    "items": lambda folder: (
        RecommendationConfig(outcome=NextItemConfig()),
        ItemsConfig(name=str(make_catalogue(folder / "catalogue")), width=4),
    ),
    **{
        f"sources of {family}": lambda folder, family=family: (  # type: ignore[misc]
            small_seq2seq.TASK,
            small_seq2seq.make_seq2seq(folder / family, family),
        )
        for family in small_seq2seq.FAMILIES
    },
    **{
        f"conversations of {family}": lambda folder, family=family: (  # type: ignore[misc]
            small_language_models.TASK,
            small_language_models.make_language_model(folder / family, family),
        )
        for family in small_language_models.FAMILIES
    },
    "transcripts": lambda folder: (SPEECH, CtcConfig(width=8, depth=1, kernel=5)),
    "spoken": lambda folder: (small_whisper.TASK, small_whisper.make_whisper(folder / "whisper")),
}
TUNINGS = {
    "items": "head",
    **{name: "lora" for name in CASES if name.startswith(("sources", "conversations", "spoken"))},
}


def opened(predictor: Predictor, baseline: str | None = None) -> Case:
    kind = TASKS[predictor.plan.task.kind]
    assert kind.explainer is not None
    made = implementation(kind.explainer)
    chosen = baseline or next(iter(made.baselines))
    case: Case = made(predictor, Network(predictor), chosen).case(invented(predictor).select([1]))
    return case


@pytest.mark.parametrize("name", CASES)
def test_units_on_are_the_record_and_units_off_the_baseline(name: str, tmp_path: Path) -> None:
    predictor = save_plan(tmp_path, *CASES[name](tmp_path), TUNINGS.get(name, "full"))
    case = opened(predictor)
    assert len(case.units) > 1
    with torch.no_grad():
        ends = case.outputs_fn(torch.cat([case.inputs, case.baseline]))
        count = len(case.units)
        mixed = case.mixed_fn(torch.stack([torch.ones(count), torch.zeros(count)]))
    assert torch.allclose(ends, mixed, atol=1e-5)
    target = target_fn(predictor)(predictor, ends[:1], case.batch, None)
    assert torch.isfinite(target.score_fn(ends)).all()
    assert len(target.pieces) == (ends.shape[1] if target.pieces else 0)
    methods = [method_for(case, None), "shapley" if count < 30 else "occlusion"]
    if target.pieces:  # each of which takes as many passes: test_written.py adds up those of one
        methods = ["gradient_input", "occlusion"]
    for method in dict.fromkeys(methods):
        found = attribute(case, target.score_fn, method)
        assert found.values.shape == (count,)
        assert bool(found.values.any())
        assert found.is_complete or not found.adds_up, (method, found.error)


def test_every_kind_of_record_and_outcome_is_explained() -> None:
    for kind in OUTCOMES.values():
        assert callable(implementation(kind.explained))
    for task, entry in TASKS.items():
        assert entry.explainer is not None, task
        made = implementation(entry.explainer)
        assert made.baselines
        assert made.what


OF_ROWS: dict[str, OutcomeConfig] = {
    "regression": RegressionConfig(column="y", minimum=0, maximum=10),
    "multi_label": MultiLabelConfig(labels=["a", "b"]),
    "ordinal": OrdinalConfig(labels=["low", "middle", "high"]),
    "survival": SurvivalConfig(time_column="t", event_column="e", horizon=10, intervals=4),
}


@pytest.mark.parametrize("name", OF_ROWS)
def test_other_outcomes_of_rows_have_a_number_that_is_explained(name: str, tmp_path: Path) -> None:
    task = dataclasses.replace(
        TABLE,
        labels=[],
        label_values={},
        label_column="label",
        metrics=[],
        primary_metric="",
        outcome=OF_ROWS[name],
    )
    predictor = save_plan(tmp_path, task, LogisticConfig())
    case = opened(predictor)
    with torch.no_grad():
        outputs = case.outputs_fn(case.inputs)
    target = target_fn(predictor)(predictor, outputs, case.batch, None)
    assert attribute(case, target.score_fn, "shapley").is_complete
    assert target.prediction
    with pytest.raises(ConfigError, match="expected one of"):
        target_fn(predictor)(predictor, outputs, case.batch, "nothing of the kind")


@pytest.mark.parametrize(
    ("name", "baselines"),
    [("texts", ["mask", "unknown"]), ("pictures", ["black", "white"]), ("series", ["last"])],
)
def test_other_baselines_are_other_records(name: str, baselines: list[str], tmp_path: Path) -> None:
    predictor = save_plan(tmp_path, *CASES[name](tmp_path))
    first = opened(predictor)
    others = [opened(predictor, baseline) for baseline in baselines]
    for other in others:
        assert torch.equal(other.inputs, first.inputs)
        assert not torch.equal(other.baseline, first.baseline)
