"""Language models that answer, exported: ``AutoModelForCausalLM`` loads them, and no code of ours.

The folder holds the tokenizer with its chat template. The system message that a model was trained
with is in ``confide.json``: whoever uses the folder without confide has to say it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from torch import nn
from transformers import AutoConfig, GenerationConfig

from confide.config.models.language_model import LanguageModelConfig
from confide.inference.adapters import without_adapter, write_adapter
from confide.inference.exporter import OwnExporter
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


class AnswersExporter(OwnExporter):
    """Writes and loads language models that answer."""

    def whole(self, workload: Workload, plan: TrainingPlan, *, merge: bool) -> nn.Module:
        """Return the model with all its layers."""
        answers = _whole(workload)
        if merge:
            answers.model = without_adapter(answers.model, merge=True)
        return answers

    def write_beside(self, folder: Path, plan: TrainingPlan) -> None:
        """Write the tokenizer and its chat template."""
        backbone = cast(LanguageModelConfig, plan.backbone)
        load_tokenizer(find_backbone(backbone)).save_pretrained(folder)

    def write_folder(
        self, folder: Path, workload: Workload, plan: TrainingPlan, *, keep_adapter: bool
    ) -> None:
        """Fill a folder that transformers loads."""
        adapted = _whole(workload).model
        if keep_adapter:
            write_adapter(folder, adapted, plan)
        model = without_adapter(adapted, merge=not keep_adapter)
        model.config.dtype = "float32"
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


__all__ = ["AnswersExporter", "load_language_model"]
