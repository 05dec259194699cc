"""A model that predicts: a run's own, one exported for transformers, or one in ONNX."""

import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, cast

import torch
from datasets import Dataset
from torch import Tensor, nn

from confide.errors import ConfigError, ModelError
from confide.inference import packages
from confide.inference.exporter import exporter_of
from confide.inference.hub_folder import NOT_THE_MODEL
from confide.models.compute import Compute
from confide.models.encoders.assets import folder_assets
from confide.models.language.answering import AnswerModel
from confide.models.language.writing import Writer, WritingTask
from confide.models.saved import (
    RUN_FORM,
    Description,
    load_model,
    read_description,
    refuse_custom_task,
    with_backbone,
)
from confide.protocol.plan import TrainingPlan
from confide.tasks.build import build_task
from confide.tasks.outcomes.build import outcome_of
from confide.tasks.outcomes.outcome import Outcome
from confide.tasks.task import LABELS, Batch, Examples, Task, widened


class Form(NamedTuple):
    """A form that a model is exported to.

    Attributes:
        what: it is.
        library: that loads it, as hubs call it.
    """

    what: str
    library: str


FORMS = {
    "hf": Form("Hugging Face folder, the adapter beside its weights", "transformers"),
    "merged": Form("Hugging Face folder, the adapter merged into the weights", "transformers"),
    "onnx": Form("one ONNX file, float32", "onnx"),
    "int8": Form("one ONNX file, its matrices as 8-bit integers", "onnx"),
    "xgboost": Form("xgboost's JSON, for boosted trees", "xgboost"),
}
"""Forms that a model is exported to."""
ONNX_FILE = "model.onnx"
_UNHASHED = {*NOT_THE_MODEL, "confide.json"}


class Pass(NamedTuple):
    """Some records, and what a model gives for them.

    Attributes:
        indices: of the records, int64 of shape [b].
        outputs: logits on the CPU, shape [b, ...].
        batch: the records, labels among them.
    """

    indices: Tensor
    outputs: Tensor
    batch: Batch


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """A model that predicts.

    Attributes:
        folder: where it was loaded from.
        description: what it is.
        task: encodes records; scores, metrics.
        prepare: records -> what the model takes.
        logits: one batch, without labels, -> logits on the CPU, shape [b, ...].
        writer: writes predictions that are texts; None where they follow from outputs.
        module: what computes logits; None where that is not torch.
        network_fn: makes the whole network, from records as the task encodes them to outputs, for
            gradients in its inputs; None where there is none but what computes, as in ONNX.
        most_rows: records that are computed together at most; with 1 no other record has any part
            in the last bits of a record's outputs.
    """

    folder: Path
    description: Description
    task: Task
    prepare: Callable[[Dataset], Examples]
    logits: Callable[[Batch], Tensor]
    writer: Writer | None = None
    module: nn.Module | None = None
    network_fn: Callable[[], nn.Module] | None = None
    most_rows: int = 32

    @property
    def plan(self) -> TrainingPlan:
        """What it was trained on and how."""
        return self.description.plan

    @functools.cached_property
    def outcome(self) -> Outcome:
        """What it predicts."""
        return outcome_of(self.plan.task)

    def passes(self, examples: Examples, *, batch_size: int | None = None) -> Iterator["Pass"]:
        """Compute logits, records of one padded length together: none is padded for another."""
        for bucket in examples.length_buckets(torch.arange(len(examples))):
            for indices in bucket.split(batch_size or self.most_rows):
                batch = examples.take(indices)
                # A model of transformers that is given labels computes a loss.
                inputs = {name: column for name, column in batch.items() if name != LABELS}
                yield Pass(indices, self.logits(inputs), batch)

    def outputs(self, records: Dataset, *, batch_size: int | None = None) -> Tensor:
        """Compute logits of all records, at least one.

        Returns:
            Shape [n, ...]; where a model gives them for each token, [n, t, ...] with t the longest
            padded length, and 0 beyond a record's own.
        """
        examples, parts = self.prepare(records), []
        for part in self.passes(examples, batch_size=batch_size):
            parts.append((part.indices, part.outputs))
        per_token = examples.lengths is not None and parts[0][1].dim() > 2
        longest = max(found.shape[1] for _, found in parts)
        logits = torch.zeros((len(examples), longest, *parts[0][1].shape[2:]))
        for indices, found in parts:
            logits[indices] = widened(found, longest, fill=0) if per_token else found
        return logits

    def refuse_diverged(self, outputs: Tensor) -> None:
        """Check that what the model gave is finite.

        Raises:
            ModelError: naming the folder.
        """
        if not bool(outputs.isfinite().all()):
            raise ModelError(
                f"{self.folder}: its outputs are not finite; the run has diverged. Train it anew."
            )


def find_model(folder: Path) -> Path:
    """Return the folder of a model: the one named, or ``model/`` inside it.

    Raises:
        ModelError: if there is none.
    """
    for place in (folder, folder / "model"):
        if (place / "confide.json").is_file():
            return place
    found = (
        "no such folder"
        if not folder.is_dir()
        else "neither it nor its model/ holds a confide.json"
    )
    raise ModelError(
        f"{folder}: {found}; name RUN of a finished run, or a folder that confide export wrote."
    )


