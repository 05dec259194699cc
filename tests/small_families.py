"""Tiny models of transformers' families with random weights, each with records that it takes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from torch import Tensor, nn
from torch.nn import functional

from confide.models.backbones import load_pretrained
from confide.models.networks import TextClassifier
from confide.tasks.task import LABELS, Batch, Examples

CLASSES, WORDS, WIDTH = 3, 40, 16
_WORDS: dict[str, Any] = {
    "vocab_size": WORDS,
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
}
_LLAMA = {**_WORDS, "num_key_value_heads": 1, "bos_token_id": 1, "eos_token_id": 2}
_BART: dict[str, Any] = {
    "vocab_size": WORDS,
    "d_model": WIDTH,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "pad_token_id": 1,
}
_PICTURE: dict[str, Any] = {
    "image_size": 32,
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
_PYRAMID: dict[str, Any] = {
    "hidden_sizes": [8, 8, 16, 16],
    "depths": [1] * 4,
    "num_attention_heads": [1, 1, 2, 2],
}


class Pooled(nn.Module):
    """An encoder, the mean over all but records and channels, and a head.

    Args:
        encoder: of transformers.
        width: number of channels.
        channels_first: whether these are the second dimension of what it returns, else the last.
    """

    def __init__(self, encoder: Any, width: int, *, channels_first: bool) -> None:
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(width, CLASSES)
        self._first = channels_first

    def forward(self, values: Tensor) -> Tensor:
        hidden: Tensor = self.encoder(values).last_hidden_state
        rows = hidden.flatten(2).mean(2) if self._first else hidden.flatten(1, -2).mean(1)
        logits: Tensor = self.head(rows)
        return logits


@dataclass(frozen=True)
class Family:
    """How to make one.

    Attributes:
        config: of transformers.
        values: shape of a record; () for texts.
        adapted: modules that LoRA adapts, by the end of their name.
        width: number of channels that the encoder returns.
        part: what of the model is the encoder, by name; "" for all of it.
        channels_first: as of :class:`Pooled`.
    """

    config: Callable[[], Any]
    values: tuple[int, ...]
    adapted: tuple[str, ...]
    width: int = WIDTH
    part: str = ""
    channels_first: bool = False

    def model(self, folder: Path) -> nn.Module:
        """Write an encoder into a folder, load it as a backbone is, and put a head on it."""
        torch.manual_seed(0)
        random = hf.AutoModel.from_config(self.config())
        for module in random.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean = 0.1 * torch.randn(module.num_features)
                module.running_var = torch.rand(module.num_features) + 0.5
        random.save_pretrained(folder)
        encoder = load_pretrained(folder)
        encoder = encoder.get_submodule(self.part) if self.part else encoder
        if not self.values:
            return TextClassifier(encoder, num_classes=CLASSES, pooling="mean", longest=24)
        return Pooled(encoder, self.width, channels_first=self.channels_first)

    def examples(self) -> Examples:
        """Invent four records; texts of several lengths."""
        generator = torch.Generator().manual_seed(1)
        labels = torch.tensor([0, 1, 2, 1])
        if self.values:
            values = torch.randn((4, *self.values), generator=generator)
            return Examples({"values": values, LABELS: labels})
        mask = (torch.arange(16) < torch.tensor([16, 7, 3, 12])[:, None]).long()
        ids = torch.randint(5, WORDS, (4, 16), generator=generator) * mask
        return Examples({"input_ids": ids, "attention_mask": mask, LABELS: labels})


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return the loss of each record."""
    inputs = {name: column for name, column in batch.items() if name != LABELS}
    return functional.cross_entropy(model(**inputs), batch[LABELS], reduction="none")


_ATTENTION, _PROJECTED = ("query", "value"), ("q_proj", "v_proj")
_BERT = Family(lambda: hf.BertConfig(**_WORDS), (), _ATTENTION)
_SPEECH: dict[str, Any] = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": (8, 8),
    "conv_stride": (5, 4),
    "conv_kernel": (10, 8),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "mask_time_prob": 0.4,
    "mask_time_length": 2,
    "layerdrop": 0.4,
}

