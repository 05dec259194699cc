"""The one door to an institution: a request in, a reply out.

Simulated grids and the deployed service both knock here and nowhere else. Whatever goes wrong
inside becomes a coded refusal: the text of an exception stays in the institution's own log.
"""

import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from flwr.app import ArrayRecord

from confide.client.algorithm_state import ClientStates
from confide.client.evaluation_quota import Evaluations
from confide.client.ledger.ledger import Ledger, RoundsSpent, already_answered, rounds_spent
from confide.client.ledger.state import RunTerms, run_name
from confide.client.policy import Policy
from confide.client.records.encoded import InstitutionData
from confide.client.schedule import LocalSchedule, make_schedule, workplan
from confide.client.training.trainer import Trainer
from confide.errors import (
    ConfideError,
    DeniedError,
    LedgerError,
    PrivacyError,
    ProtocolError,
    StorageError,
)
from confide.privacy.randomness import KEY_BYTES, derive_key
from confide.protocol.messages import Evaluation, Reply, Request
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import LARGEST_FLOAT32, Tensors, decode, encode
from confide.storage.tensor_files import sha256
from confide.strategies.objectives import first_state, keeps_state, next_state

log = logging.getLogger(__name__)

KeyFn = Callable[[str, str], bytes]
"""(job, mechanism) -> a 32-byte secret known to this institution alone; another mechanism has
another secret."""

_MOST_SCHEDULES = 64
_CODES = {
    LedgerError: "ledger",
    StorageError: "storage",
    PrivacyError: "privacy",
    ConfideError: "cannot_comply",
}
"""What the other side learns of an error; the first class that fits counts."""


@dataclass(frozen=True, kw_only=True)
class Safeguards:
    """What an institution decides and remembers by itself, whatever a plan says.

    Attributes:
        policy: its rules.
        ledger: what was spent.
        key_fn: where a round's randomness comes from; None for fresh keys from the operating
            system.
        reproducible: whether ``key_fn`` derives from a seed, so that the guarantee is void for
            whoever knows it.
        states: where tensors are kept between rounds, for algorithms that keep any; None declines
            these.
        evaluations: bounds how many models are scored; None: any number, in a simulation.
    """

    policy: Policy
    ledger: Ledger
    key_fn: KeyFn | None = None
    reproducible: bool = False
    states: ClientStates | None = None
    evaluations: Evaluations | None = None

    def __post_init__(self) -> None:
        if self.reproducible and not self.policy.config.allow_reproducible_noise:
            raise PrivacyError(
                "Noise would derive from a seed, and policy.allow_reproducible_noise=false; leave"
                " the seed out."
            )


class SharedTensors:
    """Decodes a record once, however many institutions of this process are given it."""

    def __init__(self, trainer: Trainer) -> None:
        self._shapes = trainer.shapes
        self._record: ArrayRecord | None = None
        self._tensors: Tensors = {}
        self._digest = ""

    def decode(self, record: ArrayRecord) -> Tensors:
        """Check and decode a record.

        Raises:
            ProtocolError: naming the tensor that does not fit.
        """
        if self._record is not record:
            self._tensors = decode(record, self._shapes, max_value=LARGEST_FLOAT32)
            self._record, self._digest = record, ""
        return self._tensors

    def digest(self) -> str:
        """Return the SHA-256 of the tensors decoded last."""
        if not self._digest:
            self._digest = sha256(self._tensors)
        return self._digest


