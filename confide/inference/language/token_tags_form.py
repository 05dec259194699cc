"""Taggers of words, exported: as the class for token classification of the backbone's own family.

``transformers.pipeline("token-classification")`` takes such a folder as it is, without code of
ours. What the model does to a token's vector before its head is an affine map, and becomes part of
the head.
"""

import copy
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoModelForTokenClassification

from confide.config.models.transformer import TransformerConfig
from confide.errors import ModelError
from confide.inference.adapters import without_adapter, write_adapter
from confide.inference.exporter import OwnExporter
from confide.models.backbones import (
    find_backbone,
    load_settings,
    load_tokenizer,
    loading,
    quiet_transformers,
)
from confide.models.encoders.token_encoder import TokenClassifier, load_token_classifier
from confide.models.workload import Workload
from confide.protocol.plan import TrainingPlan

_HEADS = ("classifier", "score")
"""What families call the linear layer that makes a token's logits."""


class TokenTagsExporter(OwnExporter):
    """Writes and loads taggers of words."""

    def whole(self, workload: Workload, plan: TrainingPlan, *, merge: bool) -> nn.Module:
        """Return encoder and head."""
        classifier = _classifier(workload, plan)
        if merge:
            classifier.encoder = without_adapter(classifier.encoder, merge=True)
        return classifier

    def write_beside(self, folder: Path, plan: TrainingPlan) -> None:
        """Write the tokenizer, told where the run cut its records."""
        tokenizer = load_tokenizer(find_backbone(cast(TransformerConfig, plan.backbone)))
        tokenizer.model_max_length = max(plan.task.text_limits.values())
        tokenizer.save_pretrained(folder)

    def write_folder(
        self, folder: Path, workload: Workload, plan: TrainingPlan, *, keep_adapter: bool
    ) -> None:
        """Fill a folder that transformers loads."""
        classifier = _classifier(workload, plan)
        if keep_adapter:
            write_adapter(folder, classifier.encoder, plan)
        classifier.encoder = without_adapter(classifier.encoder, merge=not keep_adapter)
        _of_family(classifier, plan).save_pretrained(folder)
        self.write_beside(folder, plan)

    def load_folder(self, folder: Path) -> nn.Module:
        """Load such a folder."""
        settings = load_settings(folder)
        with quiet_transformers(), loading(folder):
            loaded: nn.Module = AutoModelForTokenClassification.from_pretrained(
                folder,
                config=settings,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
            )
        return loaded


def _classifier(workload: Workload, plan: TrainingPlan) -> TokenClassifier:
    """Return the whole classifier; a head trained on features gets its frozen encoder back."""
    if isinstance(workload.model, TokenClassifier):
        return workload.model
    made = load_token_classifier(
        cast(TransformerConfig, plan.backbone), num_outputs=plan.task.num_outputs, longest=None
    )
    head = cast(nn.Linear, workload.model.head)
    made.head.load_state_dict(head.state_dict())
    return made.eval()


def _of_family(classifier: TokenClassifier, plan: TrainingPlan) -> Any:
    """Return the model as its family's class for token classification.

    Raises:
        ModelError: if the family has none, or one whose head is not linear.
    """
    encoder = classifier.encoder
    if plan.tuning.kind in ("bottleneck", "prefix"):
        raise ModelError(
            f"tuning.kind={plan.tuning.kind} adds what the family's class for token classification"
            " lacks; choose onnx or int8."
        )
    settings = copy.deepcopy(encoder.config)
    names = plan.task.outcome.output_names(plan.task.labelling)
    settings.id2label = dict(enumerate(names))
    settings.label2id = {name: number for number, name in enumerate(names)}
    settings.dtype = "float32"
    family = f"model_type={settings.model_type}"
    other = "choose another form, such as onnx."
    try:
        made = AutoModelForTokenClassification.from_config(settings)
    except ValueError:
        raise ModelError(
            f"The backbone ({family}) has no class for token classification in transformers;"
            f" {other}"
        ) from None
    missing = made.base_model.load_state_dict(encoder.state_dict(), strict=False).missing_keys
    # No token's vector passes through a pooler.
    missing = [name for name in missing if "pooler." not in name]
    found = [getattr(made, name) for name in _HEADS if hasattr(made, name)]
    weight, bias = _folded(classifier)
    heads = [it for it in found if isinstance(it, nn.Linear) and it.weight.shape == weight.shape]
    if missing or not heads or heads[0].bias is None:
        raise ModelError(
            f"The backbone ({family}) has a head for token classification that is no linear layer"
            f" on its token vectors; {other}"
        )
    with torch.no_grad():
        heads[0].weight.copy_(weight)
        heads[0].bias.copy_(bias)
    return made.eval()


def _folded(classifier: TokenClassifier) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a head on the encoder's own token vectors."""
    head, before = classifier.head, classifier.standardised
    # In float64, since bias takes up a sum over all of a vector's places.
    weight = head.weight.detach().double()
    bias = head.bias.detach().double() + weight @ before.bias.double()
    return (weight * before.weight.double()).float(), bias.float()


__all__ = ["TokenTagsExporter"]
