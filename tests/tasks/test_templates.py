"""Templates: public words around texts, everywhere alike, and never cut."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from builders import build_plan, build_tuning, workload_of
from datasets import Dataset
from small_models import MINILM, make_backbone
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from confide.client.commands.doctor import _token_counter
from confide.client.deployment.kit import InstitutionKit
from confide.config.composing.compose import compose
from confide.config.fields import range_problems
from confide.config.tasks.text_classification import TextClassificationConfig
from confide.errors import ConfigError
from confide.inference.export import export
from confide.inference.prediction import predict
from confide.models.backbones import content_hash, find_backbone, load_tokenizer
from confide.models.networks import trainable_tensors
from confide.models.saved import save_model
from confide.protocol.plan import TrainingPlan
from confide.tasks.text_classification import TextClassification

WORDS = "Review: {text} Is it good?"
TASK = TextClassificationConfig(labels=["no", "yes"], template=WORDS, max_tokens=16)
PAIRS = dataclasses.replace(TASK, pair_column="reply", template="{pair} answers {text} well?")
LONG = " ".join(["landing"] * 40)
RECORDS = Dataset.from_dict(
    {
        "text": ["late again", "", LONG, "{pair} or {text}"],
        "reply": ["soon", LONG, LONG, ""],
        "label": ["no", "yes", "yes", "no"],
    }
)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer(find_backbone(MINILM))


@pytest.fixture(scope="module")
def bytes_tokenizer() -> Any:
    """One of GPT-2's kind: a blank belongs to the token behind it."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    made.train_from_iterator([WORDS, LONG, "late again answers well?"] * 3, trainer)
    ends = [("<s>", made.token_to_id("<s>")), ("</s>", made.token_to_id("</s>"))]
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    return PreTrainedTokenizerFast(tokenizer_object=made)


def rows_of(task: TextClassification, records: Dataset = RECORDS) -> list[list[int]]:
    examples = task.encode(records)
    masks = examples.columns["attention_mask"].bool()
    ids = examples.columns["input_ids"]
    return [row[mask].tolist() for row, mask in zip(ids, masks, strict=True)]


@pytest.mark.parametrize("which", ["tokenizer", "bytes_tokenizer"])
def test_short_text_is_its_template_filled(which: str, request: pytest.FixtureRequest) -> None:
    tokens = request.getfixturevalue(which)
    task = TextClassification(dataclasses.replace(TASK, max_tokens=64), tokenizer=tokens)
    filled = ["Review: late again Is it good?", "Review:  Is it good?"]
    assert rows_of(task)[:2] == tokens(filled)["input_ids"]
    # What a text says of places is text
    assert rows_of(task)[3] == tokens(["Review: {pair} or {text} Is it good?"])["input_ids"][0]


@pytest.mark.parametrize("which", ["tokenizer", "bytes_tokenizer"])
def test_long_text_loses_its_end_and_the_template_nothing(
    which: str, request: pytest.FixtureRequest
) -> None:
    tokens = request.getfixturevalue(which)
    most = len(tokens(["Review: landing landing landing Is it good?"])["input_ids"][0])
    task = TextClassification(dataclasses.replace(TASK, max_tokens=most), tokenizer=tokens)
    row = rows_of(task)[2]
    assert len(row) == most
    shown = tokens.decode(row, skip_special_tokens=True).lower()
    assert shown.startswith("review")
    assert shown.endswith(" is it good?")
    assert shown.count("landing") == 3
    assert row[0] == tokens("a")["input_ids"][0]  # [CLS] and [SEP] stay where they are
    assert row[-1] == tokens("a")["input_ids"][-1]


def test_pair_is_one_text_and_its_longer_half_is_cut(tokenizer: Any) -> None:
    task = TextClassification(PAIRS, tokenizer=tokenizer)
    shown = [tokenizer.decode(row, skip_special_tokens=True) for row in rows_of(task)]
    assert shown[0] == "soon answers late again well?"
    assert shown[1] == " ".join(["landing"] * 11) + " answers well?"
    assert [half.count("landing") for half in shown[2].split(" answers ")] == [5, 6]
    assert "token_type_ids" not in task.encode(RECORDS).columns
    assert task.content_columns() == ("text", "reply")


def test_doctor_counts_tokens_as_the_task_does() -> None:
    kit = SimpleNamespace(
        task=TASK,
        config=SimpleNamespace(backbones=[MINILM.name]),
        path=lambda name: Path("nowhere") / "there",
    )
    counted = _token_counter(cast(InstitutionKit, kit))(["late again"])
    assert counted is not None
    assert list(counted.lengths) == [10]


