"""Causal language models: what is kept of frozen layers, and logits at answers alone."""

from pathlib import Path
from typing import cast

import pytest
import torch
from builders import workload_of
from small_language_models import (
    FAMILIES,
    RECORDS,
    TEMPLATE,
    build_answer_plan,
    make_language_model,
    make_tokenizer,
)
from torch import Tensor
from transformers import AutoModelForCausalLM, BertConfig, BertLMHeadModel

from confide.config.models.language_model import LanguageModelConfig
from confide.errors import ModelError
from confide.models.backbones import content_hash
from confide.models.language.answering import AnswerModel, layers_of
from confide.models.networks import trainable
from confide.models.workload import Workload
from confide.tasks.task import LABELS


def outputs_of(workload: Workload) -> torch.Tensor:
    batch = workload.prepare(RECORDS).take(torch.arange(len(RECORDS)))
    workload.model.eval()
    with torch.no_grad():
        return workload.outputs(workload.model, batch)


def off_zero(workload: Workload) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in trainable(workload.model).values():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))


@pytest.mark.parametrize("family", list(FAMILIES))
def test_logits_at_answers_are_those_of_the_whole_model(tmp_path: Path, family: str) -> None:
    plan = build_answer_plan(make_language_model(tmp_path, family))
    workload = workload_of(plan)
    found = outputs_of(workload)
    whole = AutoModelForCausalLM.from_pretrained(tmp_path, dtype="float32").eval()
    examples = workload.task.encode(RECORDS)
    for row, length in enumerate(examples.lengths.tolist()):
        ids = examples.columns["input_ids"][row : row + 1, :length]
        known = examples.labels[row] >= 0
        with torch.no_grad():
            logits = whole(input_ids=ids).logits[0][examples.columns["answer_at"][row][known]]
        torch.testing.assert_close(found[row][known], logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_adapters_in_the_last_layers_give_the_same_with_layers_kept_or_computed(
    tmp_path: Path, family: str
) -> None:
    workload = workload_of(build_answer_plan(make_language_model(tmp_path, family)))
    names = trainable(workload.model)
    assert all(".2." in name for name in names), "adapters below the last layer"
    off_zero(workload)
    assert workload.whole_fn is not None
    whole = workload.whole_fn()
    batch = workload.task.encode(RECORDS).take(torch.arange(len(RECORDS)))
    del batch[LABELS]
    with torch.no_grad():
        torch.testing.assert_close(whole(**batch), outputs_of(workload), rtol=1e-4, atol=1e-5)


def test_what_is_trained_holds_no_layer_that_is_frozen(tmp_path: Path) -> None:
    backbone = make_language_model(tmp_path)
    few = workload_of(build_answer_plan(backbone))
    backbone.trained_layers = None
    every = workload_of(build_answer_plan(backbone))
    count, total = (sum(p.numel() for p in w.model.parameters()) for w in (few, every))
    assert count < 0.75 * total


def test_outputs_of_frozen_layers_are_kept_on_disk(tmp_path: Path) -> None:
    backbone = make_language_model(tmp_path / "model")
    first = workload_of(build_answer_plan(backbone), feature_cache=tmp_path / "cache")
    kept = first.prepare(RECORDS)
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 1
    again = workload_of(build_answer_plan(backbone), feature_cache=tmp_path / "cache")
    assert again.prepare(RECORDS).columns["hidden"].equal(kept.columns["hidden"])


def test_a_record_s_kept_outputs_do_not_depend_on_others(tmp_path: Path) -> None:
    workload = workload_of(build_answer_plan(make_language_model(tmp_path)))
    together = workload.prepare(RECORDS)
    for row in range(len(RECORDS)):
        alone = workload.prepare(RECORDS.select([row])).columns["hidden"][0]
        assert together.columns["hidden"][row, : len(alone)].equal(alone)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_layers_are_given_a_mask_where_no_record_has_padding_too(
    tmp_path: Path, family: str
) -> None:
    """Without one they compute by another kernel, and bits follow from neighbours' lengths."""
    workload = workload_of(build_answer_plan(make_language_model(tmp_path, family)))
    batch = workload.synthetic(2, torch.Generator().manual_seed(0)).take(torch.arange(2))
    batch["attention_mask"] = torch.ones_like(batch["attention_mask"])
    seen: list[object] = []
    last = layers_of(cast(AnswerModel, workload.model).model)[-1]
    last.register_forward_pre_hook(
        lambda layer, args, words: seen.extend([*args, words.get("attention_mask")]),
        with_kwargs=True,
    )
    with torch.no_grad():
        workload.outputs(workload.model, batch)
    length = batch["attention_mask"].shape[1]
    assert (length, length) in {tuple(one.shape[-2:]) for one in seen if isinstance(one, Tensor)}


def test_a_model_that_looks_ahead_is_refused(tmp_path: Path) -> None:
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    settings = BertConfig(vocab_size=272, intermediate_size=32, initializer_range=0.2, **size)
    BertLMHeadModel(settings).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="choose a causal language model"):
        workload_of(build_answer_plan(LanguageModelConfig(name=str(tmp_path), trained_layers=1)))


def test_more_trained_layers_than_there_are_is_refused(tmp_path: Path) -> None:
    backbone = make_language_model(tmp_path, trained_layers=4)
    with pytest.raises(ModelError, match=r"trained_layers=4 exceeds the 3 layers"):
        workload_of(build_answer_plan(backbone))


def test_another_chat_template_is_another_backbone(tmp_path: Path) -> None:
    make_language_model(tmp_path)
    before = content_hash(tmp_path)
    (tmp_path / "chat_template.jinja").write_text("Hello " + TEMPLATE)
    assert content_hash(tmp_path) != before
    named = content_hash(tmp_path)
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "default.jinja").write_text(TEMPLATE)
    assert content_hash(tmp_path) != named
