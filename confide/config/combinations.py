"""What a run's task, backbone, tuning and algorithm say of each other."""

from collections.abc import Iterator

from confide.config.models.backbone import BackboneConfig
from confide.config.models.table import BACKBONES
from confide.config.outcomes.table import OUTCOMES
from confide.config.strategies.strategy import ALGORITHMS, StrategyConfig, objective_of
from confide.config.strategies.training import model_problems
from confide.config.tasks.table import TASKS
from confide.config.tasks.task import TaskConfig
from confide.config.tunings.table import REFUSED
from confide.config.tunings.tuning import TuningConfig


def kind_problems(
    task: TaskConfig, backbone: BackboneConfig, tuning: TuningConfig
) -> Iterator[str]:
    """Yield where kinds of task, backbone and tuning, which exist, do not fit each other."""
    task_kind, backbone_kind = TASKS[task.kind], BACKBONES[backbone.kind]
    named = f"backbone.kind={backbone.kind}"
    if backbone.kind not in task_kind.backbones:
        fits = " or ".join(BACKBONES[name].choice for name in task_kind.backbones)
        yield f"{named} does not fit task.kind={task.kind}; choose backbone={fits}."
    outcome = task.outcome.kind
    problem = task_kind.outcome_problem(outcome) if outcome in OUTCOMES else None
    if problem is not None:
        yield problem
    if backbone_kind.outcomes is not None and outcome not in backbone_kind.outcomes:
        others = [
            one.choice
            for one in map(BACKBONES.__getitem__, task_kind.backbones)
            if one.outcomes is None or outcome in one.outcomes
        ]
        fix = f"choose backbone={' or '.join(others)}" if others else "choose one of these"
        yield (
            f"{named} does not predict task.outcome.kind={outcome}, but"
            f" {' or '.join(backbone_kind.outcomes)}; {fix}."
        )
    if tuning.kind not in backbone_kind.tunings:
        reason = "is not offered" if backbone_kind.has_weights else "needs a pretrained backbone"
        if tuning.kind in REFUSED:
            reason = f"is not offered: {REFUSED[tuning.kind].rstrip('.')}"
        yield (
            f"tuning.kind={tuning.kind} {reason}; with {named} choose"
            f" tuning={' or '.join(backbone_kind.tunings)}."
        )


def pair_problems(
    task: TaskConfig, backbone: BackboneConfig, strategy: StrategyConfig
) -> Iterator[str]:
    """Yield what is wrong with pairs of columns."""
    pairs: list[list[str]] = getattr(backbone, "pairs", [])
    strangers = sorted({name for pair in pairs for name in pair} - set(task.table_columns))
    if strangers:
        yield (
            f"backbone.pairs names {', '.join(strangers)}, which task.columns lacks; name two"
            f" of {', '.join(task.table_columns)}."
        )
    if pairs and objective_of(strategy).kind == "private_newton":
        yield (
            "backbone.pairs: client=private_newton knows how columns vary together, and not"
            " their products; leave the pairs out, or choose client=private_table."
        )


def tree_problems(
    task: TaskConfig, backbone: BackboneConfig, strategy: StrategyConfig, rounds: int
) -> Iterator[str]:
    """Yield where model and algorithm do not fit, or columns that trees would not read."""
    objective = objective_of(strategy)
    for problem in model_problems(backbone, objective, rounds):
        key = "server" if problem.startswith("num_rounds") else "strategy"
        yield f"{key}.{problem}"
    if backbone.tree_encoding is None:
        return
    named = f"backbone.kind={backbone.kind}"
    if task._target_ is not None:
        yield (
            f"task._target_={task._target_}: {named} reads columns by the schema, which"
            " this task encodes by itself; choose another backbone."
        )
    if task.label_smoothing:
        yield (
            f"task.label_smoothing={task.label_smoothing:g}: {named} grows on labels as"
            " they are; leave it out, or choose another backbone."
        )
    if task.released_columns and backbone.tree_encoding == "grid":
        yield (
            f"task.numeric.edges=released: {named} with backbone.cells=grid splits at a public"
            " grid and uses no edges; set backbone.cells=edges, or task.numeric.edges=public."
        )


def step_problems(
    task: TaskConfig,
    backbone: BackboneConfig,
    tuning: TuningConfig,
    strategy: StrategyConfig,
    patience: int | None,
) -> Iterator[str]:
    """Yield where an algorithm with steps of its own does not know how long they may be."""
    objective = objective_of(strategy)
    algorithm = ALGORITHMS.get(objective.kind)
    if algorithm is None or not algorithm.own_step:
        return
    key = f"strategy.objective.kind={objective.kind}"
    if not (algorithm.any_model or backbone.is_linear or tuning.kind == "head"):
        # The strategy may be one that nobody typed: it comes with a choice of client
        is_table = task.kind == "tabular"
        client, linear = ("table", "backbone=logistic") if is_table else ("poisson", "tuning=head")
        yield (
            f"{key}, which {algorithm.choice} chooses, knows steps for a linear model alone,"
            f" and backbone.kind={backbone.kind}, tuning.kind={tuning.kind} is none;"
            f" choose client={client} strategy=fedavg for this model, or {linear}."
        )
    elif algorithm.row_norm and task.outcome.kind in OUTCOMES and task.loss_bounds is None:
        yield (
            f"{key} takes its step from what bounds the loss, and nothing bounds that of"
            f" task.outcome.kind={task.outcome.kind}; choose client=table strategy=fedavg."
        )
    elif algorithm.needs_gram and task.kind != "tabular":
        yield (
            f"{key} scales steps by a table's inputs, and task.kind={task.kind} has none;"
            " choose client=private_table, whose steps need none."
        )
    elif algorithm.row_norm and backbone.row_norm is None:
        yield (
            f"{key} takes its step from the norm of rows; set backbone.row_norm=3, as"
            f" {algorithm.choice} does."
        )
    if (algorithm.row_norm or algorithm.any_model) and patience is not None:
        yield (
            f"server.patience={patience}: {key} means the models of the last rounds"
            " it has planned; set server.patience=null."
        )


__all__ = ["kind_problems", "pair_problems", "step_problems", "tree_problems"]
