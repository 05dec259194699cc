"""Taggers of words that were exported: for transformers alone, with the run's own tags."""

import json
from pathlib import Path

import pandas
import pytest
import torch
from builders import build_plan, build_tuning
from small_models import make_backbone
from transformers import AutoModelForTokenClassification, BertForTokenClassification, pipeline

from confide.config.outcomes.spans import SpansConfig
from confide.config.tasks.token_classification import TokenClassificationConfig
from confide.errors import ModelError
from confide.inference.export import export
from confide.inference.prediction import predict
from confide.models.backbones import content_hash, find_backbone
from confide.models.compute import Compute
from confide.models.networks import trainable_tensors
from confide.models.saved import save_model
from confide.models.workload import build_workload

# peft asks transformers for a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)
TAGS = TokenClassificationConfig(outcome=SpansConfig(types=["PER", "LOC"]), max_tokens=16)
WORDS = pandas.DataFrame({"words": ["He met Anna in Rome", "", "a " * 40, '["New York","!"]']})


def save_run(run: Path, tuning: str, family: str = "bert") -> Path:
    """Write a run that ended with some weights."""
    backbone = make_backbone(run / "backbone", family)
    kind = build_tuning(tuning, rank=2)
    plan = build_plan(
        task=TAGS,
        backbone=backbone,
        backbone_sha256=content_hash(find_backbone(backbone)),
        tuning=kind,
    )
    workload = build_workload(TAGS, backbone, kind, compute=Compute(feature_cache=None), seed=7)
    generator = torch.Generator().manual_seed(1)
    tensors = {
        name: tensor + 0.3 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in trainable_tensors(workload.model).items()
    }
    save_model(run / "model", workload, tensors, plan)
    return run


@pytest.mark.parametrize(
    ("tuning", "form"),
    [
        ("head", "merged"),
        ("lora", "hf"),
        pytest.param("head", "onnx", marks=pytest.mark.slow),
        pytest.param("full", "merged", marks=pytest.mark.slow),
        pytest.param("lora", "merged", marks=pytest.mark.slow),
        pytest.param("lora", "onnx", marks=pytest.mark.slow),
        pytest.param("lora", "int8", marks=pytest.mark.slow),
    ],
)
def test_exported_model_tags_as_the_run_does(tuning: str, form: str, tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", tuning)
    comparison = export(run, form, tmp_path / "out")
    assert comparison.exact or form == "int8"
    if form != "int8":
        assert predict(tmp_path / "out", WORDS).equals(predict(run, WORDS))


def test_transformers_own_class_and_pipeline_take_the_folder(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", "head")
    export(run, "merged", tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.py"))
    model = AutoModelForTokenClassification.from_pretrained(tmp_path / "out")
    assert type(model) is BertForTokenClassification
    assert model.config.id2label == {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC", 4: "I-LOC"}
    found = pipeline("token-classification", model=str(tmp_path / "out"))("He met Anna in Rome")
    tags = json.loads(predict(run, WORDS)["predicted_tags"][0])
    told = {one["word"]: one["entity"] for one in found}
    for word, tag in zip(("he", "met", "anna", "in", "rome"), tags, strict=True):
        assert told.get(word, "O")[-3:] == tag[-3:] or tag == "O"


def test_predictions_are_spans_with_their_words(tmp_path: Path) -> None:
    told = predict(save_run(tmp_path / "run", "head"), WORDS)
    assert list(told) == ["prediction", "predicted_tags"]
    for words, spans, tags in zip(
        (["He", "met", "Anna", "in", "Rome"], [], ["a"] * 40, ["New York", "!"]),
        map(json.loads, told["prediction"]),
        map(json.loads, told["predicted_tags"]),
        strict=True,
    ):
        assert len(tags) == len(words)
        for span in spans:
            assert span["text"] == " ".join(words[span["start"] : span["end"]])
            assert tags[span["start"]] == f"B-{span['type']}"
    # Beyond the limit nothing is found, and it is no error
    assert set(json.loads(told["predicted_tags"][2])[14:]) == {"O"}


def test_family_without_a_class_is_told(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", "head", "bart")
    with pytest.raises(ModelError, match=r"model_type=bart.*choose another form"):
        export(run, "merged", tmp_path / "out")