FAMILIES: dict[str, Family] = {
    "bert": _BERT,
    "roberta": replace(_BERT, config=lambda: hf.RobertaConfig(**_WORDS)),
    "electra": replace(_BERT, config=lambda: hf.ElectraConfig(**_WORDS, embedding_size=8)),
    "mpnet": Family(lambda: hf.MPNetConfig(**_WORDS), (), ("q", "v")),
    "distilbert": Family(
        lambda: hf.DistilBertConfig(
            vocab_size=WORDS, dim=WIDTH, n_layers=2, n_heads=2, hidden_dim=32
        ),
        (),
        ("q_lin", "v_lin"),
    ),
    "deberta-v2": Family(
        lambda: hf.DebertaV2Config(
            **_WORDS,
            relative_attention=True,
            pos_att_type=["p2c", "c2p"],
            position_biased_input=False,
            type_vocab_size=0,
        ),
        (),
        ("query_proj", "value_proj"),
    ),
    "modernbert": Family(
        lambda: hf.ModernBertConfig(
            **_WORDS, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2
        ),
        (),
        ("Wqkv",),
    ),
    "gpt2": Family(
        lambda: hf.GPT2Config(vocab_size=WORDS, n_embd=WIDTH, n_layer=2, n_head=2, n_positions=40),
        (),
        ("c_attn",),
    ),
    "llama": Family(lambda: hf.LlamaConfig(**_LLAMA), (), _PROJECTED),
    "qwen2": Family(lambda: hf.Qwen2Config(**_LLAMA), (), _PROJECTED),
    "t5": Family(
        lambda: hf.T5Config(
            vocab_size=WORDS, d_model=WIDTH, d_kv=8, d_ff=32, num_layers=2, num_heads=2
        ),
        (),
        ("q", "v"),
        part="encoder",
    ),
    "bart": Family(lambda: hf.BartConfig(**_BART), (), _PROJECTED, part="encoder"),
    "marian": Family(lambda: hf.MarianConfig(**_BART), (), _PROJECTED, part="encoder"),
    "vit": Family(
        lambda: hf.ViTConfig(**_PICTURE, patch_size=8), (3, 32, 32), (*_ATTENTION, *_PROJECTED)
    ),
    "dinov2": Family(
        lambda: hf.Dinov2Config(**_PICTURE, patch_size=8, drop_path_rate=0.3),
        (3, 32, 32),
        (*_ATTENTION, *_PROJECTED),
    ),
    "swin": Family(
        lambda: hf.SwinConfig(
            image_size=32, patch_size=2, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4
        ),
        (3, 32, 32),
        _PROJECTED,
    ),
    "convnext": Family(
        lambda: hf.ConvNextConfig(
            hidden_sizes=[8, 16],
            depths=[1, 1],
            num_stages=2,
            image_size=32,
            drop_path_rate=0.5,
            layer_scale_init_value=1.0,
        ),
        (3, 32, 32),
        ("pwconv1", "patch_embeddings"),
        channels_first=True,
    ),
    "mobilenet-v2": Family(
        lambda: hf.MobileNetV2Config(image_size=32, depth_multiplier=0.25, tf_padding=False),
        (3, 32, 32),
        ("reduce_1x1.convolution",),
        width=1280,
        channels_first=True,
    ),
    "resnet": Family(
        lambda: hf.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"
        ),
        (3, 32, 32),
        ("convolution",),
        channels_first=True,
    ),
    "segformer": Family(
        lambda: hf.SegformerConfig(**_PYRAMID, drop_path_rate=0.5),
        (3, 32, 32),
        _PROJECTED,
        channels_first=True,
    ),
    "wav2vec2": Family(lambda: hf.Wav2Vec2Config(**_SPEECH), (800,), _PROJECTED),
    "hubert": Family(lambda: hf.HubertConfig(**_SPEECH), (800,), _PROJECTED),
    "ast": Family(
        lambda: hf.ASTConfig(
            hidden_size=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            patch_size=8,
            frequency_stride=8,
            time_stride=8,
            max_length=32,
            num_mel_bins=16,
        ),
        (32, 16),
        (*_ATTENTION, *_PROJECTED),
    ),
    "whisper": Family(
        lambda: hf.WhisperConfig(
            **_BART, num_mel_bins=8, max_source_positions=16, decoder_start_token_id=3
        ),
        (8, 32),
        _PROJECTED,
        part="encoder",
    ),
}
