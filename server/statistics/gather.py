"""Statistics of a federation: what is asked, what it costs, and what becomes of the answers.

Where runs need quantiles that are released (``task.numeric.edges=released``), these are asked for
first, by the very question of a run: whichever comes first pays, and the other is answered with the
same. Histograms and quantiles of these columns are read from them, and not counted again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from confide.models.backbones import pretrained_hash
from confide.models.compute import make_compute
from confide.models.workload import build_workload
from confide.privacy.accounting import Schedule, epsilon
from confide.privacy.keys import initial_seed
from confide.privacy.released import one_release, release_noise
from confide.protocol.new_plan import make_plan
from confide.protocol.plan import TrainingPlan
from confide.protocol.releases import release_plan
from confide.releases.figures import partitions
from confide.releases.quantiles import COUNTS
from confide.releases.release import Floats
from confide.releases.statistics import FIGURE_COUNTS, MOMENTS, PRODUCTS, counted
from confide.releases.table import RELEASES
from confide.server.rounds.enrolment import too_few
from confide.server.run.carrier import PrepareFn, Run
from confide.server.run.outputs import versions
from confide.server.run.releases import Answer, Released, ask_release
from confide.server.run_folder import PLAN, STATISTICS
from confide.server.statistics.exact import Exact, summarise_exact
from confide.server.statistics.noisy import Noisy, from_tree, summarise_noisy
from confide.server.statistics.summary import Summary
from confide.storage.files import write_json, write_text

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked for statistics.

    Attributes:
        statistics: plan of the release of statistics.
        quantiles: plan of the release of quantiles that runs use; None where they need none.
    """

    statistics: TrainingPlan
    quantiles: TrainingPlan | None

    @classmethod
    def of(cls, run: Run) -> "Question":
        """Write the question of a run's config."""
        config = run.config
        plan = make_plan(config, backbone_sha256=pretrained_hash(config.backbone), job=run.job)
        shared = bool(plan.task.released_columns) and plan.private
        return cls(
            statistics=release_plan(plan, "statistics", epsilon=config.statistics.epsilon),
            quantiles=release_plan(plan) if shared else None,
        )

    @property
    def plans(self) -> list[TrainingPlan]:
        """The plans, in the order in which they are asked."""
        return [*([self.quantiles] if self.quantiles else []), self.statistics]

    def noise(self) -> list[float]:
        """Return sigma of each plan's release."""
        if not self.statistics.private:
            return [0.0 for _ in self.plans]
        return [
            release_noise(plan.privacy.epsilon, delta=plan.privacy.delta) for plan in self.plans
        ]

    def epsilon(self) -> float:
        """Return what all of it costs a unit, at the plans' delta; 0 without privacy."""
        if not self.statistics.private:
            return 0.0
        *before, sigma = self.noise()
        both = Schedule(
            noise_multiplier=sigma,
            sampling_rate=1.0,
            steps=1,
            before=one_release(before[0]) if before else None,
        )
        return epsilon(both, delta=self.statistics.privacy.delta, accountant="pld")


def gather(run: Run, prepare_fn: PrepareFn) -> dict[str, Any]:
    """Ask institutions for statistics, and keep what they say in RUN/statistics.json.

    Args:
        run: this process's part of the run.
        prepare_fn: makes ready what carries messages.

    Returns:
        What is kept.

    Raises:
        RunFailedError: if fewer institutions than ``server.min_clients`` answer.
        StorageError: if it cannot be kept.
    """
    question = Question.of(run)
    with run.progress, run.watch.phase("statistics"):
        released = [_ask(run, plan, prepare_fn) for plan in question.plans]
    found = _document(run, question, released)
    write_json(run.run_dir / STATISTICS, found)
    return found


def _ask(run: Run, asked: TrainingPlan, prepare_fn: PrepareFn) -> Released:
    # Written before it is asked, so that a refusal shows what was refused
    write_text(run.run_dir / PLAN, asked.to_json() + "\n")
    workload = build_workload(
        asked.encoded_task,
        asked.backbone,
        asked.tuning,
        compute=make_compute(run.config.trainer),
        seed=initial_seed(run.secret),
        custom_tasks=asked.task.custom_tasks,
    )
    return ask_release(run, asked, workload, prepare_fn)


