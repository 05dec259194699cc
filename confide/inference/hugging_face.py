"""A trained model as a folder that transformers loads.

``AutoModel`` the encoder, our own class the whole classifier.

The class's file lies in the folder. It alone is code; weights are safetensors, and nothing in the
folder points outside it.
"""

import inspect
import json
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from confide.config.model import TransformerConfig
from confide.config.task import TextClassificationConfig
from confide.inference.modeling_confide import ConfideForSequenceClassification
from confide.inference.modeling_confide_tabular import (
    ConfideForTabularClassification,
    ConfideTabularConfig,
)
from confide.models.backbones import POOLED_FAMILIES, find_backbone, load_encoder, load_tokenizer
from confide.models.networks import Mlp, TextClassifier
from confide.models.workload import Workload
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors

_WEIGHTS = "model.safetensors"


def write_hugging_face(
    folder: Path, workload: Workload, plan: TrainingPlan, *, keep_adapter: bool
) -> None:
    """Fill a folder with config, weights, tokenizer and the class that reads them.

    Args:
        folder: empty.
        workload: with the trained tensors in its model, on the CPU; an adapter is taken out of it
            or merged into it.
        plan: task, backbone and tuning.
        keep_adapter: whether a LoRA adapter stays apart from the weights it was trained on.
    """
    if isinstance(workload.model, Mlp):
        _write_tabular(folder, workload.model, plan)
        return
    classifier = text_classifier(workload, plan)
    if plan.tuning.kind == "lora":
        if keep_adapter:
            _write_adapter(folder, classifier.encoder, plan)
        merge_adapter(classifier, keep_base=keep_adapter)
    _write_text(folder, classifier, plan)
    write_tokenizer(folder, plan)


def text_classifier(workload: Workload, plan: TrainingPlan) -> TextClassifier:
    """Return the whole classifier; one trained as a head on features gets its frozen encoder back."""
    if isinstance(workload.model, TextClassifier):
        return workload.model
    assert isinstance(plan.backbone, TransformerConfig)
    backbone = plan.backbone
    encoder = load_encoder(find_backbone(backbone), backbone)
    made = TextClassifier(encoder, num_classes=len(plan.task.labels), pooling=backbone.pooling)
    made.head.load_state_dict(workload.model.head.state_dict())  # type: ignore[union-attr]  # a Head
    return made.eval()


def merge_adapter(classifier: TextClassifier, *, keep_base: bool = False) -> None:
    """Merge a LoRA adapter into the encoder, or leave it out where ``keep_base``."""
    encoder = classifier.encoder
    if hasattr(encoder, "merge_and_unload"):
        classifier.encoder = encoder.unload() if keep_base else encoder.merge_and_unload()


def write_tokenizer(folder: Path, plan: TrainingPlan) -> None:
    """Write the tokenizer, told where the run cut its texts."""
    assert isinstance(plan.backbone, TransformerConfig)
    assert isinstance(plan.task, TextClassificationConfig)
    tokenizer = load_tokenizer(find_backbone(plan.backbone))
    tokenizer.model_max_length = plan.task.max_tokens
    tokenizer.save_pretrained(folder)


def _write_text(folder: Path, classifier: TextClassifier, plan: TrainingPlan) -> None:
    assert isinstance(plan.backbone, TransformerConfig)
    encoder = classifier.encoder
    prefix, config = encoder.base_model_prefix, encoder.config
    # AutoModel expects a pooler in some families, and would invent one.
    pooler = _pooler(find_backbone(plan.backbone), config.model_type)
    tensors: Tensors = {
        f"{prefix}.{name}": tensor for name, tensor in {**encoder.state_dict(), **pooler}.items()
    }
    tensors |= {
        f"classifier.{name}": tensor for name, tensor in classifier.head.state_dict().items()
    }
    made = {"AutoModelForSequenceClassification": ConfideForSequenceClassification}
    config.confide_pooling = plan.backbone.pooling
    _write(folder, config, tensors, plan=plan, classes=made)


def _pooler(folder: Path, model_type: str) -> Tensors:
    """Return the pooler that a backbone came with and that no run uses; {} where it has none."""
    found: Tensors = {}
    for file in sorted(folder.glob("*.safetensors")) if model_type in POOLED_FAMILIES else ():
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a mapping
                if "pooler." in name:
                    found[f"pooler.{name.partition('pooler.')[2]}"] = tensors.get_tensor(
                        name
                    ).float()
    return found


def _write_adapter(folder: Path, encoder: Any, plan: TrainingPlan) -> None:
    assert isinstance(plan.backbone, TransformerConfig)
    with warnings.catch_warnings():  # peft asks for what it cannot find offline
        warnings.simplefilter("ignore")
        encoder.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # peft's, with nothing in it
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text())
    # Not a path of this machine. transformers takes the weights beside the adapter.
    config["base_model_name_or_path"] = plan.backbone.name
    file.write_text(json.dumps(config, indent=2) + "\n")


def _write_tabular(folder: Path, model: Mlp, plan: TrainingPlan) -> None:
    linear = [layer for layer in model.layers if isinstance(layer, nn.Linear)]
    config = ConfideTabularConfig(
        widths=[linear[0].in_features, *(layer.out_features for layer in linear)]
    )
    made = ConfideForTabularClassification
    classes = {
        "AutoConfig": ConfideTabularConfig,
        "AutoModel": made,
        "AutoModelForSequenceClassification": made,
    }
    _write(folder, config, dict(model.state_dict()), plan=plan, classes=classes)


def _write(
    folder: Path,
    config: Any,
    tensors: dict[str, Tensor],
    *,
    plan: TrainingPlan,
    classes: Mapping[str, type],
) -> None:
    """Write config, weights and the file of the classes."""
    labels = plan.task.labels
    config.id2label = dict(enumerate(labels))
    config.label2id = {name: i for i, name in enumerate(labels)}
    config.problem_type = "single_label_classification"
    config.dtype = "float32"
    made = classes["AutoModelForSequenceClassification"]
    source = Path(inspect.getfile(made))
    config.architectures = [made.__name__]
    config.auto_map = {name: f"{source.stem}.{one.__name__}" for name, one in classes.items()}
    config.save_pretrained(folder)
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()},
        folder / _WEIGHTS,
        metadata={"format": "pt"},
    )
    shutil.copyfile(source, folder / source.name)


__all__ = ["merge_adapter", "text_classifier", "write_hugging_face", "write_tokenizer"]
