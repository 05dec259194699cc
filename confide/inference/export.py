"""A run's model in a form that others can use, checked against the run's own before it appears."""

from collections.abc import Sequence
from pathlib import Path

import numpy
import pandas
import torch
from datasets import Dataset
from safetensors import SafetensorError

from confide.config.models.table import BACKBONES
from confide.config.tasks.table import TASKS
from confide.config.tunings.table import TUNINGS
from confide.errors import ConfigError, ModelError, StorageError
from confide.inference import packages
from confide.inference.comparison import TOLERANCE, Comparison, compare
from confide.inference.exporter import exporter_of
from confide.inference.hub_folder import found, handed_over, write_hub_files
from confide.inference.inputs import read_inputs
from confide.inference.predictor import FORMS, Predictor, find_model, hash_files, load_predictor
from confide.inference.usage import usage_of
from confide.models.backbones import find_backbone
from confide.models.compute import Compute
from confide.models.saved import (
    RUN_FORM,
    Description,
    load_model,
    new_folder,
    read_description,
)
from confide.protocol.plan import TrainingPlan
from confide.tasks.invented import invented_records
from confide.tasks.labelled import Labelled
from confide.tasks.task import InventsRecords

_INVENTED = 64


def export(
    run: Path | str,
    form: str,
    folder: Path | str | None = None,
    *,
    check: Dataset | pandas.DataFrame | None = None,
    custom_tasks: Sequence[str] = (),
    backbone: Path | str | None = None,
) -> Comparison:
    """Export a run's model; its folder appears whole, and only if it does what the run's does.

    Args:
        run: RUN or ``RUN/model``.
        form: hf, merged, onnx, int8 or xgboost.
        folder: where to; None for ``RUN/export/FORM``. One that an earlier export wrote is
            replaced, any other refused.
        check: records to compare on, best labelled ones; None for invented ones.
        custom_tasks: dotted paths of custom tasks that may be imported; none is on a file's
            word.
        backbone: folder of the run's pretrained backbone; None: where it was when it was trained.

    Returns:
        The comparison. Exact forms differ by at most 1e-4 in logits and probabilities; int8 by what
        it says.

    Raises:
        ConfigError: if the form is unknown, needs a package that is not installed, or the folder is
            taken.
        DataError: if the records do not fit the task's schema.
        ModelError: if there is no model, or an exact form of it differs from it.
        StorageError: if the folder cannot be written.
    """
    own = _load_own(Path(run), form, custom_tasks, backbone)
    place = default_folder(own.folder, form) if folder is None else Path(folder)
    _refuse_taken(place)
    inputs = read_inputs(own, _invented(own) if check is None else check)
    try:
        with new_folder(place) as made:
            comparison = compare(own, _write(own, form, made), inputs)
            # Inside, so that a form that differs leaves no folder.
            if form != "int8" and not comparison.exact:
                raise ModelError(
                    f"--to {form}: outputs differ from the run's own by"
                    f" {comparison.difference:.2g} in {comparison.score_name} and"
                    f" {comparison.logit_difference:.2g} in logits, allowed {TOLERANCE:g}; nothing"
                    " was written. Choose another form."
                )
    except (OSError, SafetensorError) as error:
        raise StorageError(
            f"{place} cannot be written: {error}. Free space or name another folder."
        ) from None
    return comparison


def _invented(own: Predictor) -> Dataset:
    if isinstance(own.task, InventsRecords):
        return own.task.invent(_INVENTED, torch.Generator().manual_seed(0))
    if isinstance(own.task, Labelled):
        return Dataset.from_dict(own.task.invent_columns(_INVENTED, numpy.random.default_rng(0)))
    return invented_records(own.plan.task, _INVENTED)


def _load_own(
    run: Path, form: str, custom_tasks: Sequence[str], backbone: Path | str | None
) -> Predictor:
    """Load a run's own model, if it can be exported to a form."""
    if form not in FORMS:
        raise ConfigError(f"--to {form}: expected one of {', '.join(FORMS)}.")
    place = find_model(run)
    description = read_description(place)
    if description.form != RUN_FORM:
        raise ConfigError(
            f"{place} was exported already, to {description.form}; export the run that it came"
            " from."
        )
    _refuse_form(form, description.plan)
    # Before anything is loaded, which takes its time; after what no package would mend
    if form in ("onnx", "int8"):
        packages.require(packages.CONVERTER, f"--to {form}")
    if form == "xgboost":
        packages.require(packages.TREES, f"--to {form}", extra="trees")
    return load_predictor(run, compute=Compute(), custom_tasks=custom_tasks, backbone=backbone)


def _refuse_form(form: str, plan: TrainingPlan) -> None:
    """Refuse a form that a model does not have, and say which it has.

    Raises:
        ConfigError: if it has not.
    """
    task, backbone, tuning = plan.task.kind, plan.backbone.kind, plan.tuning.kind
    offered, of_backbone = TASKS[task].forms, BACKBONES[backbone].forms
    of_task = FORMS if offered is None else offered
    of_tuning = TUNINGS[tuning].forms if BACKBONES[backbone].has_weights else FORMS
    has = [one for one in of_backbone if one in of_task and one in of_tuning]
    if form in has:
        return
    if form not in of_task:
        why = f"records of task.kind={task} have no such form"
    elif form not in of_backbone:
        why = f"a model of backbone.kind={backbone} has no such form"
    else:
        why = f"what tuning.kind={tuning} adds cannot be merged into the backbone's weights"
    raise ConfigError(f"--to {form}: {why}; it is exported to {', '.join(has) or 'none'} only.")


def default_folder(run: Path, form: str) -> Path:
    """Return ``RUN/export/FORM``.

    Raises:
        ModelError: if there is no model.
    """
    return find_model(run).parent / "export" / form


def _refuse_taken(place: Path) -> None:
    # What is there will be replaced: only an export is known to be of no other use.
    if not place.exists():
        return
    try:
        exported = read_description(place).form != RUN_FORM
    except ModelError:
        exported = False
    if not exported:
        raise ConfigError(
            f"{place} is there and was not written by confide export; name another folder."
        )


def _write(own: Predictor, form: str, folder: Path) -> Predictor:
    """Write, and load what was written as anybody would."""
    custom_tasks = own.plan.task.custom_tasks  # allowed when `own` was loaded
    # As it was trained: where its backbone was moved to is this machine's affair.
    trained = read_description(own.folder).plan
    # A second copy: an adapter is taken out of it.
    weights = own.plan.backbone.pretrained
    workload, _, _ = load_model(
        own.folder,
        compute=Compute(),
        custom_tasks=custom_tasks,
        backbone=None if weights is None else find_backbone(weights),
    )
    if form in ("onnx", "int8"):
        from confide.inference.onnx_form import write_onnx

        write_onnx(folder, workload, own.plan, int8=form == "int8")
    else:
        exporter_of(own.plan).write_folder(folder, workload, own.plan, keep_adapter=form == "hf")
    usage = usage_of(folder, trained, form)
    write_hub_files(folder, own.folder.parent, trained, found(own.plan), usage)
    for path in folder.iterdir():
        path.chmod(0o644)  # safetensors leaves 0600
    Description(handed_over(trained), own.description.model_sha256, form, hash_files(folder)).write(
        folder
    )
    return load_predictor(folder, compute=Compute(), custom_tasks=custom_tasks)


__all__ = ["default_folder", "export"]
