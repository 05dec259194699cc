"""What of training goes together: an algorithm, a local round, a model and a number of rounds.

Both sides ask: the coordinator of its config, an institution of a plan.
"""

from collections.abc import Iterator

from confide.config.client import ClientConfig
from confide.config.models.backbone import BackboneConfig
from confide.config.models.table import BACKBONES
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
    kind, algorithm = TUNINGS.get(tuning.kind), ALGORITHMS.get(objective.kind)
    if kind is not None and kind.turns and algorithm is not None and algorithm.remains:
        yield (
            f"objective.kind={objective.kind} keeps something of each round for all trained"
            f" tensors, and tuning={tuning.kind} trains a part of them in each; choose"
            " strategy=fedavg or fedprox, or tuning=lora."
        )
    if task.self_training is None:
        return
    key = f"task.self_training={task.self_training:g}"
    if objective.kind in ALGORITHMS and ALGORITHMS[objective.kind].reads_records:
        yield (
            f"{key}: objective.kind={objective.kind} adds up sums over records by their labels;"
            " leave it out, and records without a label too, or choose strategy=fedavg."
        )
    if task.kind in TASKS and TASKS[task.kind].maker is not None:
        yield (
            f"{key}: records of task.kind={task.kind} are made of a source's rows, labels and all;"
            " leave it out."
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
    needed = backbone.needed_rounds
    if needed is not None and num_rounds != needed:
        yield (
            f"num_rounds={num_rounds}: {backbone.describe(TuningConfig(kind='full'))}, take"
            f" {needed} rounds; leave it out, or set {needed}."
        )


__all__ = ["model_problems", "objective_problems", "record_problems"]
