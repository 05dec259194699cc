"""What an exported folder has for people, and for a hub: card, licence, and no path of the machine.

Nothing is pushed anywhere: ``huggingface_hub.upload_folder`` takes the folder as it is.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, cast

from huggingface_hub import ModelCard, ModelCardData

from confide.config.models.backbone import OfFolder
from confide.config.models.table import BACKBONES
from confide.models.backbones import find_backbone
from confide.models.licences import licence_of
from confide.protocol.plan import TrainingPlan

CARD, LICENCE, ATTRIBUTES, CURVES = "README.md", "LICENSE.backbone", ".gitattributes", "curves.svg"
NOT_THE_MODEL = (CARD, LICENCE, ATTRIBUTES, CURVES)
"""Files that decide no output, and that whoever publishes a folder may change."""
_LARGE = (".safetensors", ".onnx", ".onnx.data")
_STORED = " filter=lfs diff=lfs merge=lfs -text"
_ADAPTER = "adapter_config.json"
_CUSTOM = "custom_code"


class Usage(NamedTuple):
    """How an exported model is used.

    Attributes:
        text: of the card, in Markdown.
        is_custom: whether a file of code of the folder is needed.
        library: that loads the model, as hubs call it.
    """

    text: str
    is_custom: bool
    library: str


def write_hub_files(
    folder: Path, run: Path, plan: TrainingPlan, backbone: Path | None, usage: Usage
) -> None:
    """Write card, licence and attributes beside an exported model.

    Args:
        folder: holds the model.
        run: RUN, whose ``model_card.md`` is for whoever gets the model.
        plan: as the model was trained.
        backbone: folder of its pretrained backbone; None for none.
        usage: of the model.
    """
    large = [suffix for suffix in _LARGE if any(folder.glob(f"*{suffix}"))]
    (folder / ATTRIBUTES).write_text("".join(f"*{suffix}{_STORED}\n" for suffix in large))
    licence = None if backbone is None else licence_of(backbone).file
    if licence is not None:
        shutil.copyfile(licence, folder / LICENCE)
    adapter = folder / _ADAPTER
    if adapter.is_file():
        settings = json.loads(adapter.read_text())
        settings["base_model_name_or_path"] = public_name(plan)
        adapter.write_text(json.dumps(settings, indent=2) + "\n")
    written = run / "model_card.md"
    if not written.is_file():
        return
    card = ModelCard(written.read_text(), ignore_metadata_errors=True)
    data = cast(ModelCardData, card.data)
    data.library_name = usage.library
    tags: list[str] = [*(data.tags or []), *([_CUSTOM] if usage.is_custom else [])]
    data.tags = list(dict.fromkeys(tags))
    drawn = run / CURVES
    if drawn.is_file():
        shutil.copyfile(drawn, folder / CURVES)
    text = f"---\n{data.to_yaml()}\n---\n{card.text.rstrip()}\n\n{usage.text}"
    (folder / CARD).write_text(text)


def public_name(plan: TrainingPlan) -> str | None:
    """Return the backbone's name without a path of this machine; None for none.

    A package and a hub's OWNER/NAME are names anywhere.
    """
    weights = plan.backbone.pretrained
    if weights is None or not isinstance(plan.backbone, OfFolder):
        return None
    name = weights.name
    is_path = name.startswith((".", "/", "~")) or name.count("/") > 1 or Path(name).exists()
    return plan.backbone.short_name if is_path and "://" not in name else name


def handed_over(plan: TrainingPlan) -> TrainingPlan:
    """Return a plan whose backbone has a name that others know, and the hash it was trained on."""
    name = public_name(plan)
    weights = plan.backbone.pretrained
    if name is None or weights is None or name == weights.name:
        return plan
    return replace(plan, backbone=plan.backbone.pinned(weights.sha256, folder=name))


def found(plan: TrainingPlan) -> Path | None:
    """Return the folder of a plan's pretrained backbone; None for a model without one."""
    weights = plan.backbone.pretrained
    return find_backbone(weights) if BACKBONES[plan.backbone.kind].has_weights and weights else None


__all__ = ["NOT_THE_MODEL", "Usage", "found", "handed_over", "public_name", "write_hub_files"]
