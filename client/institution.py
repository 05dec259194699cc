"""The one door to an institution: a request in, a reply out.

Simulated grids and the deployed service both knock here and nowhere else. Whatever goes wrong
inside becomes a coded refusal: the text of an exception stays in the institution's own log.
"""

import functools
import logging
import sys
from dataclasses import dataclass, replace
from typing import assert_never

from confide.client.admission import Admission
from confide.client.algorithm_state import ClientStates, kept_before
from confide.client.evaluation_quota import Evaluations
from confide.client.ledger.ledger import Ledger, RoundsSpent, already_answered, rounds_spent
from confide.client.ledger.state import run_name
from confide.client.policy import Policy
from confide.client.records.encoded import InstitutionData
from confide.client.release import Releases
from confide.client.reservation import KeyFn, Randomness, RoundAccount
from confide.client.schedule import LocalSchedule
from confide.client.scores import Scored, Scores, evaluations
from confide.client.training.local_round import RoundInputs, local_round
from confide.client.training.trainer import Trainer
from confide.errors import (
    ConfideError,
    DeniedError,
    LedgerError,
    PrivacyError,
    ProtocolError,
    RowsDifferError,
    StorageError,
)
from confide.protocol.messages import Reply, Request, RequestKind
from confide.protocol.plan import TrainingPlan, plan_sha256
from confide.protocol.refusals import Refusal
from confide.protocol.tensors import DecodedTensors, Decoder, Shapes, Tensors, encode
from confide.strategies.algorithm import Memory, join_extra, split_extra
from confide.strategies.parts import build_algorithm

log = logging.getLogger(__name__)

# What the other side learns of an error. The order matters: a ledger's error is one of storage too,
# and rows that differ are one of privacy.
_REFUSALS = {
    LedgerError: Refusal.LEDGER,
    StorageError: Refusal.STORAGE,
    RowsDifferError: Refusal.ROWS_DIFFER,
    PrivacyError: Refusal.PRIVACY,
    ConfideError: Refusal.CANNOT_COMPLY,
    Exception: Refusal.INTERNAL_ERROR,
}


@dataclass(frozen=True, kw_only=True)
class Safeguards:
    """What an institution decides and remembers by itself, whatever a plan says.

    Attributes:
        policy: the institution's rules.
        ledger: its record of what was spent.
        key_fn: source of a round's randomness; None for fresh keys from the operating system.
        reproducible: whether ``key_fn`` derives from a seed, so that the guarantee is void for
            whoever knows it.
        by_round: whether randomness then follows from job and round alone, and not from the tensors
            that came: only for public records, which nobody could learn anything of.
        states: tensors kept between rounds; None declines algorithms that keep any.
        evaluations: bound on how many exact scores leave; None for any number, in a simulation.
    """

    policy: Policy
    ledger: Ledger
    key_fn: KeyFn | None = None
    reproducible: bool = False
    by_round: bool = False
    states: ClientStates | None = None
    evaluations: Evaluations | None = None

    def __post_init__(self) -> None:
        if self.reproducible and not self.policy.config.allow_reproducible_noise:
            raise PrivacyError(
                "Noise would derive from a seed, and policy.allow_reproducible_noise=false; leave"
                " the seed out."
            )

    @functools.cached_property
    def randomness(self) -> Randomness:
        """Where the institution's randomness comes from."""
        return Randomness(
            key_fn=self.key_fn, reproducible=self.reproducible, by_round=self.by_round
        )


