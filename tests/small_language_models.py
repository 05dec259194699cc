"""Tiny causal language models with a tokenizer of bytes and a chat template, in folders."""

from pathlib import Path
from typing import Any

import torch
from builders import build_plan, build_tuning
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from confide.config.models.language_model import LanguageModelConfig
from confide.config.outcomes.answer import AnswerConfig
from confide.config.tasks.causal_lm import CausalLmConfig
from confide.models.backbones import content_hash
from confide.protocol.plan import TrainingPlan

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ("<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
TASK = CausalLmConfig(system_message="Bank.", max_tokens=64, outcome=AnswerConfig(max_tokens=16))
RECORDS = Dataset.from_dict(
    {
        "prompt": ["Where is my card?", "Why was I charged twice?", "Hi"],
        "answer": ["On its way.", "We pay it back.", "Hello, how may I help you today?"],
    }
)
_SIZE: dict[str, Any] = {
    "vocab_size": 272,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 128,
    # Larger than usual: gradients of models that small would be as short as the bounds of checks
    "initializer_range": 0.2,
}
FAMILIES: dict[str, Any] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**_SIZE, tie_word_embeddings=True)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**_SIZE)),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(
            vocab_size=272, n_embd=32, n_layer=3, n_head=2, n_positions=128, initializer_range=0.2
        )
    ),
}


def make_tokenizer(template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    """Make a tokenizer of bytes; the token that pads is the one that ends a message."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {word: number for number, word in enumerate([*SPECIAL, *letters])}
    tokenizer = Tokenizer(models.BPE(vocab=words, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>"
    )
    made.add_special_tokens({"additional_special_tokens": list(SPECIAL[1:])})
    made.chat_template = template
    return made


def make_language_model(
    folder: Path, family: str = "llama", *, trained_layers: int | None = 1, **size: int
) -> LanguageModelConfig:
    """Write a tiny language model with random weights; ``size``: settings of a Llama."""
    torch.manual_seed(3)
    made = LlamaForCausalLM(LlamaConfig(**{**_SIZE, **size})) if size else FAMILIES[family]()
    made.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return LanguageModelConfig(name=str(folder), trained_layers=trained_layers)


def build_answer_plan(backbone: LanguageModelConfig, **fields: Any) -> TrainingPlan:
    """Build a plan of rank-4 adapters in a tiny language model."""
    plan = {
        "task": TASK,
        "backbone": backbone,
        "backbone_sha256": content_hash(Path(backbone.name)),
        "tuning": build_tuning("lora", rank=4),
    }
    return build_plan(**{**plan, **fields})
