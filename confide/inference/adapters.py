"""Adapters of an exported model: apart from the weights they belong to, or merged into them."""

import json
import warnings
from pathlib import Path
from typing import Any

from confide.config.tunings.table import TUNINGS
from confide.protocol.plan import TrainingPlan


def write_adapter(folder: Path, adapted: Any, plan: TrainingPlan) -> None:
    """Write a LoRA adapter into a folder, beside the weights it belongs to; nothing without one."""
    if TUNINGS[plan.tuning.kind].folder != "adapter":
        return
    with warnings.catch_warnings():  # peft asks for what it cannot find offline
        warnings.simplefilter("ignore")
        adapted.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # peft's, with nothing in it
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text())
    # Not a path of this machine. transformers takes the weights beside the adapter.
    weights = plan.backbone.pretrained
    config["base_model_name_or_path"] = None if weights is None else weights.name
    file.write_text(json.dumps(config, indent=2) + "\n")


def without_adapter(adapted: Any, *, merge: bool) -> Any:
    """Take a LoRA adapter out of a model, merged into its weights or not."""
    if not hasattr(adapted, "merge_and_unload"):
        return adapted
    return adapted.merge_and_unload() if merge else adapted.unload()


__all__ = ["without_adapter", "write_adapter"]
