"""Families of encoders: given what each takes, or refused; a text is what it is alone."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, T5Config, T5Model

from confide.errors import ModelError
from confide.models.encoders.encoder_inputs import settle_inputs
from confide.models.networks import TextClassifier

PAD = 1
SIZE = {
    "vocab_size": 50,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "pad_token_id": PAD,
}
POSITIONS = {"max_position_embeddings": 40}
GPT = {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 40}
# Family -> settings, how positions are counted, whether token types are passed
FAMILIES: dict[str, tuple[dict[str, Any], str | None, bool]] = {
    "bert": (POSITIONS, "from zero", True),
    "electra": ({"embedding_size": 8, **POSITIONS}, "from zero", True),
    "albert": ({"embedding_size": 8, **POSITIONS}, "from zero", True),
    "deberta-v2": ({"relative_attention": True, **POSITIONS}, "from zero", True),
    "distilbert": (
        {"dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 8, **POSITIONS},
        "from zero",
        False,
    ),
    "modernbert": ({"local_attention": 8, **POSITIONS}, "from zero", False),
    "roberta": (POSITIONS, "from the padding id", True),
    "xlm-roberta": (POSITIONS, "from the padding id", True),
    "camembert": (POSITIONS, "from the padding id", True),
    "data2vec-text": (POSITIONS, "from the padding id", True),
    "longformer": ({"attention_window": 8, **POSITIONS}, "from the padding id", True),
    "mpnet": (POSITIONS, "from the padding id", False),
    "esm": (POSITIONS, "from the padding id", False),
    "gpt2": (GPT, "from zero", False),
    "openai-gpt": (GPT, "from zero", False),
    "llama": ({"num_key_value_heads": 2, **POSITIONS}, "from zero", False),
    "opt": ({"ffn_dim": 8, "word_embed_proj_dim": 8, **POSITIONS}, "from zero", False),
    "bloom": ({"n_layer": 1, "n_head": 2}, None, False),
    "roformer": ({"embedding_size": 8, **POSITIONS}, None, True),
    "xlnet": ({"d_model": 8, "n_layer": 1, "n_head": 2, "d_inner": 8}, None, True),
    "bart": (
        {
            "d_model": 8,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            **POSITIONS,
        },
        None,
        False,
    ),
}
REFUSED = {
    "fnet": POSITIONS,
    "convbert": {"embedding_size": 8, "head_ratio": 1, "conv_kernel_size": 3, **POSITIONS},
    "mobilebert": {
        "embedding_size": 8,
        "intra_bottleneck_size": 8,
        "true_hidden_size": 8,
        **POSITIONS,
    },
}
IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12], [9, 10, 11, PAD, PAD, PAD, PAD, PAD]])
MASK = torch.tensor([[1] * 8, [1] * 3 + [0] * 5])


def make(family: str, settings: dict[str, Any]) -> Any:
    """Build an encoder with random weights, large enough for positions to show."""
    torch.manual_seed(0)
    model = AutoModel.from_config(AutoConfig.for_model(family, **{**SIZE, **settings})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.3)
    return model


def own_vectors(encoder: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over tokens of what an encoder left to itself makes."""
    with torch.no_grad():
        hidden: Tensor = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    return (hidden * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gets_what_it_would_make_itself(family: str) -> None:
    settings, positions, types = FAMILIES[family]
    encoder = make(family, settings)
    model = TextClassifier(encoder, num_classes=3, pooling="mean", longest=30)
    with torch.no_grad():
        pooled = model.pooled(IDS, MASK)
        alone = model.pooled(IDS[1:, :3], MASK[1:, :3])
    torch.testing.assert_close(pooled, own_vectors(encoder, IDS, MASK))
    torch.testing.assert_close(alone, pooled[1:])
    assert (model._inputs.positions, model._inputs.types) == (positions, types)


def test_other_positions_would_show() -> None:
    """The comparison above can fail: MPNet's vectors with positions from 0 are others."""
    encoder = make("mpnet", FAMILIES["mpnet"][0])
    with torch.no_grad():
        hidden = encoder(
            input_ids=IDS, attention_mask=MASK, position_ids=torch.arange(8).expand(2, 8)
        ).last_hidden_state
    wrong = hidden[0].mean(dim=0)
    assert (wrong - own_vectors(encoder, IDS, MASK)[0]).abs().max() > 0.1


@pytest.mark.parametrize("family", REFUSED)
def test_family_that_mixes_padding_in_is_refused(family: str) -> None:
    with pytest.raises(
        ModelError, match=rf"model_type={family}\) gives a text of \d+ tokens other"
    ):
        settle_inputs(make(family, REFUSED[family]))


def test_encoder_with_a_decoder_is_refused() -> None:
    made = T5Model(T5Config(vocab_size=50, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2))
    with pytest.raises(ModelError, match=r"model_type=t5\) makes no vectors of token ids"):
        settle_inputs(made)


@pytest.mark.parametrize("family", ["roberta", "mpnet"])
def test_padding_token_inside_a_text_is_counted_as_the_family_does(family: str) -> None:
    encoder = make(family, POSITIONS)
    ids = torch.tensor([[5, PAD, 6, 7, PAD, PAD, PAD, PAD]])
    mask = torch.tensor([[1, 1, 1, 1, 0, 0, 0, 0]])
    with torch.no_grad():
        pooled = TextClassifier(encoder, num_classes=3, pooling="mean").pooled(ids, mask)
    torch.testing.assert_close(pooled, own_vectors(encoder, ids, mask))


@pytest.mark.parametrize(("family", "longest"), [("bert", 41), ("roberta", 39), ("gpt2", 2000)])
def test_texts_longer_than_the_positions_are_refused_by_name(family: str, longest: int) -> None:
    encoder = make(family, FAMILIES[family][0])
    settle_inputs(encoder, longest=32)
    with pytest.raises(
        ModelError, match=rf"no text of {longest} tokens.*task\.max_tokens={longest}"
    ):
        settle_inputs(encoder, longest=longest)


def test_trying_draws_no_random_number_and_leaves_the_mode() -> None:
    encoder = make("bert", POSITIONS).train()
    before = torch.get_rng_state()
    settle_inputs(encoder)
    assert torch.get_rng_state().equal(before)
    assert encoder.training