def test_tokens_are_counted_with_the_template(tokenizer: Any) -> None:
    task = TextClassification(TASK, tokenizer=tokenizer)
    assert list(task.count_tokens(["late again"]).lengths) == [10]
    alone = dataclasses.replace(TASK, template=None)
    assert list(TextClassification(alone, tokenizer=tokenizer).count_tokens(["late"]).lengths) == [
        3
    ]


def test_no_records_are_no_rows(tokenizer: Any) -> None:
    assert len(TextClassification(TASK, tokenizer=tokenizer).encode(RECORDS.select([]))) == 0


def test_template_that_leaves_no_room_is_refused(tokenizer: Any) -> None:
    tight = dataclasses.replace(TASK, max_tokens=8)
    with pytest.raises(ConfigError, match=r"words alone are 8 tokens of task\.max_tokens=8"):
        TextClassification(tight, tokenizer=tokenizer)
    TextClassification(dataclasses.replace(TASK, max_tokens=9), tokenizer=tokenizer)


@pytest.mark.parametrize(
    "template",
    ["Is it good?", "{text} and {text}", "{text} {pair}", "{text} {", "{text}}", "{review} {text}"],
)
def test_places_of_a_template_are_checked(template: str) -> None:
    config = dataclasses.replace(TASK, template=template)
    found = [one for one in range_problems(config, "task.") if "template" in one]
    assert found == [
        f"task.template={template}: expected {{text}} once, and no other braces; write it as"
        " 'Review: {text} Is it good?'."
    ]


def test_pair_needs_its_place() -> None:
    config = dataclasses.replace(PAIRS, template=WORDS)
    assert any("{text} once and {pair} once" in one for one in range_problems(config))


@pytest.mark.parametrize("words", ["x" * 1000, "\ud800", "\x00"], ids=["long", "half", "null"])
def test_hostile_template_is_refused(words: str) -> None:
    config = dataclasses.replace(TASK, template=f"{words}{{text}}")
    assert any("printable characters" in one for one in range_problems(config))


@pytest.mark.parametrize(
    "template", [WORDS, "{text}", "Gut? {text}\nJa, wenn's 1e3 ist (oder 1_2)"]
)
def test_command_line_says_a_template_as_it_is_meant(template: str) -> None:
    words = ["task=text", "task.labels=[no,yes]", "data.path=x.csv", "data.public=true"]
    task = compose([*words, f"task.template={template}"]).task
    assert isinstance(task, TextClassificationConfig)
    assert task.template == template


def test_plan_names_a_template_only_where_there_is_one() -> None:
    alone = dataclasses.replace(TASK, template=None)
    assert "template" not in build_plan(task=alone, backbone=MINILM).to_json()
    text = build_plan(task=TASK, backbone=MINILM).to_json()
    assert TrainingPlan.from_json(text).task == TASK


@pytest.mark.parametrize(
    ("tuning", "form"),
    [
        ("full", "merged"),
        pytest.param("head", "onnx", marks=pytest.mark.slow),
        pytest.param("lora", "hf", marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_prediction_and_export_keep_the_template(tuning: str, form: str, tmp_path: Path) -> None:
    backbone = make_backbone(tmp_path / "bert")
    runs = {}
    # The same tensors, once with the template and once with texts that are in it already
    for name, template in (("in", WORDS), ("out", None)):
        task = dataclasses.replace(TASK, template=template)
        sha256 = content_hash(find_backbone(backbone))
        plan = build_plan(
            task=task,
            backbone=backbone,
            backbone_sha256=sha256,
            tuning=build_tuning(tuning, rank=2),
        )
        workload = workload_of(plan)
        generator = torch.Generator().manual_seed(1)
        tensors = {
            key: tensor + 0.3 * torch.randn(tensor.shape, generator=generator)
            for key, tensor in trainable_tensors(workload.model).items()
        }
        runs[name] = tmp_path / name
        save_model(runs[name] / "model", workload, tensors, plan)
    texts = Dataset.from_dict({"text": ["late again", "a very good crew"]})
    filled = Dataset.from_dict({"text": [WORDS.format(text=one) for one in texts["text"]]})
    expected = predict(runs["out"], filled)["probability_yes"]
    assert predict(runs["in"], texts)["probability_yes"].tolist() == expected.tolist()
    assert (predict(runs["out"], texts)["probability_yes"] - expected).abs().max() > 1e-3

    assert export(runs["in"], form, tmp_path / "exported", check=texts).exact
    got = predict(tmp_path / "exported", texts)["probability_yes"]
    assert (got - expected).abs().max() < 1e-4
    if form != "onnx":
        config = json.loads((tmp_path / "exported" / "config.json").read_text())
        assert config["confide_template"] == WORDS