def load_predictor(
    folder: Path,
    *,
    compute: Compute,
    custom_tasks: Sequence[str] = (),
    backbone: Path | str | None = None,
) -> Predictor:
    """Load a model to predict with.

    Args:
        folder: RUN, ``RUN/model`` or an exported folder.
        compute: where; ONNX models are computed on the CPU.
        custom_tasks: dotted paths of custom tasks that may be imported; none is on a file's
            word.
        backbone: folder of a run's pretrained backbone; None: where it was when it was trained.

    Raises:
        ModelError: if there is no model, files are damaged, or the backbone is not the one it was
            trained on.
        ConfigError: if it needs a package that is not installed.
    """
    place = find_model(folder)
    description = read_description(place)
    if description.form == RUN_FORM:
        plan = with_backbone(description.plan, backbone)
        workload, _, _ = load_model(
            place, compute=compute, custom_tasks=custom_tasks, backbone=backbone
        )
        return Predictor(
            folder=place,
            description=replace(description, plan=plan),
            task=workload.task,
            prepare=workload.prepare,
            logits=_torch_logits(workload.model, compute.device),
            writer=_writer(workload.task, workload.whole_fn, plan, compute.device),
            module=workload.model,
            network_fn=lambda: exporter_of(plan).whole(workload, plan, merge=False),
        )
    if backbone is not None:
        raise ConfigError(
            f"backbone={backbone}: {place} was exported and brings its weights; leave it out."
        )
    return _load_exported(place, description, compute=compute, custom_tasks=custom_tasks)


def _load_exported(
    place: Path, description: Description, *, compute: Compute, custom_tasks: Sequence[str]
) -> Predictor:
    """Load an exported model, all of whose files are as they were written."""
    if description.form not in FORMS:
        raise ModelError(
            f"{place}: expected form={', '.join(FORMS)}, got {description.form}; it is of another"
            " release."
        )
    # All that decides outputs was hashed: a folder half copied must not predict something else.
    present = hash_files(place)
    changed = [name for name, digest in description.files.items() if present.get(name) != digest]
    if changed:
        raise ModelError(
            f"{place}: {', '.join(changed)} is missing or not what was exported; export it anew."
        )
    refuse_custom_task(place, description.plan, custom_tasks)
    exporter = exporter_of(description.plan)
    schema = exporter.encoded_task(description.plan, description.form)
    task = build_task(schema, folder_assets(place), custom_tasks)
    load_fn = functools.partial(exporter.load_folder, place)
    network: nn.Module | None = None
    if description.form in ("onnx", "int8"):
        logits = _onnx_logits(place)
    else:
        network = load_fn()
        logits = _torch_logits(network, compute.device)
    return Predictor(
        folder=place,
        description=description,
        task=task,
        prepare=task.encode,
        logits=logits,
        writer=_writer(task, load_fn, description.plan, compute.device),
        module=network,
        network_fn=None if network is None else lambda: network,
    )


def _writer(
    task: Task,
    load_fn: Callable[[], nn.Module] | None,
    plan: TrainingPlan,
    device: torch.device,
) -> Writer | None:
    if load_fn is None or not isinstance(task, WritingTask):
        return None
    load = cast(Callable[[], AnswerModel], load_fn)
    return Writer(task=task, load=load, device=device, is_private=plan.private)


def hash_files(folder: Path) -> dict[str, str]:
    """Hash what decides an exported model's outputs; name -> SHA-256."""
    files = sorted(
        path for path in folder.iterdir() if path.is_file() and path.name not in _UNHASHED
    )
    digests = {}
    for path in files:
        with path.open("rb") as file:
            digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def _torch_logits(model: nn.Module, device: torch.device) -> Callable[[Batch], Tensor]:
    model = model.to(device).eval()

    def logits(batch: Batch) -> Tensor:
        with torch.inference_mode():
            outputs = model(**{name: column.to(device) for name, column in batch.items()})
        made: Tensor = outputs if isinstance(outputs, Tensor) else outputs.logits
        return made.float().cpu()

    return logits


def _onnx_logits(folder: Path) -> Callable[[Batch], Tensor]:
    packages.require(packages.RUNTIME, f"{folder / ONNX_FILE}")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    try:
        session = onnxruntime.InferenceSession(
            folder / ONNX_FILE, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its exceptions have no common class of their own
        raise ModelError(
            f"{folder / ONNX_FILE} cannot be loaded: {str(error).splitlines()[0]}"
        ) from None

    def logits(batch: Batch) -> Tensor:
        inputs = {name: column.cpu().numpy() for name, column in batch.items()}
        return torch.from_numpy(session.run(["logits"], inputs)[0])

    return logits


__all__ = [
    "FORMS",
    "ONNX_FILE",
    "Pass",
    "Predictor",
    "find_model",
    "hash_files",
    "load_predictor",
]
