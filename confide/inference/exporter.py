"""What brings a kind of model into a form that others load: one value a network of the tables."""

import dataclasses
import inspect
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from safetensors.torch import save_file
from torch import Tensor, nn

from confide.config.custom import implementation
from confide.config.outcomes.outcome import DEFAULT_OUTCOME
from confide.config.outcomes.table import OUTCOMES
from confide.config.tasks.task import TaskConfig
from confide.models.backbones import loading, quiet_transformers, refuse_other_code
from confide.models.workload import Workload, network_of
from confide.protocol.plan import TrainingPlan

_WEIGHTS = "model.safetensors"


class Exporter(Protocol):
    """How a trained model becomes files that stand alone."""

    def whole(self, workload: Workload, plan: TrainingPlan, *, merge: bool) -> nn.Module:
        """Return the whole network, from encoded records to outputs, with the trained tensors.

        Args:
            workload: with the trained tensors in its model.
            plan: task, backbone and tuning.
            merge: whether an adapter is merged, and so taken out of the workload's model.
        """

    def encoded_task(self, plan: TrainingPlan, form: str) -> TaskConfig:
        """Return the schema by which records are encoded for a form."""

    def write_beside(self, folder: Path, plan: TrainingPlan) -> None:
        """Write what encoding needs beside the task's schema, such as a tokenizer."""

    def write_folder(
        self, folder: Path, workload: Workload, plan: TrainingPlan, *, keep_adapter: bool
    ) -> None:
        """Fill a folder that transformers, or the library of its form, loads.

        Args:
            folder: empty.
            workload: with the trained tensors in its model, on the CPU; an adapter is taken out of
                it or merged into it.
            plan: task, backbone and tuning.
            keep_adapter: whether a LoRA adapter stays apart from the weights it was trained on.
        """

    def load_folder(self, folder: Path) -> nn.Module:
        """Load such a folder by the class that is installed here; code in it is not run."""


class OwnExporter:
    """What exporters do where nothing else is said: the trained model is the whole one."""

    def whole(self, workload: Workload, plan: TrainingPlan, *, merge: bool) -> nn.Module:
        """Return the model: nothing of it is left out of training."""
        return workload.model

    def encoded_task(self, plan: TrainingPlan, form: str) -> TaskConfig:
        """Return the schema by which records are encoded: the plan's own."""
        return plan.encoded_task

    def write_beside(self, folder: Path, plan: TrainingPlan) -> None:
        """Write nothing."""


def exporter_of(plan: TrainingPlan) -> Exporter:
    """Return what exports a plan's model."""
    exporter: Exporter = implementation(network_of(plan.task, plan.backbone).exporter)()
    return exporter


def write_classifier(
    folder: Path,
    config: Any,
    tensors: Mapping[str, Tensor],
    *,
    plan: TrainingPlan,
    classes: Mapping[str, type],
) -> None:
    """Write config, weights and the file of the classes that read them.

    That file alone is code; weights are safetensors, and nothing in the folder points outside it.

    Args:
        folder: to write into.
        config: of transformers.
        tensors: of the class.
        plan: whose outcome is predicted.
        classes: transformers' auto class -> class, all of one file.
    """
    names = plan.task.outcome.output_names(plan.task.labelling)
    if names:
        config.id2label = dict(enumerate(names))
        config.label2id = {name: i for i, name in enumerate(names)}
    config.problem_type = OUTCOMES[plan.task.outcome.kind].problem_type
    if plan.task.outcome.kind != DEFAULT_OUTCOME:
        config.confide_outcome = dataclasses.asdict(plan.task.outcome)
    # Of the tensors as they were trained, whatever the backbone's own config said.
    config.dtype = "float32"
    made = next(one for name, one in classes.items() if name != "AutoConfig")
    source = Path(inspect.getfile(made))
    config.architectures = [made.__name__]
    config.auto_map = {name: f"{source.stem}.{one.__name__}" for name, one in classes.items()}
    config.save_pretrained(folder)
    # safetensors takes no views, and no two names for the same memory, as of tied embeddings.
    copies = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    save_file(copies, folder / _WEIGHTS, metadata={"format": "pt"})
    shutil.copyfile(source, folder / source.name)


def load_classifier(folder: Path, model: Any, settings: Any) -> nn.Module:
    """Load an exported folder by an installed class.

    Args:
        folder: that was written.
        model: class of the model.
        settings: class of its config.

    Raises:
        ModelError: if it cannot be loaded, or needs code from elsewhere.
    """
    refuse_other_code(folder)
    with quiet_transformers(), loading(folder):
        config = settings.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        loaded: nn.Module = model.from_pretrained(
            folder, config=config, local_files_only=True, use_safetensors=True
        )
    return loaded


__all__ = ["Exporter", "exporter_of", "load_classifier", "write_classifier"]
