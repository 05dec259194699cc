"""What of training goes together: an algorithm, a local round, a model and a number of rounds.

Both sides ask: the coordinator of its config, an institution of a plan.
"""

from collections.abc import Iterator

from confide.config.client import ClientConfig
from confide.config.models.backbone import BackboneConfig
from confide.config.models.table import BACKBONES
from confide.config.server import ServerConfig
from confide.config.strategies.strategy import ALGORITHMS, ObjectiveConfig
from confide.config.tasks.table import TASKS
from confide.config.tasks.task import TaskConfig
from confide.config.tunings.table import TUNINGS
from confide.config.tunings.tuning import TuningConfig


def objective_problems(
    objective: ObjectiveConfig, client: ClientConfig, *, private: bool
) -> Iterator[str]:
    """Yield why an algorithm's client part cannot run as asked.

    Args:
        objective: the algorithm's settings.
        client: settings of a local round.
        private: whether training is under differential privacy.
    """
    yield from objective.client_problems(client)
    algorithm = ALGORITHMS[objective.kind]
    if client.steps_within_s is not None and not algorithm.any_steps:
        fits = " or ".join(name for name, kind in ALGORITHMS.items() if kind.any_steps)
        yield (
            f"objective.kind={objective.kind} takes all its steps, and"
            f" client.steps_within_s={client.steps_within_s:g} allows for fewer; leave it out, or"
            f" set strategy/objective={fits}."
        )
    if algorithm.needs_gram and not private:
        yield (
            f"objective.kind={objective.kind} weighs noise against curvature; without privacy"
            " choose strategy=newton client=table, which needs neither, or set privacy=record."
        )
    if private and algorithm.exact:
        yield (
            f"objective.kind={objective.kind}, which client=trees chooses, sends"
            f" {algorithm.sends}: without noise, so that no epsilon covers them; set privacy=none"
            f" where every institution may send them, or choose {algorithm.under_privacy}."
        )
    elif private and algorithm.reads_records:
        yield (
            f"objective.kind={objective.kind} computes more from records than the local steps,"
            f" which privacy does not cover; set privacy=none, or {algorithm.under_privacy}."
        )


def record_problems(
    task: TaskConfig, tuning: TuningConfig, objective: ObjectiveConfig
) -> Iterator[str]:
    """Yield why what is trained of a model does not go with its records, or with an algorithm."""
    if task.augmentation is not None and tuning.kind == "head":
        yield (
            f"task.views={task.augmentation.views}: tuning=head trains on features that the frozen"
            " backbone computes once a picture, before any view of it; set task.views=1, or"
            " tuning=lora."
        )
    yield from tuning.problems()
    kind, algorithm = TUNINGS.get(tuning.kind), ALGORITHMS.get(objective.kind)
    is_part = kind is not None and bool(kind.turns or getattr(tuning, "ranks", None))
    if is_part and algorithm is not None and (algorithm.remains or algorithm.personal):
        yield (
            f"objective.kind={objective.kind} keeps something of each round for all trained"
            f" tensors, and tuning={tuning.kind} trains a part of them in each; choose"
            " strategy=fedavg or fedprox, or tuning=lora without tuning.ranks."
        )
    if algorithm is not None and algorithm.tuning not in ("", tuning.kind):
        yield (
            f"objective.kind={objective.kind} is defined for tuning={algorithm.tuning}, and"
            f" tuning.kind={tuning.kind}; set tuning={algorithm.tuning}, or strategy=fedavg."
        )
    if task.subgroups and task.kind in TASKS and TASKS[task.kind].maker is not None:
        yield (
            f"task.subgroups names {', '.join(task.subgroups)}: records of task.kind={task.kind}"
            " are made of a source's rows, and are of no group; leave it out."
        )
    if task.self_training is None:
        return
    key = f"task.self_training={task.self_training:g}"
    if objective.kind in ALGORITHMS and ALGORITHMS[objective.kind].reads_records:
        yield (
            f"{key}: objective.kind={objective.kind} adds up sums over records by their labels;"
            " leave it out, and records without a label too, or choose strategy=fedavg."
        )
    if algorithm is not None and algorithm.personal:
        yield (
            f"{key}: labels are what the global model is sure of, and objective.kind="
            f"{objective.kind} has institutions predict with others; leave it out, or choose"
            " strategy=fedavg."
        )
    if task.kind in TASKS and TASKS[task.kind].maker is not None:
        yield (
            f"{key}: records of task.kind={task.kind} are made of a source's rows, labels and all;"
            " leave it out."
        )


