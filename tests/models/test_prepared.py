"""What is done to any model at loading: no randomness, norms folded, training mode."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from onnxruntime import InferenceSession
from torch import nn

from confide.errors import ModelError
from confide.models.backbones import load_pretrained
from confide.models.networks import refuse_batch_norm, refuse_dropout
from confide.models.prepared import FoldedNorm, prepare_model

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
PICTURES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
SOUNDS = torch.randn(3, 800, generator=torch.Generator().manual_seed(0))


def with_statistics(model: nn.Module) -> nn.Module:
    """Give every norm statistics and an affine map of their own, as training does."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.running_mean is not None:
            n = module.num_features
            module.running_mean = torch.randn(n, generator=generator)
            module.running_var = torch.rand(n, generator=generator) + 0.1
            if module.affine:
                module.weight.data = torch.randn(n, generator=generator)
                module.bias.data = torch.randn(n, generator=generator)
    return model


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (nn.BatchNorm1d(4), (5, 4)),
        (nn.BatchNorm1d(4), (5, 4, 7)),
        (nn.BatchNorm2d(4, eps=1e-3), (5, 4, 3, 2)),
        (nn.BatchNorm2d(4, affine=False), (5, 4, 3, 2)),
        (nn.BatchNorm3d(4), (5, 4, 2, 2, 2)),
        (nn.SyncBatchNorm(4), (5, 4, 3, 2)),
        (nn.InstanceNorm2d(4, affine=True, track_running_stats=True), (5, 4, 3, 2)),
    ],
)
def test_norm_becomes_what_it_computes_once_trained(
    norm: nn.Module, shape: tuple[int, ...]
) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    expected = with_statistics(norm).eval()(x)
    found = prepare_model(nn.Sequential(norm))(x)
    assert (found - expected).norm() <= 1e-5 * expected.norm()


def test_folded_norm_is_trained_only_where_that_is_asked_for() -> None:
    for trained in (False, True):
        model = prepare_model(nn.Sequential(nn.BatchNorm1d(4)), trained_norms=trained)
        assert {p.requires_grad for p in model.parameters()} == {trained}


def test_norm_that_two_parents_share_stays_one() -> None:
    norm = nn.BatchNorm1d(4)
    model = prepare_model(nn.Sequential(nn.Sequential(norm), nn.Sequential(norm)))
    assert len(list(model.parameters())) == 2


class Activated(nn.BatchNorm2d):
    """Computes more than its base."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).relu()


@pytest.mark.parametrize(
    "norm", [Activated(4), nn.BatchNorm2d(4, track_running_stats=False)], ids=["subclass", "batch"]
)
def test_norm_that_is_no_affine_map_is_left_and_refused(norm: nn.Module) -> None:
    with pytest.raises(ModelError, match="mixes the records of a batch"):
        refuse_batch_norm(prepare_model(nn.Sequential(norm)))


class Hidden(nn.Module):
    """Is random without a layer that says so, as transformers' attention and encoders are."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout, self.drop_path_rate, self.layerdrop = 0.5, [0.0, 0.3], 0.2
        self.stochastic_depth_prob, self.name = 0.1, "dropout"


def test_randomness_is_off_whatever_it_is_called() -> None:
    model = prepare_model(nn.Sequential(nn.AlphaDropout(0.3), nn.Dropout2d(0.2), Hidden()))
    refuse_dropout(model)
    hidden = model[2]
    assert (hidden.dropout, hidden.drop_path_rate, hidden.layerdrop) == (0.0, [0.0, 0.0], 0.0)
    assert (hidden.stochastic_depth_prob, hidden.name) == (0.0, "dropout")


def test_model_in_evaluation_mode_is_put_into_training_mode() -> None:
    assert prepare_model(nn.Sequential(nn.Linear(2, 2)).eval())[0].training


def wav2vec2() -> Any:
    return hf.Wav2Vec2Config(
        **SMALL,
        intermediate_size=32,
        conv_dim=(8, 8),
        conv_stride=(5, 4),
        conv_kernel=(10, 8),
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
        mask_time_prob=0.6,
        mask_time_length=2,
        mask_feature_prob=0.5,
        mask_feature_length=2,
        layerdrop=0.5,
    )


def convnext() -> Any:
    return hf.ConvNextConfig(
        hidden_sizes=[8, 16],
        depths=[2, 2],
        num_stages=2,
        image_size=32,
        drop_path_rate=0.9,
        layer_scale_init_value=1.0,
    )


def mobilenet() -> Any:
    return hf.MobileNetV2Config(image_size=32, depth_multiplier=0.25, tf_padding=False)


def swin() -> Any:
    return hf.SwinConfig(
        image_size=32, patch_size=2, embed_dim=8, depths=[2], num_heads=[2], drop_path_rate=0.9
    )


