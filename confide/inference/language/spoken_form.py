"""Models that write what is said, exported: ``AutoModelForSpeechSeq2Seq`` loads them."""

import shutil
from pathlib import Path
from typing import cast

from torch import nn

from confide.config.models.seq2seq import Seq2SeqConfig
from confide.inference.language.answers_form import load_language_model
from confide.inference.language.texts_form import TextsExporter
from confide.models.backbones import find_backbone
from confide.models.language.seq2seq import Seq2SeqModel
from confide.protocol.plan import TrainingPlan

_EXTRACTOR = "preprocessor_config.json"


class SpokenExporter(TextsExporter):
    """Writes and loads models that write what is said."""

    def write_beside(self, folder: Path, plan: TrainingPlan) -> None:
        """Write the tokenizer and, if the backbone has it, how others make inputs of recordings."""
        super().write_beside(folder, plan)
        extractor = find_backbone(cast(Seq2SeqConfig, plan.backbone)) / _EXTRACTOR
        if extractor.is_file():
            shutil.copyfile(extractor, folder / _EXTRACTOR)

    def load_folder(self, folder: Path) -> nn.Module:
        """Load such a folder."""
        from transformers.models.auto.modeling_auto import MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING

        return Seq2SeqModel(load_language_model(folder, MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING))


__all__ = ["SpokenExporter"]
