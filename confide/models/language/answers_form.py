"""Language models that answer, exported: ``AutoModelForCausalLM`` loads them, and no code of ours.

The folder holds the tokenizer with its chat template. The system message that a model was trained
with is in ``confide.json``: whoever uses the folder without confide has to say it.
"""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from torch import nn
from transformers import AutoConfig, GenerationConfig

from confide.config.models.language_model import LanguageModelConfig
from confide.config.tasks.task import TaskConfig
from confide.models.backbones import (
    find_backbone,
    load_tokenizer,
    loading,
    quiet_transformers,
    refuse_other_code,
)
from confide.models.language.answering import ATTENTION, AnswerModel
from confide.models.workload import Workload
from confide.protocol.plan import TrainingPlan

_ADAPTER = "adapter_config.json"


class AnswersExporter:
    """Writes and loads language models that answer."""

    def whole(self, workload: Workload, plan: TrainingPlan, *, merge: bool) -> nn.Module:
        """Return the model with all its layers."""
        answers = _whole(workload)
        if merge:
            answers.model = answers.model.merge_and_unload()
        return answers

    def encoded_task(self, plan: TrainingPlan, form: str) -> TaskConfig:
        """Return the schema by which records are encoded: the plan's own."""
        return plan.encoded_task

    def write_beside(self, folder: Path, plan: TrainingPlan) -> None:
        """Write the tokenizer and its chat template."""
        backbone = cast(LanguageModelConfig, plan.backbone)
        load_tokenizer(find_backbone(backbone)).save_pretrained(folder)

    def write_folder(
        self, folder: Path, workload: Workload, plan: TrainingPlan, *, keep_adapter: bool
    ) -> None:
        """Fill a folder that transformers loads."""
        name = cast(LanguageModelConfig, plan.backbone).name
        model = take_adapter_out(folder, _whole(workload).model, name if keep_adapter else None)
        # The folder's own may draw, or forbid words to come twice
        model.generation_config = GenerationConfig(
            eos_token_id=model.config.eos_token_id, pad_token_id=model.config.pad_token_id
        )
        with quiet_transformers():
            model.save_pretrained(folder)
        self.write_beside(folder, plan)

    def load_folder(self, folder: Path) -> nn.Module:
        """Load such a folder."""
        from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

        return AnswerModel(load_language_model(folder, MODEL_FOR_CAUSAL_LM_MAPPING))


def take_adapter_out(folder: Path, adapted: Any, name: str | None) -> Any:
    """Take a LoRA adapter out of a language model: into a folder, or merged into its weights.

    Args:
        folder: to write into.
        adapted: the model, with an adapter or without.
        name: of the backbone that the adapter belongs to; None to merge it.
    """
    model = adapted
    if hasattr(adapted, "merge_and_unload") and name is not None:
        with warnings.catch_warnings():  # peft asks for what it cannot find offline
            warnings.simplefilter("ignore")
            adapted.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)  # peft's, with nothing in it
        file = folder / _ADAPTER
        config = json.loads(file.read_text())
        # Not a path of this machine
        config["base_model_name_or_path"] = name
        file.write_text(json.dumps(config, indent=2) + "\n")
        model = adapted.unload()
    elif hasattr(adapted, "merge_and_unload"):
        model = adapted.merge_and_unload()
    model.config.dtype = "float32"
    return model


def load_language_model(folder: Path, classes: Mapping[type, Any]) -> Any:
    """Load an exported language model, its adapter with it, if that stands apart.

    Args:
        folder: that was written.
        classes: class of a config -> that of its model.

    Raises:
        ModelError: if it cannot be loaded, or needs code from elsewhere.
    """
    refuse_other_code(folder)
    with quiet_transformers(), loading(folder):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        # Its own class: the automatic one would look for the backbone that the adapter names
        made: Any = classes[type(config)]
        model = made.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            use_safetensors=True,
            dtype="float32",
            attn_implementation=ATTENTION,
        )
    return model


def _whole(workload: Workload) -> AnswerModel:
    assert workload.whole_fn is not None
    return cast(AnswerModel, workload.whole_fn())


__all__ = ["AnswersExporter", "load_language_model", "take_adapter_out"]
