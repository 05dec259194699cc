"""What a run starts from: the tensors of a model that another run released."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from confide.errors import ModelError
from confide.models.networks import trainable
from confide.models.saved import RUN_FORM, Description, read_description, read_saved
from confide.models.workload import Workload
from confide.protocol.lineage import MOST_PARENTS, Parent
from confide.protocol.plan import TrainingPlan

_NOT_LEARNT = ("metrics", "primary_metric", "drafted", "self_training", "subgroups")
"""Settings of a task that tensors do not depend on."""
_WHERE = ("name", "sha256", "allow_download", "catalogue")
"""Settings of a backbone that say where its files are; their hash says which they are."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a run started from.

    Attributes:
        taken: names of the tensors that were taken, at least one.
        anew: names of those that start anew.
        plan: of the run whose model it was.
        model_sha256: of that model's tensors.
    """

    taken: Sequence[str]
    anew: Sequence[str]
    plan: TrainingPlan
    model_sha256: str


def parent_of(plan: TrainingPlan, model_sha256: str) -> Parent:
    """Return what a run is to those that start from its model.

    Args:
        plan: the run's.
        model_sha256: of what it released.
    """
    privacy = plan.privacy
    # The most that it costs a unit: one is read by training or by scores
    epsilon = max(privacy.epsilon, privacy.metrics_epsilon or 0.0)
    return Parent(
        model_sha256=model_sha256,
        plan_sha256=plan.sha256,
        job=plan.job,
        num_rounds=plan.num_rounds + privacy.spare_rounds,
        unit=privacy.unit,
        epsilon=epsilon if plan.private else None,
        delta=privacy.delta if plan.private else None,
    )


def parents_of(earlier: Description) -> tuple[Parent, ...]:
    """Return the lineage of a model that is trained from another one, the oldest run first.

    Args:
        earlier: the model that it starts from.

    Raises:
        ModelError: if it is longer than a plan may tell.
    """
    told = (*earlier.plan.parents, parent_of(earlier.plan, earlier.model_sha256))
    if len(told) > MOST_PARENTS:
        raise ModelError(
            f"The model was trained in {len(told)} runs, one from the other, and a plan tells of"
            f" {MOST_PARENTS} at most; start from the backbone anew."
        )
    return told


def goes_on_whole(plan: TrainingPlan, earlier: TrainingPlan) -> bool:
    """Say whether a run starts as the very model of an earlier one: of the same network and tuning.

    Args:
        plan: of the run.
        earlier: of the run whose model it starts from.
    """
    same = asdict(plan.tuning) == asdict(earlier.tuning)
    return same and _network(plan) == _network(earlier) and _meaning(plan) == _meaning(earlier)


def start_from(workload: Workload, plan: TrainingPlan, folder: Path) -> Start:
    """Let a model start from what another one was trained to, as far as tensors are the same ones.

    So a model goes on with new records, or a head is trained first and adapters with it afterwards
    (LP-FT: Kumar et al., ICLR 2022). Of a model that was trained privately this is post-processing:
    it costs nothing more.

    Args:
        workload: whose model starts.
        plan: of its training.
        folder: RUN of a finished run, or its model.

    Raises:
        ModelError: if there is no such model, it is damaged, of another backbone or task, shares no
            tensor with this one, or was tuned otherwise beside its head.
    """
    described = read_description(model_folder(folder))
    if described.form != RUN_FORM:
        raise ModelError(
            f"{folder} was exported ({described.form}), for use and not for training; name the RUN"
            " that it came from."
        )
    _, tensors = read_saved(model_folder(folder))
    _refuse_other_meaning(plan, described.plan, folder)
    named = trainable(workload.model)
    taken = [
        name
        for name, parameter in named.items()
        if name in tensors and tensors[name].shape == parameter.shape
    ]
    if not taken:
        raise ModelError(
            f"server.start_from={folder}: of its tensors, such as {', '.join(list(tensors)[:3])},"
            " this model trains none in that shape; name a run of the same task and backbone."
        )
    _refuse_other_tuning(plan, described.plan, folder, taken)
    with torch.no_grad():
        for name in taken:
            named[name].copy_(tensors[name])
    return Start(
        taken=taken,
        anew=[name for name in named if name not in taken],
        plan=described.plan,
        model_sha256=described.model_sha256,
    )


def _refuse_other_meaning(plan: TrainingPlan, earlier: TrainingPlan, folder: Path) -> None:
    """Refuse tensors that mean something else, of whatever name and shape they are."""
    one, other = _meaning(plan), _meaning(earlier)
    differing = [name for name in one if one[name] != other.get(name)]
    if differing:
        raise ModelError(
            f"server.start_from={folder}: it was trained with another {', '.join(differing)};"
            " name a run of the same task and backbone."
        )


def _refuse_other_tuning(
    plan: TrainingPlan, earlier: TrainingPlan, folder: Path, taken: Sequence[str]
) -> None:
    """Refuse tensors below the head that were scaled otherwise, or on other frozen tensors."""
    here, there = asdict(plan.tuning), asdict(earlier.tuning)
    if here != there and any(not name.startswith("head.") for name in taken):
        words = " ".join(
            f"tuning.{key}={value}" for key, value in there.items() if here.get(key) != value
        )
        raise ModelError(
            f"server.start_from={folder}: beside the head it was trained with {words}; set the"
            " same, or name a run of the head alone."
        )


def model_folder(folder: Path) -> Path:
    """Return where a model lies: a folder that holds one, or RUN/model."""
    return folder if (folder / "confide.json").is_file() else folder / "model"


def _meaning(plan: TrainingPlan) -> dict[str, object]:
    """Return what tensors of a plan are about: the records, as encoded, and the frozen weights."""
    task = asdict(plan.encoded_task)
    return {
        **{f"task.{name}": it for name, it in task.items() if name not in _NOT_LEARNT},
        "backbone.kind": plan.backbone.kind,
        "backbone.sha256": plan.backbone_sha256,
    }


def _network(plan: TrainingPlan) -> dict[str, object]:
    """Return what makes a network another function of the same tensors."""
    return {name: it for name, it in asdict(plan.backbone).items() if name not in _WHERE}


__all__ = ["Start", "goes_on_whole", "model_folder", "parent_of", "parents_of", "start_from"]
