"""Where adapters go: the names that families of models give to the parts of a layer."""

from collections.abc import Iterator, Sequence

from torch import nn

from confide.errors import ModelError

Endings = tuple[str, ...]
"""Ends of names of modules, all of which one family has."""

QUERY_AND_VALUE: tuple[Endings, ...] = (
    ("query", "value"),  # BERT, RoBERTa, ELECTRA, ALBERT
    ("q_proj", "v_proj"),  # Llama, Qwen2, BART, Marian, Whisper, wav2vec 2.0, ViT, AST, Swin, CLIP
    ("q_lin", "v_lin"),  # DistilBERT, XLM
    ("query_proj", "value_proj"),  # DeBERTa-v2
    ("q", "v"),  # MPNet, T5
    ("c_attn",),  # GPT-2: query, key and value in one, as in the rest
    ("Wqkv",),  # ModernBERT
    ("query_key_value",),  # BLOOM, GPT-NeoX
)
"""What makes queries and values in attention, which LoRA's authors adapt (section 7.1)."""

LAYER_OUTPUTS: tuple[Endings, ...] = (
    ("attn.o", "output.dense"),  # MPNet
    ("output.dense",),  # BERT, RoBERTa, ELECTRA, DeBERTa-v2: of attention and of what follows it
    ("out_lin", "lin2"),  # DistilBERT, XLM
    ("o_proj", "down_proj"),  # Llama, Qwen2
    ("o_proj", "fc2"),  # ViT, AST, Swin
    ("out_proj", "fc2"),  # BART, Marian, Whisper, CLIP
    ("out_proj", "output_dense"),  # wav2vec 2.0
    ("attention.dense", "ffn_output"),  # ALBERT
    ("SelfAttention.o", "wo"),  # T5
    ("c_proj",),  # GPT-2
    ("Wo",),  # ModernBERT
    ("self_attention.dense", "dense_4h_to_h"),  # BLOOM
    ("attention.dense", "dense_4h_to_h"),  # GPT-NeoX
)
"""What ends attention and the perceptron of a layer, before either is added to what went in."""

# GPT-2's matrices, whose weight is transposed
_MATRICES = ("Linear", "Conv1D")
_MOST_NAMED = 12


def endings_of(encoder: nn.Module, families: Sequence[Endings]) -> list[str]:
    """Return the ends of the names that an encoder's family gives to a part of its layers.

    Args:
        encoder: without adapters.
        families: the names that are known; the first of which all are there counts.

    Raises:
        ModelError: if there are none, naming what the encoder has.
    """
    names = list(_matrices(encoder))
    for endings in families:
        if all(any(_ends(name, ending) for name in names) for ending in endings):
            return list(endings)
    there = sorted({name.rpartition(".")[2] for name in names})[:_MOST_NAMED]
    raise ModelError(
        "tuning.target_modules=null: this backbone"
        f" (model_type={getattr(encoder.config, 'model_type', None)}) names its layers in no way"
        f" that is known; name those that get an adapter: it has {', '.join(there) or 'none'}."
    )


def modules_at(encoder: nn.Module, endings: Sequence[str]) -> list[str]:
    """Return the names of an encoder's matrices that end in one of ``endings``, in their order.

    Raises:
        ModelError: if there are none.
    """
    found = [name for name in _matrices(encoder) if any(_ends(name, ending) for ending in endings)]
    if not found:
        raise ModelError(
            f"tuning.target_modules={list(endings)}: not found in the backbone; leave it out for"
            " those of its family."
        )
    return found


def _matrices(encoder: nn.Module) -> Iterator[str]:
    for name, module in encoder.named_modules():
        if type(module).__name__ in _MATRICES:
            yield name


def _ends(name: str, ending: str) -> bool:
    return name == ending or name.endswith(f".{ending}")


__all__ = ["LAYER_OUTPUTS", "QUERY_AND_VALUE", "endings_of", "modules_at"]