RANDOM = {
    "wav2vec2": (wav2vec2, "AutoModel", SOUNDS),
    "convnext": (convnext, "AutoModel", PICTURES),
    "swin": (swin, "AutoModel", PICTURES),
    "mobilenet": (mobilenet, "AutoModelForImageClassification", PICTURES),
}


def outputs(model: Any, values: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        found = model(values)
    return found.logits if "logits" in found else found.last_hidden_state


@pytest.mark.parametrize("family", RANDOM)
def test_family_in_training_mode_gives_the_outputs_of_evaluation_mode(
    family: str, tmp_path: Path
) -> None:
    config, auto_class, values = RANDOM[family]
    torch.manual_seed(0)
    saved = with_statistics(getattr(hf, auto_class).from_config(config())).eval()
    saved.save_pretrained(tmp_path)
    model = load_pretrained(tmp_path, auto_class=auto_class)
    assert model.training
    found, expected = outputs(model, values), outputs(saved, values)
    assert (found - expected).norm() <= 1e-5 * expected.norm()
    assert outputs(model, values).equal(found)
    # Not because nothing was random, or mixed records, before.
    assert not torch.allclose(outputs(saved.train(), values), expected, rtol=1e-3)


def test_what_is_saved_of_a_folded_model_loads_as_the_same_elsewhere(tmp_path: Path) -> None:
    torch.manual_seed(0)
    with_statistics(hf.MobileNetV2Model(mobilenet())).save_pretrained(tmp_path / "own")
    model = load_pretrained(tmp_path / "own")
    model.save_pretrained(tmp_path / "again")
    elsewhere = hf.AutoModel.from_pretrained(tmp_path / "again").eval()
    found, expected = outputs(elsewhere, PICTURES), outputs(model, PICTURES)
    assert (found - expected).norm() <= 1e-5 * expected.norm()
    assert outputs(load_pretrained(tmp_path / "again"), PICTURES).allclose(expected, rtol=1e-4)


def test_own_tensors_of_a_folded_norm_load_again() -> None:
    model = prepare_model(with_statistics(nn.Sequential(nn.BatchNorm1d(4))))
    other = prepare_model(nn.Sequential(nn.BatchNorm1d(4)))
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    assert isinstance(other[0], FoldedNorm)
    assert other[0].weight.equal(model[0].weight)


# --- loading


def test_settings_are_changed_by_name(tmp_path: Path) -> None:
    hf.ViTModel(hf.ViTConfig(**SMALL, image_size=32, patch_size=8)).save_pretrained(tmp_path)
    model = load_pretrained(tmp_path, changes={"num_hidden_layers": 1})
    assert model.config.num_hidden_layers == 1
    with pytest.raises(ModelError, match=r"config\.json has no num_layers_kept"):
        load_pretrained(tmp_path, changes={"num_layers_kept": 1})


def test_head_starts_at_random_only_where_that_is_said(tmp_path: Path) -> None:
    config = hf.ViTConfig(**SMALL, image_size=32, patch_size=8, num_labels=2)
    hf.ViTForImageClassification(config).save_pretrained(tmp_path)
    load = {"auto_class": "AutoModelForImageClassification", "changes": {"num_labels": 5}}
    with pytest.raises(ModelError, match=r"cannot be loaded|lacks weights"):
        load_pretrained(tmp_path, **load)
    assert load_pretrained(tmp_path, **load, fresh=("classifier",)).classifier.out_features == 5
    with pytest.raises(ModelError, match=r"lacks weights for classifier\.bias"):
        load_pretrained(tmp_path, **load, fresh=("pooler",))


@pytest.mark.parametrize("tied", [True, False])
def test_language_model_is_loaded_by_its_class(tied: bool, tmp_path: Path) -> None:
    config = hf.LlamaConfig(**SMALL, vocab_size=20, intermediate_size=16, tie_word_embeddings=tied)
    hf.LlamaForCausalLM(config).bfloat16().save_pretrained(tmp_path)
    model = load_pretrained(tmp_path, auto_class="AutoModelForCausalLM")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied


def test_counter_of_a_norm_need_not_be_there(tmp_path: Path) -> None:
    """Weights that come from torchvision lack it."""
    torch.manual_seed(0)
    model = with_statistics(hf.MobileNetV2Model(mobilenet())).eval()
    kept = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    model.save_pretrained(tmp_path, state_dict=kept)
    found, expected = outputs(load_pretrained(tmp_path), PICTURES), outputs(model, PICTURES)
    assert (found - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_folded_model_is_exported_to_onnx(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    model = prepare_model(with_statistics(layers)).eval()
    path = tmp_path / "model.onnx"
    torch.onnx.export(model, (PICTURES,), path, input_names=["x"], dynamo=True, verbose=False)
    found = InferenceSession(path).run(None, {"x": PICTURES.numpy()})[0]
    assert torch.from_numpy(found).allclose(model(PICTURES), atol=1e-5)
