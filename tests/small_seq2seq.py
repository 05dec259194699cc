"""Tiny sequence-to-sequence models with a tokenizer of bytes, and numbers as words to write."""

from pathlib import Path
from typing import Any

import torch
from builders import build_plan, build_tuning
from datasets import Dataset
from small_language_models import make_tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from confide.config.models.seq2seq import Seq2SeqConfig
from confide.config.outcomes.text import TextConfig
from confide.config.tasks.sequence_to_sequence import SequenceToSequenceConfig
from confide.models.backbones import content_hash
from confide.protocol.plan import TrainingPlan

ENGLISH = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
GERMAN = ("null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun")
TASK = SequenceToSequenceConfig(max_tokens=32, outcome=TextConfig(max_tokens=16))
_WORDS = {"pad_token_id": 272, "eos_token_id": 0, "decoder_start_token_id": 272}
_SIZE: dict[str, Any] = {
    **_WORDS,
    "vocab_size": 273,
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 64,
    "forced_eos_token_id": None,
    # Larger than usual: gradients of models that small would be as short as the bounds of checks
    "init_std": 0.2,
}
FAMILIES: dict[str, Any] = {
    "marian": lambda: MarianMTModel(MarianConfig(**_SIZE)),
    "bart": lambda: BartForConditionalGeneration(BartConfig(**_SIZE)),
    "t5": lambda: T5ForConditionalGeneration(
        T5Config(**_WORDS, vocab_size=273, d_model=32, d_kv=16, d_ff=48, num_layers=1, num_heads=2)
    ),
}


def in_words(number: int, digits: tuple[str, ...]) -> str:
    """Spell a number digit by digit."""
    return " ".join(digits[int(digit)] for digit in str(number))


def numbers(*values: int) -> Dataset:
    """Return numbers in English words, to be written in German ones."""
    return Dataset.from_dict(
        {
            "source": [in_words(value, ENGLISH) for value in values],
            "target": [in_words(value, GERMAN) for value in values],
        }
    )


RECORDS = numbers(7, 40, 512)


def make_end_tokenizer() -> PreTrainedTokenizerFast:
    """Make a tokenizer of bytes that ends each text, and pads with a token of its own."""
    made = make_tokenizer(None)
    made.add_special_tokens({"pad_token": "<pad>"})
    made.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A <|end|>", special_tokens=[("<|end|>", 0)]
    )
    return made


def make_seq2seq(folder: Path, family: str = "marian", **size: Any) -> Seq2SeqConfig:
    """Write a tiny model with random weights; ``size``: settings of a Marian."""
    torch.manual_seed(3)
    made = MarianMTModel(MarianConfig(**{**_SIZE, **size})) if size else FAMILIES[family]()
    made.save_pretrained(folder)
    make_end_tokenizer().save_pretrained(folder)
    return Seq2SeqConfig(name=str(folder))


def build_text_plan(backbone: Seq2SeqConfig, tuning: str = "full", **fields: Any) -> TrainingPlan:
    """Build a plan of a tiny model, trained whole or by rank-4 adapters."""
    settings = {} if tuning == "full" else {"rank": 4}
    plan = {
        "task": TASK,
        "backbone": backbone,
        "backbone_sha256": content_hash(Path(backbone.name)),
        "tuning": build_tuning(tuning, **settings),
    }
    return build_plan(**{**plan, **fields})