class Institution:
    """One institution: its records, its trainer, its rules and its memory.

    Args:
        name: name that the coordinator knows it by.
        data: encoded records.
        trainer: trainer, which the institutions of a simulation share.
        decoder: decodes what the coordinator sends; shared like the trainer.
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
        decoder: Decoder,
        serves: TrainingPlan,
        safeguards: Safeguards,
    ) -> None:
        self._name = name
        self._data = data
        self._trainer = trainer
        self._decoder = decoder
        self._safeguards = safeguards
        self._memory: Memory = {}
        self._admission = Admission(
            policy=safeguards.policy,
            ledger=safeguards.ledger,
            data=data,
            serves=serves,
            shapes=trainer.shapes,
        )
        self._account = RoundAccount(
            name,
            data=data,
            ledger=safeguards.ledger,
            randomness=safeguards.randomness,
            noisy_scores=safeguards.policy.config.metrics_privacy == "noisy",
        )
        self._releases = Releases(name, data=data, policy=safeguards.policy, account=self._account)
        self._scores = Scores(
            data=data,
            trainer=trainer,
            policy=safeguards.policy,
            ledger=safeguards.ledger,
            account=self._account,
            evaluations=safeguards.evaluations,
        )

    @property
    def name(self) -> str:
        """Name that the coordinator knows it by."""
        return self._name

    @property
    def ledger(self) -> Ledger:
        """Record of what was spent."""
        return self._safeguards.ledger

    def spent(self, job: str) -> RoundsSpent:
        """Return what a job has computed from training records here."""
        return self.ledger.spent(run_name(self.name, job))

    def restore_spent(self, job: str, spent: RoundsSpent) -> None:
        """Take over what another process of the same simulation spent on a job."""
        self.ledger.restore_spent(run_name(self.name, job), spent)

    def handle(self, kind: RequestKind, request: Request) -> Reply:
        """Answer one request.

        Args:
            kind: kind of the request.
            request: from the coordinator, not trusted.

        Returns:
            An answer, or a refusal with a code; never raises for what a coordinator can cause.
        """
        try:
            self.ledger.check_head(request.ledger_head)
            plan = TrainingPlan.from_json(request.plan)
            reply = self._answer(kind, plan, request)
        except Exception as error:
            reply = refusal(self.name, kind, error)
        # Read last: the ledger may have grown before a refusal too.
        return with_head(reply, self.ledger, request.plan)

    def _answer(self, kind: RequestKind, plan: TrainingPlan, request: Request) -> Reply:
        match kind:
            case "query":
                return self._describe(plan, request)
            case "train":
                return self._train(plan, request)
            case "evaluate":
                return self._evaluate(plan, request)
            case _:
                assert_never(kind)

    def _describe(self, plan: TrainingPlan, request: Request) -> Reply:
        schedule = self._admission.schedule(plan, request.plan)
        figures: dict[str, float] = {}
        if plan.private:
            terms = self._account.terms(plan, schedule)
            self.ledger.admit(terms)
            total = terms.epsilon_planned
            figures = {
                "noise_multiplier": schedule.noise_multiplier,
                "sampling_rate": schedule.sampling_rate,
                "epsilon_planned": total,
                "reproducible": float(self._safeguards.reproducible),
            }
        return Reply(institution=self.name, num_examples=schedule.num_examples, figures=figures)

    def _train(self, plan: TrainingPlan, request: Request) -> Reply:
        """Answer with an update.

        Everything that can be refused is refused before the round is reserved, which spends it.
        """
        schedule = self._admission.schedule(plan, request.plan)
        algorithm = build_algorithm(plan.objective)
        start = self._decode(request, algorithm.request_shapes(self._trainer.shapes))
        params, extra = split_extra(start.tensors)
        self._admission.check_same_plan(plan.job, request.plan)
        if request.server_round not in range(1, schedule.max_rounds + 1):
            raise rounds_spent(asked=request.server_round, allowed=schedule.max_rounds)
        kept = kept_before(self._safeguards.states, plan, params, before=request.server_round)
        key = self._account.identify(plan, request, start, kept)
        answered = self._account.answered(key)
        if answered is not None:
            shapes = algorithm.reply_shapes(self._trainer.shapes)
            return self._still_allowed(plan, answered, shapes)
        self._safeguards.policy.check_hours()
        if plan.releases:
            return self._releases.answer(plan, schedule, key)
        if plan.private:
            self._trainer.check_rows(params, schedule)
        # Round r scores the tensors it starts from, so that a round is one exchange.
        scored = self._scored(plan, request, schedule, start, kept)
        validation = self._scores.of_round(scored, request.server_round)
        reserved = self._account.reserve(key, plan, schedule, request.server_round)
        # Only a CPU repeats it bit for bit, and equal noise on two sums would cancel.
        if reserved.is_replay and self._trainer.workload.compute.device.type != "cpu":
            raise already_answered(key.run)
        inputs = RoundInputs(
            params=params,
            extra=extra,
            kept=kept,
            server_round=request.server_round,
            memory=self._memory,
        )
        result = local_round(
            self._trainer,
            inputs,
            self._data,
            plan=plan,
            schedule=schedule,
            secret=reserved.secret,
        )
        update = join_extra(result.update, result.extra)
        reply = Reply(institution=self.name, num_examples=schedule.num_examples)
        try:
            self._safeguards.policy.check_update(update)
        except DeniedError:
            self._account.abandon(key)
            raise
        if algorithm.first_kept is not None and self._safeguards.states is not None:
            self._safeguards.states.save(plan.job, request.server_round, result.kept)
        reply = replace(reply, evaluations=validation, figures=reserved.figures)
        if plan.private:
            self._account.settle(key, reply, update)
        return replace(reply, arrays=encode(update))

    def _evaluate(self, plan: TrainingPlan, request: Request) -> Reply:
        if plan.releases:
            raise ProtocolError(
                "A plan that asks for a release has no model to score.", code=Refusal.NOT_TRAINED
            )
        schedule = self._admission.schedule(plan, request.plan)
        received = self._decode(request, self._trainer.shapes)
        noisy = self._safeguards.policy.config.metrics_privacy == "noisy"
        # Noisy scores are charged by themselves.
        if not noisy and self.ledger.keeps_account and not self.spent(plan.job).count:
            raise DeniedError(
                f"Job {plan.job} asks for scores and has not trained here.",
                code=Refusal.NOT_TRAINED,
            )
        algorithm = build_algorithm(plan.objective)
        kept: Tensors = {}
        if algorithm.predict_with is not None:
            kept = kept_before(self._safeguards.states, plan, received.tensors, before=sys.maxsize)
        scored = self._scored(plan, request, schedule, received, kept)
        # Scores on training records would tell who is among them.
        splits = [split for split in request.splits if split != "train"]
        told = self._scores.of(scored, splits)
        terms = self._account.terms(plan, schedule)
        return Reply(
            institution=self.name,
            num_examples=schedule.num_examples,
            evaluations=evaluations(told),
            tallies={split: one.tally for split, one in told.items() if one.tally is not None},
            figures={"epsilon": self._account.spent(terms)} if noisy and plan.private else {},
        )

    def _scored(
        self,
        plan: TrainingPlan,
        request: Request,
        schedule: LocalSchedule,
        received: DecodedTensors,
        kept: Tensors,
    ) -> Scored:
        """Return what the tensors of a request, with what is kept here, predict with."""
        algorithm = build_algorithm(plan.objective)
        params, _ = split_extra(received.tensors)
        predict_with = algorithm.predict_with
        return Scored(
            plan=plan,
            text=request.plan,
            server_round=request.server_round,
            schedule=schedule,
            tensors=predict_with(params, kept) if predict_with else params,
            params=params,
            kept=kept if predict_with else {},
        )

    def _decode(self, request: Request, shapes: Shapes) -> DecodedTensors:
        if request.arrays is None:
            raise ProtocolError("Expected tensors with the request.", code=Refusal.TENSOR_NAMES)
        received = self._decoder.decode(request.arrays, shapes)
        self._safeguards.policy.check_values(received.largest)
        return received

    def _still_allowed(self, plan: TrainingPlan, reply: Reply, shapes: Shapes) -> Reply:
        """Hold a durable reply against the policy of today."""
        if plan.releases:
            return self._releases.again(plan, reply)
        if reply.arrays is not None:
            # A decoder of its own: the shared one holds what other institutions start from.
            update = Decoder(shapes).decode(reply.arrays)
            self._safeguards.policy.check_update(update.tensors)
        return replace(reply, evaluations=self._safeguards.policy.released(reply.evaluations))


def with_head(reply: Reply, ledger: Ledger, text: str) -> Reply:
    """Add the head of the run that a plan is of, if it has begun.

    Args:
        reply: answer or refusal.
        ledger: the institution's.
        text: plan, as it was sent.
    """
    try:
        plan = TrainingPlan.from_json(text)
        head = ledger.head(run_name(reply.institution, plan.job), plan_sha256(plan.to_json()))
    except ConfideError as error:  # no plan, or no key to sign with
        log.warning("%s tells no head of its ledger: %s", reply.institution, error)
        return reply
    return replace(reply, ledger_head=head) if head else reply


def refusal(name: str, kind: str, error: Exception) -> Reply:
    """Write the refusal that stands for an error.

    The text of the error stays in the institution's own log: it may quote a record.

    Args:
        name: name of the institution.
        kind: kind of the request.
        error: what keeps the institution from answering.
    """
    if isinstance(error, ConfideError):
        log.warning("%s declines a %s request: %s", name, kind, error)
    else:
        log.error("%s failed to answer a %s request.", name, kind, exc_info=error)
    if isinstance(error, DeniedError | ProtocolError):
        code: str = error.code
    else:
        code = next(code for kind, code in _REFUSALS.items() if isinstance(error, kind))
    figures = error.figures if isinstance(error, DeniedError) else {}
    return Reply(institution=name, refusal=code, figures=figures)


__all__ = ["Institution", "Safeguards", "refusal", "with_head"]
