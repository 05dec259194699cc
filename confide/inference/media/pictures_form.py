"""Classifiers of pictures, exported: a family's own class where it computes the same."""

import dataclasses
from pathlib import Path
from typing import Any, cast

import transformers
from torch import Tensor, nn
from transformers import AutoConfig

from confide.config.models.cnn import CnnConfig
from confide.config.models.vision import VisionConfig
from confide.config.outcomes.outcome import DEFAULT_OUTCOME
from confide.config.outcomes.table import OUTCOMES
from confide.config.tasks.media.image_classification import ImageClassificationConfig
from confide.config.tunings.table import TUNINGS
from confide.errors import ModelError
from confide.inference.adapters import without_adapter, write_adapter
from confide.inference.exporter import OwnExporter, load_classifier, write_classifier
from confide.inference.media.modeling_confide_image import (
    ConfideCnnConfig,
    ConfideCnnForImageClassification,
    ConfideForImageClassification,
)
from confide.models.backbones import find_backbone, load_settings, loading, quiet_transformers
from confide.models.networks import Head
from confide.models.pictures.cnn import PROCESSOR
from confide.models.pictures.vision import (
    AUTO_CLASS,
    FrozenVision,
    VisionClassifier,
    replace_last,
)
from confide.models.workload import Workload
from confide.pictures.processor import PictureProcessor, load_processor
from confide.protocol.plan import TrainingPlan
from confide.tasks.media.image_classification import scaled

_OWN = "confide_row_norm"


class FromPixels(nn.Module):
    """A model of transformers that takes pixels of 8 bits, as tasks encode pictures.

    Args:
        model: takes scaled values.
        processor: of its folder.
    """

    def __init__(self, model: nn.Module, processor: PictureProcessor) -> None:
        super().__init__()
        self.model, self._processor = model, processor

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Map pixels [b, c, h, w] of 8 bits to logits [b, k]."""
        logits: Tensor = self.model(pixel_values=scaled(pixel_values, self._processor)).logits
        return logits


class VisionExporter(OwnExporter):
    """Writes and loads classifiers on a pretrained model of pictures."""

    def whole(self, workload: Workload, plan: TrainingPlan, *, merge: bool) -> nn.Module:
        """Return backbone and head; they take pixels of 8 bits."""
        classifier = _classifier(workload, plan)
        if merge:
            classifier.encoder = without_adapter(classifier.encoder, merge=True)
        return classifier

    def write_beside(self, folder: Path, plan: TrainingPlan) -> None:
        """Write what resizes pictures, and scales their values."""
        schema = cast(ImageClassificationConfig, plan.task)
        backbone = cast(VisionConfig, plan.backbone)
        load_processor(find_backbone(backbone)).write(folder, schema.size)

    def write_folder(
        self, folder: Path, workload: Workload, plan: TrainingPlan, *, keep_adapter: bool
    ) -> None:
        """Fill a folder that transformers loads."""
        classifier, row_norm = _classifier(workload, plan), plan.backbone.row_norm
        keeps = keep_adapter and TUNINGS[plan.tuning.kind].folder == "adapter"
        if keeps and row_norm is not None:
            raise ModelError(
                f"--to hf: features are scaled (backbone.row_norm={row_norm:g}), for which no"
                " family has a class that takes an adapter; choose --to merged."
            )
        if keeps:
            write_adapter(folder, classifier.encoder, plan)
        classifier.encoder = without_adapter(classifier.encoder, merge=not keep_adapter)
        if row_norm is None:
            _write_family(folder, classifier, plan)
        else:
            config = classifier.encoder.config
            setattr(config, _OWN, row_norm)
            classes = {AUTO_CLASS: ConfideForImageClassification}
            tensors = {
                **{f"family.{k}": v for k, v in classifier.encoder.state_dict().items()},
                **{f"head.{k}": v for k, v in classifier.head.state_dict().items()},
            }
            write_classifier(folder, config, tensors, plan=plan, classes=classes)
        self.write_beside(folder, plan)

    def load_folder(self, folder: Path) -> nn.Module:
        """Load such a folder."""
        settings = load_settings(folder)
        if hasattr(settings, _OWN):
            own = load_classifier(folder, ConfideForImageClassification, AutoConfig)
            return FromPixels(own, load_processor(folder))
        with quiet_transformers(), loading(folder):
            model = getattr(transformers, AUTO_CLASS).from_pretrained(
                folder, local_files_only=True, use_safetensors=True, trust_remote_code=False
            )
        return FromPixels(model, load_processor(folder))


class CnnExporter(OwnExporter):
    """Writes and loads convolutional networks."""

    def write_beside(self, folder: Path, plan: TrainingPlan) -> None:
        """Write what resizes pictures, and scales their values."""
        PROCESSOR.write(folder, cast(ImageClassificationConfig, plan.task).size)

    def write_folder(
        self, folder: Path, workload: Workload, plan: TrainingPlan, *, keep_adapter: bool
    ) -> None:
        """Fill a folder that transformers loads."""
        schema, made = cast(ImageClassificationConfig, plan.task), ConfideCnnForImageClassification
        config = ConfideCnnConfig(
            channels=schema.channels,
            side=schema.size or ConfideCnnConfig().side,
            widths=cast(CnnConfig, plan.backbone).widths,
            row_norm=plan.backbone.row_norm,
        )
        classes = {AUTO_CLASS: made, "AutoConfig": ConfideCnnConfig}
        write_classifier(folder, config, workload.model.state_dict(), plan=plan, classes=classes)
        self.write_beside(folder, plan)

    def load_folder(self, folder: Path) -> nn.Module:
        """Load such a folder."""
        model = load_classifier(folder, ConfideCnnForImageClassification, ConfideCnnConfig)
        return FromPixels(model, load_processor(folder))


def _classifier(workload: Workload, plan: TrainingPlan) -> VisionClassifier:
    """Return the whole classifier; a head trained on features gets its frozen backbone back."""
    if isinstance(workload.model, VisionClassifier):
        return workload.model
    backbone = cast(VisionConfig, plan.backbone)
    folder = find_backbone(backbone)
    made = FrozenVision(backbone, folder, num_outputs=plan.task.num_outputs).load()
    made.head.load_state_dict(cast(Head, workload.model).head.state_dict())
    return made.eval()


def _write_family(folder: Path, classifier: VisionClassifier, plan: TrainingPlan) -> None:
    """Write the family's own class, with the trained head as its last layer: no code is needed."""
    model: Any = classifier.encoder
    names = plan.task.outcome.output_names(plan.task.labelling)
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: i for i, name in enumerate(names)}
    model.config.problem_type = OUTCOMES[plan.task.outcome.kind].problem_type
    if plan.task.outcome.kind != DEFAULT_OUTCOME:
        model.config.confide_outcome = dataclasses.asdict(plan.task.outcome)
    replace_last(model, classifier.head)
    with quiet_transformers():
        model.save_pretrained(folder)


__all__ = ["CnnExporter", "FromPixels", "VisionExporter"]