class Institution:
    """One institution: its records, its trainer, its rules and its memory.

    Args:
        name: as the coordinator knows it.
        data: encoded records.
        trainer: may be shared by the institutions of a simulation.
        tensors: decoder, shared like the trainer.
        serves: the plan that the trainer was built for; a request must agree in task, backbone,
            tuning and unit.
        safeguards: what the institution decides and remembers by itself.
    """

    def __init__(
        self,
        name: str,
        *,
        data: InstitutionData,
        trainer: Trainer,
        tensors: SharedTensors,
        serves: TrainingPlan,
        safeguards: Safeguards,
    ) -> None:
        self._name = name
        self._serves = serves
        self.data = data
        self._trainer = trainer
        self._tensors = tensors
        self._safeguards = safeguards
        self._records_hash: str | None = None
        self._plans: dict[str, str] = {}
        self._schedules: dict[str, LocalSchedule] = {}
        self._handlers = {"query": self._describe, "train": self._train, "evaluate": self._evaluate}

    @property
    def name(self) -> str:
        """As the coordinator knows it."""
        return self._name

    @property
    def ledger(self) -> Ledger:
        """What was spent."""
        return self._safeguards.ledger

    def spent(self, job: str) -> RoundsSpent:
        """Return what a job has computed from training records here."""
        return self.ledger.spent(run_name(self.name, job))

    def restore_spent(self, job: str, spent: RoundsSpent) -> None:
        """Take over what another process of the same simulation knows of a job."""
        self.ledger.restore_spent(run_name(self.name, job), spent)

    def handle(self, kind: str, request: Request) -> Reply:
        """Answer one request.

        Args:
            kind: query, train or evaluate.
            request: from the coordinator, not trusted.

        Returns:
            An answer, or a refusal with a code; never raises for what a coordinator can cause.
        """
        try:
            self.ledger.check_head(request.ledger_head)
            plan = TrainingPlan.from_json(request.plan)
            return self._with_head(self._handlers[kind](plan, request))
        except Exception as error:
            return self._with_head(refusal(self.name, kind, error))

    def _with_head(self, reply: Reply) -> Reply:
        return replace(reply, ledger_head=self.ledger.head) if self.ledger.head else reply

    def _describe(self, plan: TrainingPlan, request: Request) -> Reply:
        schedule = self._schedule(plan, request.plan)
        figures: dict[str, float] = {}
        if plan.private:
            self.ledger.admit(self._terms(plan, schedule))
            total = schedule.epsilon_after(
                schedule.max_rounds, delta=plan.privacy.delta, accountant=plan.privacy.accountant
            )
            figures = {
                "noise_multiplier": schedule.noise_multiplier,
                "sampling_rate": schedule.sampling_rate,
                "epsilon_planned": total,
                "reproducible": float(self._safeguards.reproducible),
            }
        return Reply(institution=self.name, num_examples=schedule.num_examples, figures=figures)

    def _train(self, plan: TrainingPlan, request: Request) -> Reply:
        """Answer with an update: everything that can be refused is refused before the round is reserved."""
        schedule = self._schedule(plan, request.plan)
        start = self._decode(request)
        self._check_same_plan(plan.job, request.plan)
        if request.server_round not in range(1, schedule.max_rounds + 1):
            raise rounds_spent(asked=request.server_round, allowed=schedule.max_rounds)
        kept = self._kept(plan, request.server_round)
        mechanism = self._mechanism(plan, request, kept)
        digest = self.ledger.digest(mechanism, self._records_digest)
        answered = self.ledger.answered(run_name(self.name, plan.job), digest)
        if answered is not None:
            return self._still_allowed(answered)
        self._safeguards.policy.check_hours()
        # Round r scores the tensors it starts from, so that a round is one exchange.
        evaluations = self._score(start, ("validation",))
        secret, figures = self._reserve(plan, request, schedule, mechanism, digest)
        update = self._trainer.train(
            start,
            self.data.train,
            plan=plan,
            schedule=schedule,
            secret=secret,
            groups=self.data.groups,
            kept=kept,
        )
        try:
            self._safeguards.policy.check_update(update)
        except DeniedError:
            self.ledger.abandon(run_name(self.name, plan.job), digest)
            raise
        if kept is not None and self._safeguards.states is not None:
            self._safeguards.states.save(
                plan.job, request.server_round, next_state(plan.objective, kept, update)
            )
        reply = Reply(
            institution=self.name,
            num_examples=schedule.num_examples,
            evaluations=evaluations,
            figures=figures,
        )
        if plan.private:
            self.ledger.settle(run_name(self.name, plan.job), digest, reply, update)
        return replace(reply, arrays=encode(update))

    def _still_allowed(self, reply: Reply) -> Reply:
        """Hold a durable reply against the policy of today."""
        if reply.arrays is not None:
            self._safeguards.policy.check_update(
                decode(reply.arrays, self._trainer.shapes, max_value=LARGEST_FLOAT32)
            )
        return replace(reply, evaluations=self._safeguards.policy.released(reply.evaluations))

    def _records_digest(self) -> str:
        """Hash the training records as they are encoded; never leaves but through a keyed hash."""
        if self._records_hash is None:
            groups = {} if self.data.groups is None else {"groups": self.data.groups}
            self._records_hash = sha256({**self.data.train.columns, **groups})
        return self._records_hash

    def _reserve(
        self,
        plan: TrainingPlan,
        request: Request,
        schedule: LocalSchedule,
        mechanism: str,
        digest: str,
    ) -> tuple[bytes, dict[str, float]]:
        """Count a round before its first step, and return its secret and what the run has spent with it."""
        key_fn, server_round = self._safeguards.key_fn, request.server_round
        key = None if key_fn is None else key_fn(plan.job, mechanism)
        if not plan.private:
            if plan.seed is None:
                return key or os.urandom(KEY_BYTES), {}
            return (
                derive_key(
                    plan.seed.to_bytes(8, "little"), "order", self.name, plan.job, server_round
                ),
                {},
            )
        reserved = self.ledger.reserve(self._terms(plan, schedule), server_round, digest, key=key)
        if reserved.is_replay and self._trainer.workload.compute.device.type != "cpu":
            # Other devices may not repeat a computation bit for bit, and equal noise on two sums
            # would cancel.
            raise already_answered(run_name(self.name, plan.job))
        privacy = plan.privacy
        spent = schedule.epsilon_after(
            reserved.rounds, delta=privacy.delta, accountant=privacy.accountant
        )
        return reserved.key, {"epsilon": spent}

    def _terms(self, plan: TrainingPlan, schedule: LocalSchedule) -> RunTerms:
        return terms_of(
            plan,
            schedule,
            institution=self.name,
            group_column=self.data.group_column,
            reproducible=self._safeguards.reproducible,
        )

    def _kept(self, plan: TrainingPlan, server_round: int) -> Tensors | None:
        """Return what the algorithm kept here before this round; None where it keeps nothing."""
        if not keeps_state(plan.objective):
            return None
        if self._safeguards.states is None:
            raise ProtocolError(
                f"objective.kind={plan.objective.kind} keeps state, and there is no folder for it.",
                code="no_state",
            )
        return self._safeguards.states.load(plan.job, before=server_round) or first_state(
            self._trainer.shapes
        )

    def _mechanism(self, plan: TrainingPlan, request: Request, kept: Tensors | None) -> str:
        """Name what a request computes from training records.

        Under privacy the same request names the same mechanism, whose noise may be replayed at no
        cost; other tensors, another plan, another round or another kept state is a new one, with
        noise of its own: equal noise on two inputs would cancel.
        """
        if not plan.private:
            return str(request.server_round)
        parts = (
            request.plan,
            str(request.server_round),
            self._tensors.digest(),
            sha256(kept) if kept else "",
        )
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]

    def _evaluate(self, plan: TrainingPlan, request: Request) -> Reply:
        schedule, tensors = self._schedule(plan, request.plan), self._decode(request)
        if self._safeguards.evaluations is not None:
            has_trained = not self.ledger.keeps_account or self.spent(plan.job).count > 0
            self._safeguards.evaluations.admit(
                plan.job, self._tensors.digest(), has_trained=has_trained
            )
        splits = [split for split in request.splits if split != "train"]
        return Reply(
            institution=self.name,
            num_examples=schedule.num_examples,
            evaluations=self._score(tensors, splits),
        )

    def _score(
        self, tensors: Tensors, splits: tuple[str, ...] | list[str]
    ) -> dict[str, Evaluation]:
        """Score tensors on splits that are not trained on.

        Empty splits, and what may not leave, are left out.
        """
        scored: dict[str, Evaluation] = {}
        for split in splits:
            examples = self.data.split(split)
            if len(examples):
                scored[split] = {
                    **self._trainer.evaluate(tensors, examples),
                    "num_examples": len(examples),
                }
        return self._safeguards.policy.released(scored)

    def _decode(self, request: Request) -> Tensors:
        if request.arrays is None:
            raise ProtocolError("Expected tensors with the request.", code="tensor_names")
        return self._tensors.decode(request.arrays)

    def _schedule(self, plan: TrainingPlan, text: str) -> LocalSchedule:
        """Hold a plan against the policy and against what is served, once, and work out what it comes to here."""
        if text not in self._schedules:
            num_examples = self._check_allowed(plan, text)
            self._check_served(plan)
            if len(self._schedules) >= _MOST_SCHEDULES:
                self._schedules.clear()
            self._schedules[text] = make_schedule(plan, num_examples=num_examples)
        return self._schedules[text]

    def _check_allowed(self, plan: TrainingPlan, text: str) -> int:
        """Check a plan against the policy, and return the number of units that it is about."""
        policy = self._safeguards.policy
        num_examples = policy.public_count(self.data.num_units(plan.privacy.unit))
        manual = policy.config.approval == "manual"
        approved = manual and self.ledger.is_approved(
            plan.job, hashlib.sha256(text.encode()).hexdigest()
        )
        policy.check_plan(plan, workplan(plan, num_examples=num_examples), is_approved=approved)
        policy.check_size(self._trainer.shapes)
        if self.ledger.keeps_account and not plan.private:
            raise DeniedError(
                "Training without privacy cannot be accounted for.", code="budget_unprotected"
            )
        return num_examples

    def _check_same_plan(self, job: str, text: str) -> None:
        """Check that a job goes on with the plan that it began to train with."""
        if len(self._plans) >= _MOST_SCHEDULES:
            self._plans.clear()
        if self._plans.setdefault(job, text) != text:
            raise ProtocolError(
                f"Job {job} comes with another plan than before.", code="plan_changed"
            )

    def _check_served(self, plan: TrainingPlan) -> None:
        for part in ("task", "backbone", "backbone_sha256", "tuning"):
            if getattr(plan, part) != getattr(self._serves, part):
                raise ProtocolError(
                    f"The plan's {part} is not what this institution serves.",
                    code="plan_not_served",
                )
        if plan.privacy.unit != self._serves.privacy.unit:
            raise PrivacyError(
                f"The plan asks for unit={plan.privacy.unit}, this institution serves"
                f" {self._serves.privacy.unit}."
            )


