"""A model on disk: what was trained, and what it takes to use it.

``model/`` holds ``confide.json`` (task, backbone with content hash, tuning),
``trainable.safetensors`` (the tensors that travelled), ``curves.json`` for a linear model of a
table and, for a pretrained backbone, what Hugging
Face tools read: a PEFT adapter in ``adapter/``, or the whole encoder in ``encoder/`` after full
tuning.
"""

import contextlib
import dataclasses
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeGuard

import torch
from safetensors import SafetensorError

from confide.errors import ModelError, ProtocolError, StorageError, UnreadableError
from confide.models.backbones import find_backbone
from confide.models.compute import Compute
from confide.models.curves import curves_of
from confide.models.networks import trainable
from confide.models.workload import Workload, build_workload
from confide.protocol.lineage import is_sha256
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors, shapes_of
from confide.storage.tensor_files import read_tensors, sha256, write_tensors

SCHEMA = 1
RUN_FORM = "run"
"""The form that :func:`save_model` writes; exported folders name theirs."""
_DESCRIPTION, _TENSORS = "confide.json", "trainable.safetensors"
CURVES = "curves.json"
"""What each column of a table adds, beside a linear model."""


@dataclass(frozen=True)
class Description:
    """What ``confide.json`` says of a folder.

    Attributes:
        plan: task, backbone and tuning.
        model_sha256: of the run's trainable tensors.
        form: ``run``, or the form it was exported to.
        files: of an exported folder, name -> SHA-256.
    """

    plan: TrainingPlan
    model_sha256: str
    form: str = RUN_FORM
    files: Mapping[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write ``confide.json``."""
        # The plan is what is read again; its parts are there for people and other programs.
        values: dict[str, Any] = {
            "schema": SCHEMA,
            "model_sha256": self.model_sha256,
            "backbone_sha256": self.plan.backbone_sha256,
            "plan": self.plan.to_json(),
            **{
                part: dataclasses.asdict(getattr(self.plan, part))
                for part in ("task", "backbone", "tuning")
            },
        }
        if self.form != RUN_FORM:
            values |= {"form": self.form, "files": dict(self.files)}
        (folder / _DESCRIPTION).write_text(json.dumps(values, indent=2) + "\n")


def read_description(folder: Path) -> Description:
    """Read ``confide.json``.

    Raises:
        ModelError: if there is none, it is damaged or of another release, or the folder holds what
            is no file.
    """
    _refuse_odd_entries(folder)
    try:
        values = json.loads((folder / _DESCRIPTION).read_text())
        if not isinstance(values, dict):
            raise ValueError(f"{_DESCRIPTION} is no JSON object.")
        # Before the plan, which another release may have written in its own way.
        if values.get("schema") != SCHEMA:
            raise ModelError(
                f"{folder}: expected schema={SCHEMA}, got {values.get('schema')}; the folder is of"
                " another release."
            )
        plan = TrainingPlan.from_json(str(values.get("plan")))
        digest = values.get("model_sha256")
        form, files = values.get("form", RUN_FORM), values.get("files", {})
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{folder} holds no model of confide: {error}") from None
    except ProtocolError as error:
        raise ModelError(f"{folder}: {error}") from None
    named = isinstance(files, dict) and all(map(_is_digest, files.values()))
    if not (_is_digest(digest) and isinstance(form, str) and named):
        raise ModelError(
            f"{folder} holds no model of confide: expected model_sha256 as a SHA-256, form as text,"
            f" and files as name -> SHA-256; bring the {_DESCRIPTION} that was written."
        )
    return Description(plan, digest, form, files)


def _is_digest(value: object) -> TypeGuard[str]:
    # It names files of whoever uses the model, such as what drift is told by
    return isinstance(value, str) and is_sha256(value)


def _refuse_odd_entries(folder: Path) -> None:
    """Refuse what no model holds: a pipe would be waited for, and a device has no end."""
    for entry in folder.rglob("*"):
        if not (entry.is_file() or entry.is_dir()):
            raise ModelError(
                f"{folder} holds {entry.relative_to(folder)}, which is neither a file nor a folder;"
                " bring the folder that was written."
            )


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
    try:
        with new_folder(folder) as made:
            write_tensors(made / _TENSORS, tensors, mode=0o644)
            Description(plan, digest).write(made)
            curves = curves_of(plan, tensors)
            if curves is not None:
                (made / CURVES).write_text(json.dumps(curves) + "\n")
            if workload.save_beside is not None:
                load_into(workload, tensors)
                workload.save_beside(made)
    except (OSError, SafetensorError, StorageError) as error:
        raise StorageError(
            f"{folder} cannot be written: {error}. Fix this (free space?)."
        ) from None
    return digest


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give a folder to fill, which takes its place once it is full; an error leaves nothing.

    Args:
        folder: made here; one that is there is replaced.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target: a rename across file systems would copy.
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        temporary.chmod(0o755)  # mkdtemp leaves 0700
        yield temporary
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def load_into(workload: Workload, tensors: Tensors) -> None:
    """Put trainable tensors into a model."""
    with torch.no_grad():
        for name, parameter in trainable(workload.model).items():
            parameter.copy_(tensors[name])


def refuse_custom_task(folder: Path, plan: TrainingPlan, custom_tasks: Sequence[str]) -> None:
    """Check that a model needs no task to be imported but those that may be.

    Raises:
        ModelError: naming the task.
    """
    if not set(plan.task.custom_tasks) <= set(custom_tasks):
        path = plan.task._target_
        raise ModelError(
            f"{folder} was trained with a custom task, {path}, which is not imported on a"
            f" file's word; if you trust it, say so: --custom-task {path}, or"
            f" custom_tasks=[{path!r}]."
        )


def with_backbone(plan: TrainingPlan, folder: Path | str | None) -> TrainingPlan:
    """Return a plan whose backbone lies where it is now, and check that it is the one trained on.

    Args:
        plan: of a model.
        folder: of its backbone; None: where the plan says.

    Raises:
        ModelError: if it is not there, or another one, or the model has no pretrained backbone.
    """
    weights = plan.backbone.pretrained
    if folder is None and weights is None:
        return plan
    if weights is None:
        raise ModelError(
            f"backbone={folder}: backbone.kind={plan.backbone.kind} starts from no weights; leave"
            " it out."
        )
    moved = plan.backbone.pinned(
        plan.backbone_sha256, folder=None if folder is None else str(folder)
    )
    assert moved.pretrained is not None
    try:
        find_backbone(moved.pretrained)
    except ModelError as error:
        if folder is not None:
            raise
        raise ModelError(
            f"{error} If it lies elsewhere now, say where: --backbone FOLDER, or backbone=FOLDER."
        ) from None
    return replace(plan, backbone=moved)


def read_saved(folder: Path) -> tuple[Description, Tensors]:
    """Read what was saved, and check that it is whole.

    Raises:
        ModelError: if files are missing, damaged or changed.
    """
    description = read_description(folder)
    try:
        tensors = read_tensors(folder / _TENSORS).tensors
    except UnreadableError as error:
        raise ModelError(f"{folder} holds no model of confide: {error}") from None
    if sha256(tensors) != description.model_sha256:
        raise ModelError(f"{folder}: model_sha256 does not fit the tensors; the folder is damaged.")
    return description, tensors


def load_model(
    folder: Path,
    *,
    compute: Compute,
    custom_tasks: Sequence[str] = (),
    backbone: Path | str | None = None,
) -> tuple[Workload, Tensors, Sequence[str]]:
    """Load a model that :func:`save_model` wrote.

    Args:
        folder: where it lies.
        compute: where and how it will be used.
        custom_tasks: dotted paths of tasks that may be imported; a folder that names another one is
            refused.
        backbone: folder of its pretrained backbone; None: where it was when it was trained.

    Returns:
        The workload, its trainable tensors (already in the model), and the class names; () for any
        other outcome.

    Raises:
        ModelError: if files are missing or damaged, or the backbone is not the one it was trained
            on.
    """
    description, tensors = read_saved(folder)
    plan = description.plan
    refuse_custom_task(folder, plan, custom_tasks)
    start = with_backbone(plan, backbone).backbone
    # Any seed: what starts at random is trained, and so among the tensors that replace it.
    workload = build_workload(
        plan.encoded_task, start, plan.tuning, compute=compute, seed=0, custom_tasks=custom_tasks
    )
    if shapes_of(trainable(workload.model)) != shapes_of(tensors):
        raise ModelError(f"{folder}: its tensors do not fit the backbone {start.kind}.")
    load_into(workload, tensors)
    return workload, tensors, plan.task.labels


__all__ = [
    "CURVES",
    "RUN_FORM",
    "Description",
    "load_into",
    "load_model",
    "new_folder",
    "read_description",
    "read_saved",
    "refuse_custom_task",
    "save_model",
    "with_backbone",
]
