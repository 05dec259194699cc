"""Families of models under privacy: trained, or refused by name before anything is spent.

Which of them ``tuning=full`` is open for is what docs/tasks.md says.
"""

from pathlib import Path

import pytest
from builders import build_tuning
from peft import LoraConfig, get_peft_model
from small_families import FAMILIES, loss
from small_models import TEXT, make_backbone
from torch import nn

from confide.client.training.private.dp_sgd import DpSgd
from confide.client.training.private.preflight import preflight
from confide.client.training.trainer import Trainer
from confide.errors import PrivacyError
from confide.models.compute import Compute
from confide.models.workload import Workload, build_workload

# peft asks for a property that transformers has renamed, and says that it transposes.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning"),
    # Opacus, of an Embedding that is not called as torch does.
    pytest.mark.filterwarnings("ignore:In CPU autocast:UserWarning"),
]


def workload(folder: Path, family: str, kind: str, modules: list[str]) -> Workload:
    tuning = build_tuning(kind, rank=2, target_modules=modules)
    backbone = make_backbone(folder, family)
    return build_workload(TEXT, backbone, tuning, compute=Compute(), seed=0)


@pytest.mark.parametrize(
    ("family", "modules"), [("mpnet", ["q", "v"]), ("distilbert", ["q_lin", "v_lin"])]
)
def test_adapters_of_a_family_are_trained_privately(
    family: str, modules: list[str], tmp_path: Path
) -> None:
    assert Trainer(workload(tmp_path, family, "lora", modules), private=True).shapes


def test_layers_that_fail_under_per_record_gradients_are_refused(tmp_path: Path) -> None:
    """MPNet's bias of relative positions is [1, t, t], whatever the batch."""
    with pytest.raises(
        PrivacyError, match=r"relative_attention_bias is Embedding: it takes inputs"
    ):
        Trainer(workload(tmp_path, "mpnet", "full", []), private=True)


REFUSED = {
    ("mpnet", "full"): r"relative_attention_bias is Embedding: it takes inputs of shape \[16, 16\]",
    ("deberta-v2", "full"): r"pos_key_proj is Linear: it takes inputs of shape \[1, ",
    ("t5", "full"): r"relative_attention_bias is Embedding: it takes inputs of shape \[16, 16\]",
    ("bart", "full"): r"embed_positions.* is trained by a layer that Opacus does not follow",
    ("swin", "full"): r"relative_position_bias is SwinRelativePositionBias: it holds",
    ("swin", "lora"): r"q_proj\.lora_A\.default is Linear: it takes inputs of shape \[64, ",
}
"""Which kinds of tuning are refused, and how; every other one passes."""
SLOW = {"electra", "mpnet", "modernbert", "qwen2", "bart", "marian", "dinov2", "swin", "resnet"}
OFTEN = set(FAMILIES) - SLOW - {"hubert", "roberta"}


def tuned(model: nn.Module, kind: str, adapted: tuple[str, ...]) -> nn.Module:
    if kind != "full":
        for parameter in model.encoder.parameters():
            parameter.requires_grad_(False)
    if kind == "lora":
        config = LoraConfig(r=2, lora_alpha=4, target_modules=list(adapted))
        model.encoder = get_peft_model(model.encoder, config)
    return model.train()


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in OFTEN else pytest.mark.slow) for name in FAMILIES],
)
@pytest.mark.parametrize("kind", ["full", "lora", "head"])
def test_family_passes_the_preflight_or_is_refused_by_name(
    name: str, kind: str, tmp_path: Path
) -> None:
    family = FAMILIES[name]
    model = tuned(family.model(tmp_path), kind, family.adapted)
    examples = family.examples()
    if (name, kind) in REFUSED:
        with pytest.raises(PrivacyError, match=REFUSED[name, kind]):
            preflight(DpSgd(model, loss, physical_batch_size=9), examples, autocast=None)
    else:
        preflight(DpSgd(model, loss, physical_batch_size=9), examples, autocast=None)


@pytest.mark.parametrize("name", ["marian", "whisper"])
def test_table_that_a_family_never_trains_stays_frozen(name: str, tmp_path: Path) -> None:
    """transformers 5 gives every tensor that it loads a gradient."""
    encoder = FAMILIES[name].model(tmp_path).encoder
    fixed = {name for name, p in encoder.named_parameters() if not p.requires_grad}
    assert len(fixed) == 1
    assert "position" in fixed.pop()
