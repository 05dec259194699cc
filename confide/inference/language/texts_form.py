"""Sequence-to-sequence models, exported: ``AutoModelForSeq2SeqLM`` loads them, no code of ours."""

from pathlib import Path
from typing import cast

from torch import nn
from transformers import GenerationConfig

from confide.config.models.seq2seq import Seq2SeqConfig
from confide.config.outcomes.text import TextConfig
from confide.inference.adapters import without_adapter, write_adapter
from confide.inference.exporter import OwnExporter
from confide.inference.language.answers_form import load_language_model
from confide.models.backbones import find_backbone, load_tokenizer, quiet_transformers
from confide.models.language.seq2seq import Seq2SeqModel
from confide.models.workload import Workload
from confide.protocol.plan import TrainingPlan


class TextsExporter(OwnExporter):
    """Writes and loads models that write texts from others."""

    def whole(self, workload: Workload, plan: TrainingPlan, *, merge: bool) -> nn.Module:
        """Return encoder and decoder."""
        texts = cast(Seq2SeqModel, workload.model)
        if merge:
            texts.model = without_adapter(texts.model, merge=True)
        return texts

    def write_beside(self, folder: Path, plan: TrainingPlan) -> None:
        """Write the tokenizer."""
        backbone = cast(Seq2SeqConfig, plan.backbone)
        load_tokenizer(find_backbone(backbone)).save_pretrained(folder)

    def write_folder(
        self, folder: Path, workload: Workload, plan: TrainingPlan, *, keep_adapter: bool
    ) -> None:
        """Fill a folder that transformers loads."""
        texts = cast(Seq2SeqModel, workload.model)
        if keep_adapter:
            write_adapter(folder, texts.model, plan)
        model = without_adapter(texts.model, merge=not keep_adapter)
        model.config.dtype = "float32"
        # The folder's own may search by beams: what was scored is greedy
        model.generation_config = GenerationConfig(
            decoder_start_token_id=model.config.decoder_start_token_id,
            eos_token_id=model.config.eos_token_id,
            pad_token_id=model.config.pad_token_id,
            suppress_tokens=texts.suppressed,
            max_new_tokens=cast(TextConfig, plan.task.outcome).max_tokens,
        )
        with quiet_transformers():
            model.save_pretrained(folder)
        self.write_beside(folder, plan)

    def load_folder(self, folder: Path) -> nn.Module:
        """Load such a folder."""
        from transformers.models.auto.modeling_auto import (
            MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
        )

        return Seq2SeqModel(load_language_model(folder, MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING))


__all__ = ["TextsExporter"]
