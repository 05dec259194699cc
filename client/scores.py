"""What an institution tells of its validation and test records, as its policy has it.

``noisy``: sums over records leave with Gaussian noise, once for each input and as often as the plan
declares. Protected: every unit of the split, zero-out, in the plan's unit; charged to the ledger
with the run. What is released is written to the ledger before it leaves and given again when the
same is asked, so that no repetition averages noise away and no noise is ever drawn for two inputs.
A split's size leaves as noisily as its metrics; public is only whether it is empty.
:mod:`confide.metrics.release` has the mechanism and its sensitivity.

``exact``: unprotected, and few: one cap over rounds, evaluations and runs of the population.

Groups of test records that a plan declares are told beside them (:mod:`~.group_scores`).

Beside the metrics of an evaluation leaves a tally, the sums that they follow from: noisy ones are
those that were released, so that it costs nothing more; exact ones are counts of records by score,
whose bins hold those of ``policy.min_cell`` units at least: of owners, where they are known.

``none``: nothing. A plan cannot change the mode.
"""

import functools
import hashlib
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy
from numpy.typing import NDArray
from torch import Tensor

from confide.client.evaluation_quota import Evaluations
from confide.client.group_scores import GroupScores, declaration, group_scores
from confide.client.ledger.ledger import Ledger
from confide.client.policy import Policy
from confide.client.records.encoded import InstitutionData
from confide.client.reservation import RoundAccount
from confide.client.schedule import LocalSchedule, is_scored
from confide.client.told import Told, evaluations
from confide.client.training.trainer import Trainer
from confide.config.strategies.strategy import ALGORITHMS
from confide.errors import DeniedError, PrivacyError
from confide.metrics.evaluation import DESCRIPTIONS
from confide.metrics.floor import Floor
from confide.metrics.metric import Statistic
from confide.metrics.release import (
    Floats,
    add_noise,
    estimates,
    exact_sums,
    named_sums,
    sensitivity,
    statistics_of,
    unit_sums,
)
from confide.metrics.tally import ScoreTally
from confide.privacy.randomness import KEY_BYTES, KeyedGenerator, derive_key
from confide.protocol.messages import OLD, PERSONAL, Evaluation, Request
from confide.protocol.plan import TrainingPlan
from confide.protocol.refusals import Refusal
from confide.protocol.tensors import DecodedTensors, Tensors
from confide.storage.tensor_files import sha256
from confide.strategies.algorithm import split_received
from confide.strategies.parts import build_algorithm
from confide.tasks.outcomes.build import outcome_of
from confide.tasks.task import Examples

log = logging.getLogger(__name__)

