"""A model on disk: what was trained, and what it takes to use it.

``model/`` holds ``confide.json`` (task, backbone with content hash, tuning), ``trainable.safetensors`` (the tensors that
travelled) and, for a pretrained backbone, what Hugging Face tools read: a PEFT adapter in ``adapter/``, or the whole encoder
in ``encoder/`` after full tuning.
"""

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from confide.config import TransformerConfig
from confide.errors import ModelError, ProtocolError, StorageError
from confide.models import TextClassifier, trainable
from confide.plan import TrainingPlan
from confide.records import Tensors, sha256, shapes_of
from confide.workload import Compute, Workload, build_workload

SCHEMA = 1
_DESCRIPTION, _TENSORS = "confide.json", "trainable.safetensors"


def save_model(folder: Path, workload: Workload, tensors: Tensors, plan: TrainingPlan) -> str:
    """Write a model; the folder appears whole or not at all.

    Args:
        folder: made here; one that is there is replaced.
        workload: whose model the tensors belong to; they are loaded into it.
        tensors: trainable tensors.
        plan: task, backbone and tuning.

    Returns:
        The SHA-256 of the trainable tensors, as in ``summary.json``.

    Raises:
        StorageError: if it cannot be written.
    """
    digest = sha256(tensors)
    temporary = ""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-")
        _write(Path(temporary), workload, tensors, plan, digest)
        if folder.exists():
            shutil.rmtree(folder)
        Path(temporary).rename(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise StorageError(f"{folder} cannot be written: {error}. Mend this (free space?).") from None
    return digest


def _write(folder: Path, workload: Workload, tensors: Tensors, plan: TrainingPlan, digest: str) -> None:
    folder.chmod(0o755)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / _TENSORS)
    parts = {part: dataclasses.asdict(getattr(plan, part)) for part in ("task", "backbone", "tuning")}
    description = {
        "schema": SCHEMA,
        "model_sha256": digest,
        "backbone_sha256": plan.backbone_sha256,
        "plan": plan.to_json(),
        **parts,
    }
    (folder / _DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
    _save_hugging_face(folder, workload, tensors, plan.tuning.kind)


def _save_hugging_face(folder: Path, workload: Workload, tensors: Tensors, tuning: str) -> None:
    model = workload.model
    if not isinstance(model, TextClassifier):
        return
    with torch.no_grad():
        for name, parameter in trainable(model).items():
            parameter.copy_(tensors[name])
    model.encoder.save_pretrained(folder / ("adapter" if tuning == "lora" else "encoder"))


def load_model(folder: Path, *, compute: Compute) -> tuple[Workload, Tensors, Sequence[str]]:
    """Load a model that :func:`save_model` wrote.

    Returns:
        The workload, its trainable tensors (already in the model), and the class names.

    Raises:
        ModelError: if files are missing or damaged, or the backbone is not the one it was trained on.
    """
    try:
        description = json.loads((folder / _DESCRIPTION).read_text())
        tensors: Tensors = load_file(folder / _TENSORS)
    except (OSError, json.JSONDecodeError, SafetensorError) as error:
        raise ModelError(f"{folder} holds no model of confide: {error}") from None
    if description.get("schema") != SCHEMA or sha256(tensors) != description.get("model_sha256"):
        raise ModelError(
            f"{folder}: schema or model_sha256 does not fit the tensors; the folder is damaged or of another release."
        )
    try:
        plan = TrainingPlan.from_json(str(description.get("plan")))
    except ProtocolError as error:
        raise ModelError(f"{folder}: {error}") from None
    backbone = plan.backbone
    if isinstance(backbone, TransformerConfig):
        backbone = dataclasses.replace(backbone, sha256=plan.backbone_sha256)
    workload = build_workload(plan.task, backbone, plan.tuning, compute=compute, seed=0)
    parameters = trainable(workload.model)
    if shapes_of(parameters) != shapes_of(tensors):
        raise ModelError(f"{folder}: its tensors do not fit the backbone {backbone.kind}.")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])
    return workload, tensors, plan.task.labels


__all__ = ["load_model", "save_model"]
