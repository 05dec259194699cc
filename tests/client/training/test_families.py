"""Families of encoders under privacy: trained, or refused before anything is spent."""

from pathlib import Path

import pytest
from small_models import TEXT, make_backbone

from confide.client.training.trainer import Trainer
from confide.config.models.tuning import TuningConfig
from confide.errors import PrivacyError
from confide.models.compute import Compute
from confide.models.workload import Workload, build_workload

# peft asks transformers for a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)


def workload(folder: Path, family: str, kind: str, modules: list[str]) -> Workload:
    tuning = TuningConfig(kind=kind, rank=2, target_modules=modules)
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
    with pytest.raises(PrivacyError, match=r"cannot be computed: .* Train less of it"):
        Trainer(workload(tmp_path, "mpnet", "full", []), private=True)