def refusal(name: str, kind: str, error: Exception) -> Reply:
    """Write the refusal that stands for an error.

    A code and figures; its text stays in the institution's own log.

    Args:
        name: of the institution.
        kind: of the request.
        error: what keeps it from answering.
    """
    if not isinstance(error, ConfideError):
        log.error("%s failed to answer a %s request.", name, kind, exc_info=error)
        return Reply(institution=name, refusal="internal_error")
    log.warning("%s declines a %s request: %s", name, kind, error)
    if isinstance(error, DeniedError):
        return Reply(institution=name, refusal=error.code, figures=error.figures)
    if isinstance(error, ProtocolError):
        return Reply(institution=name, refusal=error.code)
    return Reply(
        institution=name,
        refusal=next(code for cls, code in _CODES.items() if isinstance(error, cls)),
    )


def terms_of(
    plan: TrainingPlan,
    schedule: LocalSchedule,
    *,
    institution: str,
    group_column: str | None,
    reproducible: bool,
) -> RunTerms:
    """Write down what a run will do, for its ledger."""
    privacy = plan.privacy
    return RunTerms(
        institution=institution,
        job=plan.job,
        plan=hashlib.sha256(plan.to_json().encode()).hexdigest(),
        unit=privacy.unit,
        grouped_by=group_column if privacy.unit == "group" else None,
        num_units=schedule.num_examples,
        noise_multiplier=schedule.noise_multiplier,
        sampling_rate=schedule.sampling_rate,
        steps=schedule.steps,
        max_rounds=schedule.max_rounds,
        epsilon=privacy.epsilon,
        delta=privacy.delta,
        accountant=privacy.accountant,
        relation=plan.relation,
        reproducible=reproducible,
    )


__all__ = ["Institution", "KeyFn", "Safeguards", "SharedTensors", "refusal"]
