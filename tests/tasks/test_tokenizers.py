"""Tokenizers of any folder: a text is what it is alone, whatever the folder says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import build_tuning
from datasets import Dataset
from small_models import MINILM, make_backbone
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from confide.client.training.private.custom_checks import check_encoding
from confide.config.tasks.text_classification import TextClassificationConfig
from confide.errors import ModelError
from confide.models.backbones import find_backbone, load_tokenizer
from confide.models.compute import Compute
from confide.models.workload import build_workload
from confide.tasks.text_classification import TextClassification

MAX_TOKENS = 12
CONFIG = TextClassificationConfig(labels=["bad", "good"], max_tokens=MAX_TOKENS)
TEXTS = ["late again", "", *(" ".join(["a good crew"] * n) for n in range(1, 34))]
RECORDS = Dataset.from_dict({"text": TEXTS, "label": ["good"] * len(TEXTS)})
Settings = dict[str, Any]


def _settings(**values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "tokenizer_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **values}))

    return change


def _state(**values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "tokenizer.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **values}))

    return change


_PADDING = {
    "strategy": {"Fixed": 40},
    "direction": "Left",
    "pad_to_multiple_of": None,
    "pad_id": 0,
    "pad_type_id": 0,
    "pad_token": "[PAD]",
}
_TRUNCATION = {"direction": "Left", "max_length": 5, "strategy": "LongestFirst", "stride": 2}
CHANGES: dict[str, Callable[[Path], None]] = {
    "padding on the left": _settings(padding_side="left"),
    "cutting on the left": _settings(truncation_side="left"),
    "both": _settings(padding_side="left", truncation_side="left"),
    "shortest length": _settings(model_max_length=4),
    "longest length": _settings(model_max_length=10**30),
    "saved padding": _state(padding=_PADDING),
    "saved padding to the longest": _state(padding={**_PADDING, "strategy": "BatchLongest"}),
    "saved cutting": _state(truncation=_TRUNCATION),
    "all saved": _state(padding=_PADDING, truncation=_TRUNCATION),
    "no padding token": _settings(pad_token=None),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_folder_says_of_padding_and_cutting_changes_no_text(
    name: str, tmp_path: Path
) -> None:
    load_tokenizer(find_backbone(MINILM)).save_pretrained(tmp_path)
    CHANGES[name](tmp_path)
    plain = TextClassification(CONFIG, tokenizer=load_tokenizer(find_backbone(MINILM)))
    changed = TextClassification(CONFIG, tokenizer=load_tokenizer(tmp_path))
    for records in (RECORDS, RECORDS.select([0]), RECORDS.select(range(5))):
        for column, expected in plain.encode(records).columns.items():
            assert changed.encode(records).columns[column].equal(expected)


def save_bpe(folder: Path, **settings: Any) -> None:
    """Write a tokenizer of bytes that brings no special tokens, as GPT-2's."""
    words = {letter: number for number, letter in enumerate(pre_tokenizers.ByteLevel.alphabet())}
    words |= {"go": 256, "good": 257, "od": 258}
    merges = [("g", "o"), ("o", "d"), ("go", "od")]
    tokenizer = Tokenizer(models.BPE(words, merges, **settings))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)


@pytest.mark.parametrize("settings", [{}, {"dropout": 0.9}], ids=["plain", "merges at random"])
@pytest.mark.parametrize("tuning", ["head", "full"])
def test_records_of_a_bare_tokenizer_are_what_they_are_alone(
    settings: Settings, tuning: str, tmp_path: Path
) -> None:
    """No padding token, no tokens for an empty text, perhaps other merges each time."""
    backbone = make_backbone(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        (tmp_path / name).unlink(missing_ok=True)
    save_bpe(tmp_path, **settings)
    workload = build_workload(CONFIG, backbone, build_tuning(tuning), compute=Compute(), seed=0)
    check_encoding(workload, RECORDS)
    first, again = (workload.prepare(RECORDS).columns for _ in range(2))
    for name, column in first.items():
        assert column.equal(again[name])
        assert bool(torch.isfinite(column.float()).all())
    for index in range(4):
        own = workload.prepare(RECORDS.select([index])).columns
        for name, column in own.items():
            beside = first[name][index]
            # Tokens are padded further beside longer texts
            assert column[0].equal(beside[: column.shape[1]] if beside.dim() else beside)


def test_tokenizer_with_more_words_than_the_backbone_is_refused(tmp_path: Path) -> None:
    make_backbone(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "vocab_size": 30_521}))
    with pytest.raises(
        ModelError, match=r"numbers words up to 30521, and config\.json says vocab_size=30521"
    ):
        load_tokenizer(tmp_path)


def test_words_added_to_a_tokenizer_are_counted(tmp_path: Path) -> None:
    make_backbone(tmp_path)
    tokenizer = load_tokenizer(find_backbone(MINILM))
    tokenizer.add_tokens(["confide"])
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="bring the tokenizer that belongs to these weights"):
        load_tokenizer(tmp_path)