def feature_problems(
    task: TaskConfig, backbone: BackboneConfig, tuning: TuningConfig, objective: ObjectiveConfig
) -> Iterator[str]:
    """Yield why an algorithm that compares representations finds none that training changes."""
    kind, algorithm = BACKBONES.get(backbone.kind), ALGORITHMS.get(objective.kind)
    if kind is None or algorithm is None or not algorithm.compares:  # reported as out of range
        return
    wrong = None
    if not kind.has_features:
        wrong = f"backbone.kind={backbone.kind} has none"
    elif tuning.kind == "head":
        wrong = "tuning.kind=head leaves it as it is"
    elif task.kind == "token_classification":
        wrong = f"task.kind={task.kind} has one for each token"
    if wrong is not None:
        yield (
            f"objective.kind={objective.kind} compares what goes into the last layer, one vector a"
            f" record, and {wrong}; choose strategy=fedprox, or a model such as backbone=mlp."
        )


def tuning_problems(tuning: TuningConfig, objective: ObjectiveConfig) -> Iterator[str]:
    """Yield why a kind of tuning is nothing without an algorithm, which a run does not name."""
    own = [name for name, kind in ALGORITHMS.items() if kind.tuning == tuning.kind]
    if own and objective.kind not in own:
        yield (
            f"tuning={tuning.kind} sends what objective.kind={objective.kind} never changes; set"
            f" strategy={' or '.join(own)}, or tuning=lora."
        )


def model_problems(
    backbone: BackboneConfig, objective: ObjectiveConfig, num_rounds: int
) -> Iterator[str]:
    """Yield why an algorithm does not train a model in so many rounds.

    Args:
        backbone: the model's settings.
        objective: the algorithm's settings.
        num_rounds: rounds planned.
    """
    kind = BACKBONES.get(backbone.kind)
    if kind is None or objective.kind not in ALGORITHMS:  # reported as out of range
        return
    if kind.algorithm is not None and kind.algorithm != objective.kind:
        yield (
            f"objective.kind={objective.kind} does not train backbone.kind={backbone.kind};"
            f" choose client={backbone.kind}, which brings strategy={kind.algorithm}, and no other"
            " strategy."
        )
        return
    others = [name for name, one in BACKBONES.items() if one.algorithm == objective.kind]
    if others and backbone.kind not in others:
        yield (
            f"objective.kind={objective.kind} does not train backbone.kind={backbone.kind}; choose"
            f" backbone={' or '.join(others)}, or another strategy, such as strategy=fedavg."
        )
    yield from objective.round_problems(num_rounds)
    needed = backbone.needed_rounds
    if needed is not None and num_rounds != needed:
        yield (
            f"num_rounds={num_rounds}: {backbone.describe(TuningConfig(kind='full'))}, take"
            f" {needed} rounds; leave it out, or set {needed}."
        )


def personal_problems(
    objective: ObjectiveConfig, backbone: BackboneConfig, tuning: TuningConfig, server: ServerConfig
) -> Iterator[str]:
    """Yield what does not go with tensors that institutions have of their own.

    Args:
        objective: the algorithm's settings.
        backbone: the model's settings.
        tuning: what of it is trained.
        server: settings of the rounds.
    """
    kind = ALGORITHMS.get(objective.kind)
    if kind is None or not kind.personal:
        return
    key = f"strategy.objective.kind={objective.kind}"
    if kind.stays == "head" and (backbone.is_linear or tuning.kind == "head"):
        yield (
            f"{key}: the head stays at each institution, and of backbone.kind={backbone.kind},"
            f" tuning.kind={tuning.kind} nothing else is trained, so that nothing would be shared;"
            " choose strategy=ditto, or train more of the model (backbone=mlp, tuning=lora)."
        )
    if server.keep == "best":
        yield (
            f"server.keep=best: {key} has institutions predict with tensors of their own, which are"
            " those of the last round; set server.keep=last."
        )
    if server.patience is not None and objective.kind in ("fine_tuning", "ifca"):
        yield (
            f"server.patience={server.patience}: {key} gives institutions their own models in the"
            " last rounds planned, which might never come; set server.patience=null."
        )


__all__ = [
    "feature_problems",
    "model_problems",
    "objective_problems",
    "personal_problems",
    "record_problems",
    "tuning_problems",
]
