"""A tiny Whisper with a tokenizer of bytes."""

from pathlib import Path
from typing import Any

import torch
from builders import build_plan, build_tuning
from small_seq2seq import make_end_tokenizer
from transformers import WhisperConfig, WhisperForConditionalGeneration

from confide.config.models.seq2seq import Seq2SeqConfig
from confide.config.outcomes.text import TextConfig
from confide.config.tasks.media.speech_recognition import SpeechRecognitionConfig
from confide.models.backbones import content_hash
from confide.protocol.plan import TrainingPlan

TASK = SpeechRecognitionConfig(seconds=0.7, outcome=TextConfig(column="text", max_tokens=16))
_FRAMES = 70
"""Of 10 ms: what the encoder hears."""


def make_whisper(folder: Path) -> Seq2SeqConfig:
    """Write a tiny model with random weights, its randomness of training switched on."""
    torch.manual_seed(3)
    config = WhisperConfig(
        vocab_size=273,
        num_mel_bins=16,
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        max_source_positions=_FRAMES // 2,
        max_target_positions=32,
        pad_token_id=272,
        bos_token_id=272,
        eos_token_id=0,
        decoder_start_token_id=272,
        begin_suppress_tokens=None,
        init_std=0.2,
        apply_spec_augment=True,
        mask_feature_prob=0.5,
        dropout=0.1,
        encoder_layerdrop=0.5,
        decoder_layerdrop=0.5,
    )
    WhisperForConditionalGeneration(config).save_pretrained(folder)
    make_end_tokenizer().save_pretrained(folder)
    return Seq2SeqConfig(name=str(folder))


def build_whisper_plan(backbone: Seq2SeqConfig, tuning: str, **fields: Any) -> TrainingPlan:
    """Build a plan of a tiny model, trained whole or by rank-4 adapters."""
    settings = {} if tuning == "full" else {"rank": 4}
    plan = {
        "task": TASK,
        "backbone": backbone,
        "backbone_sha256": content_hash(Path(backbone.name)),
        "tuning": build_tuning(tuning, **settings),
    }
    return build_plan(**{**plan, **fields})
