"""A run that goes on from another run's model: its lineage, and which of both models it releases.

Before the new model is released, institutions score both on their test records, and on those that
the earlier model was tested on before where they tell them apart (forgetting). With
``server.release=if_better`` the earlier model is released again where the new one is not better.
"""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from confide.config.run import Config
from confide.config.server import ServerConfig
from confide.config.strategies.strategy import ALGORITHMS
from confide.errors import ConfigError, ModelError
from confide.metrics.intervals import Z
from confide.metrics.metric import noise_name
from confide.metrics.tally import ScoreTally
from confide.models.saved import Description, read_description
from confide.models.start import goes_on_whole, model_folder, parents_of, start_from
from confide.models.workload import Workload
from confide.protocol.messages import OLD, Evaluation
from confide.protocol.plan import TrainingPlan
from confide.server.rounds.outcome import Outcome
from confide.server.run.measured import pooled

log = logging.getLogger(__name__)
NEW, BEFORE = "new_model", "old_model"
"""Which of two models: what the run trained, and the one that it started from."""
NEW_RECORDS, OLD_RECORDS, ALL_RECORDS = "new_records", "old_records", "all_records"
"""Whose test records: those that the old model was not tested on before, those that it was, all."""


def origin(config: Config) -> Description | None:
    """Return what is said of the model that a run starts from; None if it starts from none.

    Raises:
        ModelError: if there is no such model, or its description is damaged.
    """
    folder = config.server.start_from
    return None if folder is None else read_description(model_folder(Path(folder).expanduser()))


def with_lineage(plan: TrainingPlan, config: Config, earlier: Description | None) -> TrainingPlan:
    """Return a plan with the runs that its model comes from.

    Args:
        plan: of a run.
        config: of the run.
        earlier: the model that it starts from; None for none.

    Raises:
        ConfigError: if a model is to be released if it is better, and cannot be compared.
    """
    if earlier is None:
        return plan
    is_whole = goes_on_whole(plan, earlier.plan)
    # Without what stays at institutions the tensors are no model that could be scored
    compares = is_whole and ALGORITHMS[plan.objective.kind].personal != "within"
    if config.server.release != "always" and not compares:
        why = (
            f"strategy.objective.kind={plan.objective.kind} leaves parts of the model at the"
            " institutions"
            if is_whole
            else f"server.start_from={config.server.start_from} is another network or tuning"
        )
        raise ConfigError(
            f"server.release={config.server.release}: {why}, so that there are no two models to"
            " choose from; set backbone=run backbone.path=RUN, or server.release=always."
        )
    return replace(plan, parents=parents_of(earlier), compares=compares)


