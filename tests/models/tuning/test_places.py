"""Where adapters go in each family of models."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    AlbertConfig,
    AlbertModel,
    ASTConfig,
    ASTModel,
    BartConfig,
    BartModel,
    BertConfig,
    BertModel,
    ConvNextConfig,
    ConvNextModel,
    DebertaV2Config,
    DebertaV2Model,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaModel,
    ModernBertConfig,
    ModernBertModel,
    MPNetConfig,
    MPNetModel,
    T5Config,
    T5EncoderModel,
    ViTConfig,
    ViTModel,
    Wav2Vec2Config,
    Wav2Vec2Model,
)

from confide.errors import ModelError
from confide.models.tuning.places import (
    LAYER_OUTPUTS,
    QUERY_AND_VALUE,
    Endings,
    endings_of,
    modules_at,
)

SIZE: dict[str, Any] = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}
FAMILIES: dict[str, tuple[Callable[[], nn.Module], Endings, Endings]] = {
    "bert": (lambda: BertModel(BertConfig(**SIZE)), ("query", "value"), ("output.dense",)),
    "albert": (
        lambda: AlbertModel(AlbertConfig(**SIZE, embedding_size=8)),
        ("query", "value"),
        ("attention.dense", "ffn_output"),
    ),
    "deberta-v2": (
        lambda: DebertaV2Model(DebertaV2Config(**SIZE)),
        ("query_proj", "value_proj"),
        ("output.dense",),
    ),
    "mpnet": (lambda: MPNetModel(MPNetConfig(**SIZE)), ("q", "v"), ("attn.o", "output.dense")),
    "distilbert": (
        lambda: DistilBertModel(DistilBertConfig(dim=8, n_layers=1, n_heads=2, hidden_dim=16)),
        ("q_lin", "v_lin"),
        ("out_lin", "lin2"),
    ),
    "llama": (
        lambda: LlamaModel(LlamaConfig(**SIZE)),
        ("q_proj", "v_proj"),
        ("o_proj", "down_proj"),
    ),
    "gpt2": (
        lambda: GPT2Model(GPT2Config(n_embd=8, n_layer=1, n_head=2)),
        ("c_attn",),
        ("c_proj",),
    ),
    "modernbert": (
        lambda: ModernBertModel(ModernBertConfig(**SIZE, pad_token_id=0)),
        ("Wqkv",),
        ("Wo",),
    ),
    "t5": (
        lambda: T5EncoderModel(T5Config(d_model=8, d_kv=4, num_layers=1, num_heads=2, d_ff=16)),
        ("q", "v"),
        ("SelfAttention.o", "wo"),
    ),
    "bart": (
        lambda: BartModel(
            BartConfig(
                d_model=8,
                encoder_layers=1,
                decoder_layers=1,
                encoder_attention_heads=2,
                decoder_attention_heads=2,
            )
        ),
        ("q_proj", "v_proj"),
        ("out_proj", "fc2"),
    ),
    "vit": (
        lambda: ViTModel(ViTConfig(**SIZE, image_size=8, patch_size=4)),
        ("q_proj", "v_proj"),
        ("o_proj", "fc2"),
    ),
    "audio-spectrogram-transformer": (
        lambda: ASTModel(ASTConfig(**SIZE)),
        ("q_proj", "v_proj"),
        ("o_proj", "fc2"),
    ),
    "wav2vec2": (
        lambda: Wav2Vec2Model(
            Wav2Vec2Config(
                **SIZE,
                conv_dim=(8, 8),
                conv_stride=(5, 2),
                conv_kernel=(10, 3),
                num_conv_pos_embeddings=4,
                num_conv_pos_embedding_groups=2,
            )
        ),
        ("q_proj", "v_proj"),
        ("out_proj", "output_dense"),
    ),
}


@pytest.fixture
def nowhere() -> Any:
    """Build models without their memory."""
    with torch.device("meta"):
        yield


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.usefixtures("nowhere")
def test_adapters_find_their_places_in_a_family(family: str) -> None:
    build, attention, outputs = FAMILIES[family]
    encoder = build()
    assert encoder.config.model_type == family
    assert tuple(endings_of(encoder, QUERY_AND_VALUE)) == attention
    assert tuple(endings_of(encoder, LAYER_OUTPUTS)) == outputs
    assert len(modules_at(encoder, outputs)) >= 2


@pytest.mark.usefixtures("nowhere")
def test_family_without_such_names_is_refused_by_what_it_has() -> None:
    encoder = ConvNextModel(ConvNextConfig(hidden_sizes=[8] * 4, depths=[1] * 4))
    with pytest.raises(ModelError, match=r"model_type=convnext.*it has pwconv1, pwconv2\."):
        endings_of(encoder, QUERY_AND_VALUE)


@pytest.mark.usefixtures("nowhere")
def test_end_of_a_name_is_a_whole_word() -> None:
    """MPNet's q is no end of `seq`, nor its `attn.o` of `mattn.o`."""
    encoder = nn.ModuleDict({"seq": nn.Linear(1, 1), "q": nn.Linear(1, 1)})
    assert modules_at(encoder, ["q"]) == ["q"]
