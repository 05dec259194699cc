"""What each kind of tuning trains, and that a model starts as its backbone."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from builders import build_tuning
from torch import Tensor, nn
from transformers import (
    BartConfig,
    BartModel,
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    DynamicCache,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaModel,
)

from confide.config.models.transformer import TransformerConfig
from confide.config.tunings.bottleneck import BottleneckConfig
from confide.config.tunings.lora import ExactLoraConfig, FfaLoraConfig, LoraConfig
from confide.config.tunings.prefix import PrefixConfig
from confide.config.tunings.table import TUNINGS
from confide.config.tunings.tuning import TuningConfig
from confide.errors import ModelError
from confide.models.networks import TextClassifier, apply_tuning, trainable
from confide.models.tuning.bottleneck import Bottleneck
from confide.models.tuning.prefix import take_prefix_out

# peft asks transformers for a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)

WIDTH, LAYERS, RANK = 8, 2, 3
SIZE: dict[str, Any] = {
    "vocab_size": 20,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
HEAD = {"head.weight", "head.bias"}


def make(encoder: nn.Module | None = None, *, seed: int = 0) -> TextClassifier:
    torch.manual_seed(0)
    made = encoder or BertModel(BertConfig(**SIZE), add_pooling_layer=False)
    torch.manual_seed(seed)  # of what tuning adds
    return TextClassifier(made.eval(), num_classes=3, pooling="mean")


def adapters(model: nn.Module) -> set[str]:
    """Return the names of what is trained beside the head."""
    assert trainable(model).keys() >= HEAD
    return set(trainable(model).keys() - HEAD)


# --- what is trained


def test_biases_are_all_biases_of_the_encoder() -> None:
    model = apply_tuning(make(), TuningConfig(kind="bias"))
    biases = {name for name, _ in model.named_parameters() if name.endswith("bias")}
    # Of the embeddings' norm, and of eight modules a layer
    assert adapters(model) == biases - HEAD
    assert len(biases - HEAD) == 1 + 8 * LAYERS


def test_norms_are_weights_and_biases_of_each() -> None:
    model = apply_tuning(make(), TuningConfig(kind="norm"))
    assert len(adapters(model)) == 2 * (1 + 2 * LAYERS)
    assert all("LayerNorm" in name for name in adapters(model))


def test_norms_of_a_family_of_their_own_are_found() -> None:
    model = apply_tuning(make(LlamaModel(LlamaConfig(**SIZE))), TuningConfig(kind="norm"))
    assert len(adapters(model)) == 2 * LAYERS + 1


def test_backbone_without_biases_is_refused() -> None:
    with pytest.raises(ModelError, match=r"model_type=llama\) has no biases; choose tuning=lora"):
        apply_tuning(make(LlamaModel(LlamaConfig(**SIZE))), TuningConfig(kind="bias"))


def test_bottlenecks_follow_attention_and_perceptron_of_each_layer() -> None:
    model = apply_tuning(make(), BottleneckConfig(bottleneck=RANK))
    places = {name.partition(".dense.")[0] for name in adapters(model)}
    assert places == {
        f"encoder.encoder.layer.{layer}.{part}"
        for layer in range(LAYERS)
        for part in ("attention.output", "output")
    }
    shapes = {tuple(p.shape) for name, p in trainable(model).items() if name not in HEAD}
    assert shapes == {(RANK, WIDTH), (RANK,), (WIDTH, RANK), (WIDTH,)}


def test_bottleneck_adds_what_the_paper_says() -> None:
    adapter = Bottleneck(nn.Linear(2, 2), width=2, bottleneck=1)
    nn.init.normal_(adapter.up.weight)
    h = adapter.base(torch.tensor([[1.0, -2.0]]))
    inner = nn.functional.gelu(h @ adapter.down.weight.T + adapter.down.bias)
    expected = h + inner @ adapter.up.weight.T
    assert torch.allclose(adapter(torch.tensor([[1.0, -2.0]])), expected)


def test_weights_below_adapters_travel_where_averages_are_exact() -> None:
    lora = apply_tuning(make(), LoraConfig(rank=RANK))
    exact = apply_tuning(make(), ExactLoraConfig(rank=RANK))
    weights = adapters(exact) - adapters(lora)
    assert adapters(lora) <= adapters(exact)
    assert len(weights) == 2 * LAYERS
    assert all(name.endswith(".base_layer.weight") for name in weights)
    assert torch.equal(exact(IDS, MASK), lora(IDS, MASK))


def test_weights_of_transposed_matrices_are_not_added_to() -> None:
    encoder = GPT2Model(GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=2, n_positions=64))
    with pytest.raises(ModelError, match=r"is Conv1D; choose tuning=lora_ffa"):
        apply_tuning(make(encoder), ExactLoraConfig(rank=RANK))


def test_frozen_half_of_an_adapter_is_not_trained() -> None:
    lora = apply_tuning(make(), LoraConfig(rank=RANK))
    half = apply_tuning(make(), FfaLoraConfig(rank=RANK, seed=1))
    assert adapters(half) == {name for name in adapters(lora) if "lora_B" in name}


@pytest.mark.parametrize(("stabilised", "scale"), [(False, 8 / 4), (True, 8 / 2)])
@pytest.mark.parametrize("make_config", [LoraConfig, FfaLoraConfig])
def test_scale_is_alpha_over_rank_or_its_root(
    make_config: Callable[..., LoraConfig], stabilised: bool, scale: float
) -> None:
    tuning = make_config(rank=4, alpha=8.0, rank_stabilised=stabilised).seeded(1)
    model = apply_tuning(make(), tuning)
    found = [m.scaling["default"] for m in model.modules() if isinstance(m, _lora_layer())]
    assert set(found) == {scale}
    assert len(found) == 2 * LAYERS


def _lora_layer() -> type:
    from peft.tuners.lora import LoraLayer

    return LoraLayer


@pytest.mark.parametrize("kind", TUNINGS)
def test_model_starts_as_its_backbone_and_learns_beside_the_head(kind: str) -> None:
    before = make().pooled(IDS, MASK)
    model = apply_tuning(make(), build_tuning(kind, rank=RANK))
    if kind != "prefix":  # attention sees something more
        assert torch.allclose(model.pooled(IDS, MASK), before, atol=1e-6)
    assert bool(adapters(model)) == (kind != "head")


# --- the frozen half


def frozen_half(seed: int, *, torch_seed: int) -> dict[str, Tensor]:
    model = apply_tuning(make(seed=torch_seed), FfaLoraConfig(rank=RANK, seed=seed))
    return {name: p.data for name, p in model.named_parameters() if "lora_A" in name}


def test_frozen_half_follows_the_plans_seed_and_nothing_else() -> None:
    """Institutions build with one seed of torch, the coordinator with another."""
    one, other = frozen_half(3, torch_seed=0), frozen_half(3, torch_seed=9)
    assert len(one) == 2 * LAYERS
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not any(
        torch.equal(one[name], half) for name, half in frozen_half(4, torch_seed=0).items()
    )
    assert len({half.sum().item() for half in one.values()}) == len(one)


def test_mean_of_adapters_is_exact_with_one_half_frozen() -> None:
    """The mean of B, times the one A, is the mean of B A; with two A it is not."""
    generator = torch.Generator().manual_seed(0)
    half = next(iter(frozen_half(3, torch_seed=0).values()))
    b = torch.randn((2, WIDTH, RANK), generator=generator)
    assert torch.allclose(b.mean(dim=0) @ half, (b @ half).mean(dim=0), atol=1e-6)
    a = half + torch.randn((2, RANK, WIDTH), generator=generator)
    assert not torch.allclose(b.mean(dim=0) @ a.mean(dim=0), (b @ a).mean(dim=0), atol=1e-2)


def test_adapters_without_a_seed_are_no_plans() -> None:
    with pytest.raises(ValueError, match=r"seeded\(\)"):
        apply_tuning(make(), FfaLoraConfig())


# --- modules that are named


@pytest.mark.parametrize("kind", ["lora", "lora_ffa", "bottleneck"])
def test_modules_that_are_not_there_are_refused(kind: str) -> None:
    tuning = build_tuning(kind, target_modules=["q_proj"])
    with pytest.raises(ModelError, match=r"tuning\.target_modules=\['q_proj'\]: .*not found"):
        apply_tuning(make(), tuning)


def test_modules_that_are_named_get_the_adapters() -> None:
    model = apply_tuning(make(), BottleneckConfig(target_modules=["intermediate.dense"]))
    assert all(".intermediate.dense." in name for name in adapters(model))


# --- a prefix


def llama() -> nn.Module:
    return LlamaModel(LlamaConfig(**SIZE, num_key_value_heads=1))


def gpt2() -> nn.Module:
    return GPT2Model(GPT2Config(vocab_size=20, n_embd=WIDTH, n_layer=LAYERS, n_head=2))


@pytest.mark.parametrize("make_encoder", [lambda: None, llama, gpt2], ids=["bert", "llama", "gpt2"])
def test_prefix_is_what_attention_would_see_of_words(
    make_encoder: Callable[[], nn.Module | None],
) -> None:
    """It starts as keys and values of words: the vectors are those of a text behind these words."""
    model = apply_tuning(make(make_encoder()), PrefixConfig(length=RANK))
    torch.manual_seed(0)
    assert adapters(model) == {"encoder.places.weight"}
    encoder, before = take_prefix_out(model.encoder)
    assert before is not None
    assert before.shape[:2] == (LAYERS, 2)
    assert before.shape[3] == RANK
    cache = DynamicCache()
    for layer, (keys, values) in enumerate(before[:, :, None].repeat(1, 1, 2, 1, 1, 1)):
        cache.update(keys, values, layer)
    seen = torch.cat([torch.ones((2, RANK), dtype=torch.int64), MASK], dim=1)
    inputs = model._inputs.of(IDS, MASK) | {"attention_mask": seen}
    expected = encoder(**inputs, past_key_values=cache).last_hidden_state
    assert torch.allclose(model.encoder(**model._inputs.of(IDS, MASK)).last_hidden_state, expected)
    assert not torch.allclose(encoder(**model._inputs.of(IDS, MASK)).last_hidden_state, expected)


def test_text_behind_a_prefix_does_not_depend_on_padding() -> None:
    model = apply_tuning(make(), PrefixConfig(length=RANK))
    alone = model.pooled(IDS[1:, :2], MASK[1:, :2])
    assert torch.allclose(model.pooled(IDS, MASK)[1:], alone, atol=1e-6)


@pytest.mark.parametrize(
    ("encoder", "reason"),
    [
        (lambda: DistilBertModel(DistilBertConfig(vocab_size=20, dim=8, n_layers=2, n_heads=2)),
         r"model_type=distilbert\) takes no cache of keys and values \(it keeps none"),
        (lambda: BartModel(BartConfig(vocab_size=20, d_model=8, encoder_layers=1, decoder_layers=1,
                                      encoder_attention_heads=2, decoder_attention_heads=2)),
         r"model_type=bart\) takes no cache .*an encoder and a decoder"),
    ],
)  # fmt: skip
def test_family_without_a_cache_is_refused_a_prefix(
    encoder: Callable[[], nn.Module], reason: str
) -> None:
    with pytest.raises(ModelError, match=reason):
        apply_tuning(make(encoder()), PrefixConfig(length=RANK))


# --- what a report says


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("full", "all parameters of the backbone mini and a head"),
        ("head", "a linear head on the frozen backbone mini"),
        ("lora", "rank-4 adapters and a head on the backbone mini"),
        ("lora_ffa", "rank-4 adapters, one half of each frozen, and a head on the backbone mini"),
        (
            "lora_alternating",
            "rank-4 adapters, the halves of each in turns, and a head on the backbone mini",
        ),
        ("lora_after_head", "a head and, after round 4, rank-4 adapters on the backbone mini"),
        ("prefix", "keys and values of 4 places before each text, and a head on the backbone mini"),
        ("bottleneck", "adapters of width 4 and a head on the backbone mini"),
        ("bias", "the biases of the backbone mini and a head"),
        ("norm", "the norms of the backbone mini and a head"),
    ],
)
def test_backbone_says_what_of_it_is_trained(kind: str, words: str) -> None:
    tuning = build_tuning(kind, rank=4, bottleneck=4, length=4, head_rounds=4)
    assert TransformerConfig(name="/models/mini").describe(tuning) == words