def _document(run: Run, question: Question, released: Sequence[Released]) -> dict[str, Any]:
    last, plan = released[-1], question.statistics
    # Those alone that answer all of it: figures of one table are of the same institutions
    answers = {
        name: [one.answers[name] for one in released]
        for name in last.answers
        if all(name in one.answers for one in released)
    }
    least = run.config.server.min_clients
    missing = {name: code for one in released for name, code in one.missing.items()}
    if len(answers) < least:
        too_few("statistics", got=len(answers), least=least, missing=missing)
    shown = [name for name, own in answers.items() if own[-1].figures.get("by_institution")]
    return {
        "schema": SCHEMA,
        "status": "completed",
        "job": plan.job,
        "task": plan.task.kind,
        "records": "training",
        "privacy": _privacy(question, answers)
        | {"reproducible": any(one.reproducible for one in released)},
        "federation": _summary(question, list(answers.values())).to_json(),
        "institutions": {name: _summary(question, [answers[name]]).to_json() for name in shown},
        "withheld": [name for name in answers if name not in shown],
        "missing": missing,
        "seconds": round(sum(run.watch.seconds().values()), 2),
        "versions": versions(),
    }


def _privacy(question: Question, answers: Mapping[str, Sequence[Answer]]) -> dict[str, Any]:
    """Say what the figures cost, and what protects them."""
    plan = question.statistics
    if not plan.private:
        floors = [own[-1].figures.get("min_cell", 1.0) for own in answers.values()]
        return {"unit": "none", "min_cell": int(min(floors, default=1))}
    return {
        "unit": plan.privacy.unit,
        "delta": plan.privacy.delta,
        "epsilon": question.epsilon(),
        "min_cell": int(_floor(list(answers.values()))),
        "releases": [
            {
                "kind": one.releases,
                "job": one.job,
                "epsilon": one.privacy.epsilon,
                "noise_multiplier": sigma,
            }
            for one, sigma in zip(question.plans, question.noise(), strict=True)
        ],
        "spent": {
            name: own[-1].figures["epsilon"]
            for name, own in answers.items()
            if "epsilon" in own[-1].figures
        },
    }


def _floor(answers: Sequence[Sequence[Answer]]) -> float:
    """Return the highest floor among institutions."""
    return max((own[-1].figures.get("min_cell", 1.0) for own in answers), default=1.0)


def _summary(question: Question, answers: Sequence[Sequence[Answer]]) -> Summary:
    plan = question.statistics
    if not plan.private:
        exact = [_exact(plan, own[-1]) for own in answers]
        return summarise_exact(plan.task, partitions(plan.task), exact)
    return summarise_noisy(plan.task, partitions(plan.task), _noisy(question, answers))


def _noisy(question: Question, answers: Sequence[Sequence[Answer]]) -> Noisy:
    plan, many = question.statistics, len(answers)
    *before, sigma = question.noise()
    units = sum(own[-1].num_examples for own in answers)
    scales = RELEASES["statistics"].scales_fn(plan)
    stds = {name: many**0.5 * sigma * scale for name, scale in scales.items()}
    tensors = _added(answers, -1)
    counts = {}
    for part in counted(plan):
        spread = stds[FIGURE_COUNTS] ** 2 * numpy.eye(part.cells)
        counts[part.key] = tensors[FIGURE_COUNTS][part.place], spread
    if question.quantiles is not None:
        scale = RELEASES["quantiles"].scales_fn(question.quantiles)[COUNTS]
        trees = _added(answers, 0)[COUNTS]
        key = {part.name: part.key for part in partitions(plan.task) if part.is_column}
        for name, tree in zip(plan.task.released_columns, trees, strict=True):
            counts[key[name]] = from_tree(tree, many**0.5 * before[0] * scale, units)
    return Noisy(
        units=units,
        institutions=many,
        floor=_floor(answers),
        counts=counts,
        moments=tensors.get(MOMENTS, numpy.zeros((0, 3))),
        moments_std=stds.get(MOMENTS, 0.0),
        products=tensors.get(PRODUCTS, numpy.zeros((0, 6))),
        products_std=stds.get(PRODUCTS, 0.0),
    )


def _added(answers: Sequence[Sequence[Answer]], release: int) -> dict[str, Floats]:
    """Add one release's tensors up over institutions."""
    first = answers[0][release].tensors
    return {
        name: numpy.sum([own[release].tensors[name].double().numpy() for own in answers], axis=0)
        for name in first
    }


def _exact(plan: TrainingPlan, answer: Answer) -> Exact:
    tensors = {name: tensor.double().numpy() for name, tensor in answer.tensors.items()}
    floor = answer.figures.get("min_cell", 1.0)
    moments, products = tensors.get(MOMENTS), tensors.get(PRODUCTS)
    return Exact(
        units=answer.num_examples,
        floor=float("inf") if answer.figures.get("owners") else floor,
        counts={part.key: tensors[FIGURE_COUNTS][part.place] for part in counted(plan)},
        # In two parts each, which add up to float64
        moments=numpy.zeros((0, 3)) if moments is None else moments.sum(axis=-1),
        products=numpy.zeros((0, 6)) if products is None else products.sum(axis=-1),
    )


__all__ = ["Question", "gather"]
