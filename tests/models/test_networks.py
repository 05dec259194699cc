"""Models: shapes, starts, positions, and which tensors are trained."""

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel

from confide.config.tunings.lora import LoraConfig
from confide.config.tunings.tuning import TuningConfig
from confide.errors import ModelError
from confide.models.networks import (
    Head,
    Mlp,
    TextClassifier,
    apply_tuning,
    refuse_batch_norm,
    trainable,
    trainable_tensors,
)

# peft asks transformers for a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)

PAD = 1
TINY = {
    "vocab_size": 20,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "max_position_embeddings": 16,
    "pad_token_id": PAD,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
IDS = torch.tensor([[5, 6, 7, 8], [9, 10, PAD, PAD]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
RANK, LAYERS, WIDTH = 3, 2, 8


def make(kind: str = "bert", pooling: str = "mean") -> TextClassifier:
    torch.manual_seed(0)
    if kind == "roberta":
        encoder = RobertaModel(RobertaConfig(**TINY), add_pooling_layer=False)
    else:
        encoder = BertModel(BertConfig(**TINY), add_pooling_layer=False)
    return TextClassifier(encoder.eval(), num_classes=3, pooling=pooling)


# --- shapes and starts


def test_mlp_without_hidden_layers_is_logistic_regression() -> None:
    model = Mlp([3, 2])
    assert [type(layer) for layer in model.layers] == [nn.Linear]


def test_mlp_alternates_layers_and_ends_without_activation() -> None:
    model = Mlp([3, 5, 4, 2])
    assert [type(layer) for layer in model.layers] == [
        nn.Linear,
        nn.ReLU,
        nn.Linear,
        nn.ReLU,
        nn.Linear,
    ]
    assert model(torch.zeros(7, 3)).shape == (7, 2)


def test_head_favours_no_class_at_first() -> None:
    assert not Head(WIDTH, 3)(torch.randn(2, WIDTH)).any()
    assert not make()(IDS, MASK).any()


# --- pooling and positions


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_positions_are_those_the_encoder_makes_itself(kind: str) -> None:
    model = make(kind)
    hidden: Tensor = model.encoder(input_ids=IDS, attention_mask=MASK).last_hidden_state
    expected = torch.stack([hidden[0].mean(dim=0), hidden[1, :2].mean(dim=0)])
    assert torch.allclose(model.pooled(IDS, MASK), expected, atol=1e-6)


def test_cls_pooling_takes_the_first_token() -> None:
    model = make(pooling="cls")
    hidden: Tensor = model.encoder(input_ids=IDS, attention_mask=MASK).last_hidden_state
    assert torch.allclose(model.pooled(IDS, MASK), hidden[:, 0], atol=1e-6)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_padding_does_not_change_a_text(kind: str, pooling: str) -> None:
    model = make(kind, pooling)
    assert torch.allclose(
        model.pooled(IDS, MASK)[1:], model.pooled(IDS[1:, :2], MASK[1:, :2]), atol=1e-6
    )


# --- tuning


def test_full_tuning_trains_every_tensor() -> None:
    model = apply_tuning(make(), TuningConfig(kind="full"))
    assert trainable(model).keys() == {name for name, _ in model.named_parameters()}


def test_head_tuning_trains_the_head_alone() -> None:
    model = apply_tuning(make(), TuningConfig(kind="head"))
    assert trainable(model).keys() == {"head.weight", "head.bias"}


def test_lora_trains_adapters_of_the_modules_named_and_the_head() -> None:
    model = apply_tuning(make(), LoraConfig(rank=RANK, target_modules=["query", "value"]))
    shapes = {name: tuple(p.shape) for name, p in trainable(model).items()}
    adapters = {name: shape for name, shape in shapes.items() if "lora_" in name}
    assert shapes.keys() - adapters.keys() == {"head.weight", "head.bias"}
    assert len(adapters) == 2 * 2 * LAYERS
    assert all(".query." in name or ".value." in name for name in adapters)
    assert {shape for name, shape in adapters.items() if "lora_A" in name} == {(RANK, WIDTH)}
    assert {shape for name, shape in adapters.items() if "lora_B" in name} == {(WIDTH, RANK)}


def test_lora_starts_at_the_backbone() -> None:
    before = make().pooled(IDS, MASK)
    model = apply_tuning(make(), LoraConfig(rank=RANK))
    assert torch.allclose(model.pooled(IDS, MASK), before, atol=1e-6)


def test_lora_counts_alpha_over_rank() -> None:
    model = apply_tuning(make(), LoraConfig(rank=4, alpha=8.0))
    scales = {
        m.scaling["default"]
        for m in model.modules()
        if isinstance(getattr(m, "scaling", None), dict)
    }
    assert scales == {2.0}


def test_unknown_target_modules_are_refused() -> None:
    with pytest.raises(ModelError, match=r"tuning\.target_modules=\['q_proj'\]: .*not found"):
        apply_tuning(make(), LoraConfig(target_modules=["q_proj"]))


def test_trainable_tensors_are_copies() -> None:
    model = Mlp([2, 2])
    tensors = trainable_tensors(model)
    tensors["layers.0.weight"].fill_(7)
    assert not (model.layers[0].weight == 7).any()


# --- layers that mix records


@pytest.mark.parametrize(
    "layer",
    [nn.BatchNorm1d(2), nn.SyncBatchNorm(2), nn.InstanceNorm1d(2, track_running_stats=True)],
)
@pytest.mark.parametrize("frozen", [False, True])
def test_layers_with_batch_statistics_are_refused_by_name(layer: nn.Module, frozen: bool) -> None:
    model = nn.Sequential(
        nn.Linear(2, 2), nn.Sequential(nn.ReLU(), layer.requires_grad_(not frozen))
    )
    with pytest.raises(
        ModelError, match=rf"1\.1 is {type(layer).__name__}: .*use GroupNorm or LayerNorm"
    ):
        refuse_batch_norm(model)


def test_other_norms_are_accepted() -> None:
    refuse_batch_norm(nn.Sequential(nn.LayerNorm(2), nn.GroupNorm(1, 2), nn.InstanceNorm1d(2)))