def begin_from(
    workload: Workload, plan: TrainingPlan, config: Config, earlier: Description | None
) -> None:
    """Put the tensors that a run starts from into its model.

    Of a run that is resumed too: its checkpoint has its own, and the model that it is compared
    with, and that baselines start from, is this one.

    Raises:
        ModelError: if they are damaged, changed meanwhile, or do not fit.
    """
    if earlier is None:
        return
    folder = str(config.server.start_from)
    start = start_from(workload, plan, Path(folder).expanduser())
    if start.model_sha256 != earlier.model_sha256:
        raise ModelError(f"server.start_from={folder} was changed meanwhile; start anew.")
    if plan.compares and start.anew:
        raise ModelError(
            f"server.start_from={folder} lacks {', '.join(start.anew[:3])}, which its description"
            " says it has; bring the folder that the run left."
        )
    log.info(
        "Started from %s: %d tensors, %s; %d start anew.",
        folder,
        len(start.taken),
        ", ".join(start.taken[:3]),
        len(start.anew),
    )


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which of two models a run releases.

    Attributes:
        outcome: of the run, with the released model as the kept one.
        released: :data:`NEW` or :data:`BEFORE`.
        compared: what the summary says of both; {} where nothing was compared.
    """

    outcome: Outcome
    released: str
    compared: Mapping[str, Any]


def choose(outcome: Outcome, plan: TrainingPlan, settings: ServerConfig) -> Choice:
    """Compare a run's model with the one that it started from, and choose what is released.

    Args:
        outcome: of the run.
        plan: of the run; its primary metric decides, over old and new test records together.
        settings: whether anything is decided, and by which margin.
    """
    before = outcome.predecessor
    if before is None:
        return Choice(outcome=outcome, released=NEW, compared={})
    scores = {
        NEW: _scores(plan, outcome.test, outcome.old, outcome.tallies),
        BEFORE: _scores(plan, before.test, before.old, before.tallies),
    }
    metric = plan.task.metric_table[plan.task.primary_metric]
    name, margin = plan.task.primary_metric, settings.release_margin
    new, old = (scores[which].get(ALL_RECORDS, {}).get(name) for which in (NEW, BEFORE))
    sign = 1 if metric.direction == "max" else -1
    # Of a model that has diverged there is no metric, and nothing is better for that
    better = new is not None and (old is None or sign * (new - old) > margin)
    released = BEFORE if settings.release == "if_better" and not better else NEW
    compared = {
        "rule": settings.release,
        "margin": margin,
        "metric": name,
        "released": released,
        "better": better,
        "scores": scores,
        **_uncertainty(scores, name),
    }
    if released == NEW:
        return Choice(outcome=outcome, released=NEW, compared=compared)
    return Choice(outcome=_kept_before(outcome), released=BEFORE, compared=compared)


def _kept_before(outcome: Outcome) -> Outcome:
    """Return how a run ended that keeps the model it started from."""
    before, history = outcome.predecessor, outcome.state.history
    assert before is not None
    return replace(
        outcome,
        kept=before.params,
        kept_round=0,
        test=before.test,
        old=before.old,
        tallies=before.tallies,
        # The first round scored the tensors that it began with
        validation=next((dict(one.validation) for one in history if one.server_round == 1), {}),
    )


def _scores(
    plan: TrainingPlan,
    test: Mapping[str, Evaluation],
    old: Mapping[str, Evaluation],
    tallies: Mapping[str, Mapping[str, ScoreTally]],
) -> dict[str, dict[str, float]]:
    """Put the scores of one model together: on new records, on old ones, on all."""
    own = {
        NEW_RECORDS: (test, tallies.get("test", {})),
        OLD_RECORDS: (old, tallies.get(OLD, {})),
    }
    parts = {name: pair for name, pair in own.items() if pair[0]}
    if len(parts) > 1:
        parts[ALL_RECORDS] = (
            _side_by_side({name: pair[0] for name, pair in parts.items()}),
            _side_by_side({name: pair[1] for name, pair in parts.items()}),
        )
    elif parts:
        parts[ALL_RECORDS] = next(iter(parts.values()))
    table = plan.task.metric_table
    return {name: dict(pooled(told, sums, table)[0]) for name, (told, sums) in parts.items()}


def _side_by_side(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Put the scores of two sorts of records beside each other, as if of so many institutions."""
    return {f"{sort} {who}": it for sort, told in parts.items() for who, it in told.items()}


def _uncertainty(scores: Mapping[str, Mapping[str, Any]], name: str) -> dict[str, float]:
    """Return the 95 % half width that noise alone gives the difference of both; {} for none."""
    noise = [scores[which].get(ALL_RECORDS, {}).get(noise_name(name)) for which in (NEW, BEFORE)]
    told = [float(one) for one in noise if one is not None]
    return {"noise": Z * sum(one**2 for one in told) ** 0.5} if told else {}


def earlier_runs(plan: TrainingPlan) -> dict[str, Any]:
    """Return what a summary's ``lineage`` says of earlier runs; {} where there are none.

    Epsilons of runs are added up, which bounds what they cost together: ledgers compose them more
    closely.
    """
    if not plan.parents:
        return {}
    told = [asdict(parent) for parent in plan.parents]
    found: dict[str, Any] = {"parents": told}
    units = {parent.unit for parent in plan.parents} | {plan.privacy.unit}
    if "none" in units:
        open_runs = [parent.job for parent in plan.parents if parent.unit == "none"]
        found["unprotected"] = [*open_runs, *([] if plan.private else [plan.job])]
        return found
    epsilons = [parent.epsilon or 0.0 for parent in plan.parents]
    deltas = [parent.delta or 0.0 for parent in plan.parents]
    privacy = plan.privacy
    found["claimed"] = {
        "epsilon": sum(epsilons) + max(privacy.epsilon, privacy.metrics_epsilon or 0.0),
        "delta": sum(deltas) + privacy.delta,
        "unit": "group" if units == {"group"} else "record",
    }
    return found


def released_plan(plan: TrainingPlan, choice: Choice, earlier: Description | None) -> TrainingPlan:
    """Return the plan that the released model was trained by."""
    return plan if choice.released == NEW or earlier is None else earlier.plan


__all__ = [
    "ALL_RECORDS",
    "BEFORE",
    "NEW",
    "NEW_RECORDS",
    "OLD_RECORDS",
    "Choice",
    "begin_from",
    "choose",
    "earlier_runs",
    "origin",
    "released_plan",
    "with_lineage",
]