_OF_THE_END = ("test", OLD)
_USED_UP = (Refusal.SCORES_SPENT, Refusal.POLICY_MAX_EVALUATIONS)


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What is to be scored.

    Attributes:
        plan: the request's plan.
        text: the same as it was sent.
        server_round: of the request.
        schedule: the work that it comes to here.
        tensors: to predict with, a function of plan, ``params`` and ``kept``.
        params: global tensors.
        kept: what the institution kept after its last round; empty where it has no part in this.
    """

    plan: TrainingPlan
    text: str
    server_round: int
    schedule: LocalSchedule
    tensors: Tensors
    params: Tensors
    kept: Tensors

    @classmethod
    def of(
        cls,
        request: Request,
        plan: TrainingPlan,
        schedule: LocalSchedule,
        *,
        received: DecodedTensors,
        kept: Tensors,
    ) -> "Scored":
        """Return what the tensors of a request predict with, and what is kept here.

        Args:
            request: whose tensors are scored.
            plan: the request's plan.
            schedule: the work that it comes to here.
            received: tensors of the request.
            kept: what the algorithm kept here; empty for nothing.
        """
        params, _ = split_received(received)
        predict_with = build_algorithm(plan.objective).predict_with
        return cls(
            plan=plan,
            text=request.plan,
            server_round=request.server_round,
            schedule=schedule,
            tensors=predict_with(params, kept) if predict_with else params,
            params=params,
            kept=kept if predict_with else {},
        )

    @functools.cached_property
    def digest(self) -> str:
        """Identifier of the tensors, computed when it is first asked for."""
        return sha256(self.params) + sha256(self.kept)

    def of_splits(self, splits: Sequence[str]) -> dict[str, str]:
        """Return split -> identifier of its scores: of the same scores it is the same."""
        # Of who has a model beside the global one, the latter alone scores test records
        is_shared = ALGORITHMS[self.plan.objective.kind].personal == "beside"
        of_all = sha256(self.params)
        texts = {
            split: f"{of_all if is_shared and split in _OF_THE_END else self.digest}\0{split}"
            for split in splits
        }
        return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}


class Scores:
    """Scores tensors on records that are not trained on.

    Args:
        data: the institution's records.
        trainer: predicts.
        policy: the institution's rules.
        ledger: counts noisy scores.
        account: knows a run's terms, and where its randomness comes from.
        evaluations: counts exact scores; None for any number, in a simulation.
    """

    def __init__(
        self,
        *,
        data: InstitutionData,
        trainer: Trainer,
        policy: Policy,
        ledger: Ledger,
        account: RoundAccount,
        evaluations: Evaluations | None,
    ) -> None:
        self._data, self._trainer, self._policy = data, trainer, policy
        self._ledger, self._account, self._evaluations = ledger, account, evaluations

    def of_round(self, scored: Scored, server_round: int) -> dict[str, Evaluation]:
        """Score validation records before a round of training.

        Nothing where no noisy score is due, or all are used up: training goes on.
        """
        noisy = self._policy.config.metrics_privacy == "noisy"
        if noisy and not is_scored(scored.plan, server_round):
            return {}
        try:
            return evaluations(self.of(scored, ("validation",), with_sums=False))
        except DeniedError as error:
            if error.code not in _USED_UP:
                raise
            log.warning("%s This round is trained without scores.", error)
            return {}

    def asked(self, scored: Scored, asked: Sequence[str]) -> dict[str, Told]:
        """Score what a coordinator asks for.

        Of an institution that has a model beside the global one, the test records are scored with
        the global one, and with its own under :data:`PERSONAL`.

        Args:
            scored: the tensors that the institution predicts with.
            asked: splits; of training records nothing is told.

        Raises:
            DeniedError: if all scores are used up, or the budget does not cover the run.
        """
        # Scores on training records would tell who is among them.
        splits = [split for split in asked if split not in ("train", PERSONAL)]
        if not scored.plan.compares:  # nothing was declared for them
            splits = [split for split in splits if split != OLD]
        if ALGORITHMS[scored.plan.objective.kind].personal != "beside":
            return self.of(scored, splits)
        shared = replace(scored, tensors=scored.params, kept={})
        told = self.of(scored, [split for split in splits if split not in _OF_THE_END])
        told |= self.of(shared, [split for split in splits if split in _OF_THE_END])
        if PERSONAL in asked:
            own = self.of(scored, ("test",), with_sums=False)
            if "test" in own:
                told[PERSONAL] = own["test"]
        return told

    def of(
        self, scored: Scored, splits: Iterable[str], *, with_sums: bool = True
    ) -> dict[str, Told]:
        """Score tensors on splits; empty splits, and what may not leave, are left out.

        Args:
            scored: the tensors.
            splits: validation, test.
            with_sums: whether sums are told beside metrics, where they may be.

        Raises:
            DeniedError: if all scores are used up, or the budget does not cover the run.
        """
        score = {"noisy": self._noisy, "exact": self._exact}.get(
            self._policy.config.metrics_privacy
        )
        there = [split for split in splits if score and len(self._data.split(split))]
        found: dict[str, Told] = {}
        if not there:
            return found
        # Sums that no report reads, and no metric of all follows from, stay here.
        metrics = scored.plan.task.metric_table.values()
        is_read = scored.plan.task.outcome.kind in DESCRIPTIONS
        with_sums = with_sums and (is_read or any(one.sums_fn for one in metrics))
        for split in there:
            told = score(scored, split, with_sums) if score else None
            if told is not None:
                found[split] = told
        allowed = self._policy.released(evaluations(found))
        return {
            split: replace(found[split], evaluation=evaluation)
            for split, evaluation in allowed.items()
        }

    def _names(self, scored: Scored) -> list[str]:
        """Return the metrics that the plan names and the policy lets out."""
        allowed = self._policy.config.metrics
        return [name for name in scored.plan.task.metrics if name in allowed]

    def _exact(self, scored: Scored, split: str, with_sums: bool) -> Told:
        examples, job = self._data.split(split), scored.plan.job
        if self._evaluations is not None:
            identity = self._identity(scored, split, self._data.held_out_digest(split))
            self._evaluations.admit(job, identity)
            with_sums = with_sums and self._evaluations.admits_counts(job, split, identity)
        scores = self._trainer.scores(scored.tensors, examples)
        metrics = self._trainer.workload.task.metrics(scores, examples.labels)
        tally = None
        # Of a model that has diverged there are no metrics either.
        if with_sums and metrics and _is_usual(scored, scores, examples):
            told = scores.double().cpu().numpy(), examples.labels.cpu().numpy()
            floor = Floor(least=self._policy.smallest_cell, owners=self._owners(split, examples))
            statistics = statistics_of(self._names(scored), scored.plan.task.metric_table)
            sums = exact_sums(statistics, *told, floor)
            grouped = self._grouped(scored, split)
            if grouped is not None and self._may_tell_groups(scored.plan):
                groups = replace(floor, least=self._policy.config.min_support)
                sums |= grouped.exact(*told, groups=groups, sets=floor.least)
            tally = ScoreTally(sums=sums) if sums else None
        return Told(evaluation={**metrics, "num_examples": len(examples)}, tally=tally)

    def _noisy(self, scored: Scored, split: str, with_sums: bool) -> Told | None:
        """Release the scores of a split, or what was released before; None if there are none."""
        plan, names = scored.plan, self._names(scored)
        statistics = statistics_of(names, plan.task.metric_table)
        if not plan.private or not statistics:
            return None  # without a unit there is nothing to protect, and nothing to charge
        terms = self._account.terms(plan, scored.schedule)
        grouped = self._grouped(scored, split) if with_sums else None
        released = [*statistics, *(grouped.released if grouped else ())]
        std = terms.score_noise[split] * sensitivity(released)
        mechanism = self._identity(scored, split, *names, repr(std))
        # Not of the records: asking again would tell whether they changed.
        digest = self._ledger.digest(mechanism)
        before = self._ledger.scored(terms, split, digest)
        if before is not None:
            return Told.of(before)
        noisy = self._released_sums(scored, split, released, mechanism=mechanism, std=std)
        if noisy is None:
            return None
        classes = outcome_of(plan.task).score_shape[-1]
        sums: dict[str, Sequence[float]] = {**named_sums(noisy, released, classes)}
        if grouped is not None:
            least = self._policy.config.min_support
            by_group = grouped.told(sums, numbers=classes, least=least)
            sums = {one.name: sums[one.name] for one in statistics} | by_group
        told = Told(
            evaluation=estimates(noisy, names, plan.task.metric_table, classes=classes, std=std),
            tally=ScoreTally(sums=sums, std=std) if with_sums else None,
        )
        return Told.of(self._ledger.score(terms, split, digest, told.content()))

    def _grouped(self, scored: Scored, split: str) -> GroupScores | None:
        return group_scores(scored.plan, self._names(scored), self._data, split)

    def _may_tell_groups(self, plan: TrainingPlan) -> bool:
        """Tell whether exact sums by group may leave: of the first groups that were told."""
        return self._evaluations is None or self._evaluations.admits_groups(declaration(plan))

    def _released_sums(
        self,
        scored: Scored,
        split: str,
        statistics: Sequence[Statistic],
        *,
        mechanism: str,
        std: float,
    ) -> Floats | None:
        """Return the sums of a split with noise; None where scores are not those of the outcome."""
        plan, examples = scored.plan, self._data.split(split)
        scores = self._trainer.scores(scored.tensors, examples)
        if not _is_usual(scored, scores, examples):
            return None
        sums = unit_sums(
            statistics,
            scores.double().cpu().numpy(),
            examples.labels.cpu().numpy(),
            self._groups(plan, split, examples),
        )
        randomness, place = self._account.randomness, f"scores/{split}/{scored.server_round}"
        secret = randomness.secret(plan.job, mechanism, place=place) or os.urandom(KEY_BYTES)
        # Of the records, since equal noise on two inputs cancels; public ones have other last bits
        # on another processor.
        records = "" if randomness.by_round else self._data.held_out_digest(split)
        key = derive_key(secret, "scores", records)
        noise = KeyedGenerator(key).normal(len(sums), std=std)
        return add_noise(sums, noise.numpy())

    def _groups(
        self, plan: TrainingPlan, split: str, examples: Examples
    ) -> NDArray[numpy.int64] | None:
        """Return whose each record is; None if records are protected one by one."""
        if plan.privacy.unit != "group":
            return None
        codes = self._owners(split, examples)
        if codes is None:
            raise PrivacyError(
                f"privacy.unit=group needs to know whose each {split} record is; set"
                " data.group_column."
            )
        return codes

    def _owners(self, split: str, examples: Examples) -> NDArray[numpy.int64] | None:
        """Return whose each record is; None where nobody knows."""
        groups = self._data.held_out_groups.get(split)
        if groups is None or len(groups) != len(examples):
            return None
        codes: NDArray[numpy.int64] = groups.cpu().numpy()
        return codes

    def _identity(self, scored: Scored, split: str, *more: str) -> str:
        """Return the identifier of a score: all that it depends on, records aside."""
        parts = (scored.text, split, scored.digest, *more)
        return "scores/" + hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _is_usual(scored: Scored, scores: Tensor, examples: Examples) -> bool:
    """Tell whether scores and targets are those of the outcome: a custom task's may be others."""
    outcome = outcome_of(scored.plan.task)
    found = (*scores.shape[1:], *examples.labels.shape[1:])
    wanted = (*outcome.score_shape, *outcome.target_shape)
    # Of targets as long as a record, -1 stands for any length.
    return len(found) == len(wanted) and all(
        it in (size, -1) for size, it in zip(found, wanted, strict=True)
    )


__all__ = ["Scored", "Scores"]
