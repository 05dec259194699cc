"""Classifiers of texts, exported: ``AutoModel`` loads the encoder, a class of ours the whole."""

from pathlib import Path
from typing import cast

from safetensors import safe_open
from torch import nn
from transformers import AutoConfig

from confide.config.models.transformer import TransformerConfig
from confide.config.tasks.text_classification import TextClassificationConfig
from confide.inference.adapters import without_adapter, write_adapter
from confide.inference.exporter import OwnExporter, load_classifier, write_classifier
from confide.inference.language.modeling_confide import ConfideForSequenceClassification
from confide.models.backbones import find_backbone, has_pooler, load_encoder, load_tokenizer
from confide.models.networks import Head, TextClassifier
from confide.models.tuning.bottleneck import Bottleneck, take_bottlenecks_out
from confide.models.tuning.prefix import take_prefix_out
from confide.models.workload import Workload
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors


class TokensExporter(OwnExporter):
    """Writes and loads classifiers of texts."""

    def whole(self, workload: Workload, plan: TrainingPlan, *, merge: bool) -> nn.Module:
        """Return encoder and head."""
        classifier = _classifier(workload, plan)
        if merge:
            classifier.encoder = without_adapter(classifier.encoder, merge=True)
        return classifier

    def write_beside(self, folder: Path, plan: TrainingPlan) -> None:
        """Write the tokenizer, told where the run cut its texts."""
        backbone = cast(TransformerConfig, plan.backbone)
        tokenizer = load_tokenizer(find_backbone(backbone))
        tokenizer.model_max_length = cast(TextClassificationConfig, plan.task).max_tokens
        tokenizer.save_pretrained(folder)

    def write_folder(
        self, folder: Path, workload: Workload, plan: TrainingPlan, *, keep_adapter: bool
    ) -> None:
        """Fill a folder that transformers loads."""
        classifier = _classifier(workload, plan)
        if keep_adapter:
            write_adapter(folder, classifier.encoder, plan)
        classifier.encoder = without_adapter(classifier.encoder, merge=not keep_adapter)
        _write_weights(folder, classifier, plan)
        self.write_beside(folder, plan)

    def load_folder(self, folder: Path) -> nn.Module:
        """Load such a folder."""
        return load_classifier(folder, ConfideForSequenceClassification, AutoConfig)


def _classifier(workload: Workload, plan: TrainingPlan) -> TextClassifier:
    """Return the whole classifier; a head trained on features gets its frozen encoder back."""
    if isinstance(workload.model, TextClassifier):
        return workload.model
    backbone = cast(TransformerConfig, plan.backbone)
    encoder = load_encoder(find_backbone(backbone), backbone)
    made = TextClassifier(
        encoder,
        num_classes=plan.task.num_outputs,
        pooling=backbone.pooling,
        row_norm=backbone.row_norm,
    )
    made.head.load_state_dict(cast(Head, workload.model).head.state_dict())
    return made.eval()


def _write_weights(folder: Path, classifier: TextClassifier, plan: TrainingPlan) -> None:
    backbone = cast(TransformerConfig, plan.backbone)
    # Apart from the encoder, whose own names AutoModel knows
    encoder, before = take_prefix_out(classifier.encoder)
    adapters = take_bottlenecks_out(encoder)
    prefix, config = encoder.base_model_prefix, encoder.config
    tensors: Tensors = {f"{prefix}.{name}": tensor for name, tensor in encoder.state_dict().items()}
    # AutoModel expects a pooler in some families, and would invent one: it gets the one that the
    # backbone came with, which no run uses.
    files = find_backbone(backbone).glob("*.safetensors")
    for file in sorted(files) if has_pooler(config) else ():
        with safe_open(file, framework="pt") as stored:
            for name in stored.keys():  # noqa: SIM118 - not a mapping
                if "pooler." in name:
                    inner = name.partition("pooler.")[2]
                    tensors[f"{prefix}.pooler.{inner}"] = stored.get_tensor(name).float()
    tensors |= {
        f"classifier.{name}": tensor for name, tensor in classifier.head.state_dict().items()
    }
    if adapters:
        tensors |= _of_adapters(list(adapters.values()))
        config.confide_adapters = list(adapters)
        config.confide_bottleneck = next(iter(adapters.values())).down.out_features
    if before is not None:
        tensors["keys_and_values"] = before.contiguous()
        config.confide_prefix = list(before.shape)
        config.confide_positions = classifier.positions
    classes = {"AutoModelForSequenceClassification": ConfideForSequenceClassification}
    config.confide_pooling = backbone.pooling
    config.confide_row_norm = backbone.row_norm
    task = cast(TextClassificationConfig, plan.task)
    if classifier.takes_pairs and task.is_paired:
        config.confide_pairs = True
    if task.template is not None:
        config.confide_template = task.template
    write_classifier(folder, config, tensors, plan=plan, classes=classes)


def _of_adapters(adapters: list[Bottleneck]) -> Tensors:
    return {
        f"adapters.{number}.{layer}.{name}": tensor
        for number, adapter in enumerate(adapters)
        for layer in ("down", "up")
        for name, tensor in adapter.get_submodule(layer).state_dict().items()
    }


__all__ = ["TokensExporter"]
