"""The one door to an institution: a request in, a reply out.

Simulated grids and the deployed service both knock here and nowhere else. Whatever goes wrong
inside becomes a coded refusal: the text of an exception stays in the institution's own log.
"""

import functools
import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar, assert_never

from confide.client.admission import Admission
from confide.client.algorithm_state import kept_before
from confide.client.ledger.ledger import Ledger, RoundsSpent
from confide.client.ledger.runs import run_name
from confide.client.questions import Questions
from confide.client.records.encoded import InstitutionData
from confide.client.reservation import RoundAccount
from confide.client.safeguards import Safeguards
from confide.client.scores import Scored, Scores
from confide.client.secure_sums.masking import Masking
from confide.client.told import evaluations
from confide.client.training.trainer import Trainer
from confide.client.training_round import RoundWork, RowsFn, TrainingRounds
from confide.client.update_measures import UpdateMeasures
from confide.errors import (
    ConfideError,
    DeniedError,
    LedgerError,
    PrivacyError,
    ProtocolError,
    RowsDifferError,
    StorageError,
)
from confide.protocol.codecs.travel import PLAIN
from confide.protocol.messages import Reply, Request, RequestKind
from confide.protocol.plan import TrainingPlan
from confide.protocol.refusals import Refusal
from confide.protocol.tensors import Decoder, Tensors
from confide.strategies.algorithm import ClientResult
from confide.strategies.parts import build_algorithm
from confide.tasks.task import Examples

log = logging.getLogger(__name__)
_T = TypeVar("_T")

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
        if serves.task.self_training is not None:
            least = safeguards.policy.config.min_confidence
            data = replace(data, confidence=max(serves.task.self_training, least))
        self._name = name
        self._data = data
        self._parsed: tuple[str, TrainingPlan] | None = None
        self._trainer = trainer
        self._safeguards = safeguards
        self._admission = Admission(
            policy=safeguards.policy,
            ledger=safeguards.ledger,
            data=data,
            serves=serves,
            shapes=trainer.shapes,
            begun=safeguards.begun,
        )
        self._account = RoundAccount(
            name,
            data=data,
            ledger=safeguards.ledger,
            randomness=safeguards.randomness,
            noisy_scores=safeguards.policy.config.metrics_privacy == "noisy",
            brackets=safeguards.brackets,
        )
        self._scores = Scores(
            data=data,
            trainer=trainer,
            policy=safeguards.policy,
            ledger=safeguards.ledger,
            account=self._account,
            evaluations=safeguards.evaluations,
        )
        self._masking = Masking(safeguards)
        self._questions = Questions(
            shapes=trainer.shapes,
            decoder=decoder,
            safeguards=safeguards,
            admission=self._admission,
            account=self._account,
            masking=self._masking,
        )
        self._rounds = TrainingRounds(
            data=data,
            trainer=trainer,
            questions=self._questions,
            safeguards=safeguards,
            account=self._account,
            scores=self._scores,
            masking=self._masking,
        )

    @property
    def name(self) -> str:
        """Name that the coordinator knows it by."""
        return self._name

    @property
    def validation(self) -> Examples:
        """Records that a round scores, for whoever scores many institutions' at once."""
        return self._data.split("validation")

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
        if kind == "train":
            work = self.begin(request)
            if isinstance(work, Reply):
                return work
            return self.end(work, functools.partial(self.compute, work))

        def answer() -> Reply:
            plan = self._read(request)
            match kind:
                case "query":
                    return self._describe(plan, request)
                case "evaluate":
                    return self._score(plan, request)
                case "unmask":
                    return self._unmask(plan, request)
                case _:
                    assert_never(kind)

        return self._told(request, self._guarded(kind, answer))

    def begin(self, request: Request, *, rows_fn: RowsFn | None = None) -> RoundWork | Reply:
        """Do all of a request to train that comes before the computation.

        Args:
            request: from the coordinator, not trusted.
            rows_fn: checks the passes of whoever computes; None where that is the trainer.

        Returns:
            A round that is counted, to be computed and brought to :meth:`end`; or a reply, where
            nothing is to be computed.
        """

        def begin() -> RoundWork | Reply:
            return self._rounds.begin(self._read(request), request, rows_fn=rows_fn)

        begun = self._guarded("train", begin)
        return self._told(request, begun) if isinstance(begun, Reply) else begun

    def compute(self, work: RoundWork) -> ClientResult:
        """Compute a round that :meth:`begin` returned, here and alone.

        Raises:
            Exception: whatever breaks it off; brought to :meth:`end`, it is a refusal.
        """
        return self._rounds.compute(work)

    def end(
        self,
        work: RoundWork,
        result_fn: Callable[[], ClientResult],
        *,
        sends_update: bool = True,
        measures: UpdateMeasures | None = None,
    ) -> Reply:
        """Do all of a request to train that comes after the computation.

        Args:
            work: as :meth:`begin` returned it, once.
            result_fn: computes it, or returns what was computed; what it raises is a refusal.
            sends_update: whether the update is in the reply; or else whoever computed adds it up
                where it is, if the reply is no refusal.
            measures: of what leaves, where whoever computed many has measured all at once; None to
                measure it here. They are held against the policy here.
        """

        def end() -> Reply:
            return self._rounds.end(work, result_fn(), sends_update=sends_update, measures=measures)

        return self._told(work.request, self._guarded("train", end))

    def _read(self, request: Request) -> TrainingPlan:
        self.ledger.check_head(request.ledger_head)
        # A simulation sends one text to many, round by round.
        if self._parsed is None or self._parsed[0] is not request.plan:
            self._parsed = request.plan, TrainingPlan.from_json(request.plan)
        return self._parsed[1]

    def _guarded(self, kind: RequestKind, answer_fn: Callable[[], _T]) -> _T | Reply:
        """Return an answer, or the refusal that stands for what kept it from being given."""
        try:
            return answer_fn()
        except Exception as error:
            return refusal(self.name, kind, error)

    def _told(self, request: Request, reply: Reply) -> Reply:
        # Read last: the ledger may have grown before a refusal too.
        return with_head(reply, self.ledger, request.plan)

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
        return Reply(
            institution=self.name,
            num_examples=schedule.num_examples,
            figures=figures,
            advert=self._masking.advert(plan, schedule),
        )

    def _unmask(self, plan: TrainingPlan, request: Request) -> Reply:
        schedule = self._admission.schedule(plan, request.plan)
        answer = self._masking.unmask(plan, request, schedule)
        return Reply(institution=self.name, num_examples=schedule.num_examples, sum=answer)

    def _score(self, plan: TrainingPlan, request: Request) -> Reply:
        if plan.releases:
            raise ProtocolError(
                "A plan that asks for a release has no model to score.", code=Refusal.NOT_TRAINED
            )
        schedule = self._admission.schedule(plan, request.plan)
        received = self._questions.decode(request, self._trainer.shapes, PLAIN)
        mode = self._safeguards.policy.config.metrics_privacy
        noisy = mode == "noisy"
        # Noisy scores are charged by themselves.
        if not noisy and self.ledger.keeps_account and not self.spent(plan.job).count:
            raise DeniedError(
                f"Job {plan.job} asks for scores and has not trained here.",
                code=Refusal.NOT_TRAINED,
            )
        algorithm = build_algorithm(plan.objective)
        kept: Tensors = {}
        if algorithm.predict_with is not None:
            states = self._safeguards.states
            kept = kept_before(states, plan, received.tensors, before=sys.maxsize).algorithm
        scored = Scored.of(request, plan, schedule, received=received, kept=kept)
        place = None
        if self._masking.is_asked(plan):
            place = self._masking.place(
                plan,
                request,
                schedule,
                digest=received.digest,
                scored=scored.of_splits(request.splits),
            )
        told = self._scores.asked(scored, request.splits)
        # Of validation records, and of none, whoever asks may have models scored without an end
        is_final = "test" in told or (mode == "none" and "test" in request.splits)
        if self._safeguards.scored_fn is not None and is_final:
            self._safeguards.scored_fn(plan, scored.tensors, self._trainer, self._data)
        terms = self._account.terms(plan, schedule)
        reply = Reply(
            institution=self.name,
            num_examples=schedule.num_examples,
            figures=self._account.figures(terms) if noisy and plan.private else {},
        )
        if place is not None:
            return self._masking.mask_scores(place, evaluations(told)).on(reply)
        return replace(
            reply,
            evaluations=evaluations(told),
            tallies={split: one.tally for split, one in told.items() if one.tally is not None},
        )


def with_head(reply: Reply, ledger: Ledger, text: str) -> Reply:
    """Add the head of the run that a plan is of, if it has begun.

    Args:
        reply: answer or refusal.
        ledger: the institution's.
        text: plan, as it was sent.
    """
    if not ledger.keeps_account:  # nor has it a head
        return reply
    try:
        plan = TrainingPlan.from_json(text)
        head = ledger.head(run_name(reply.institution, plan.job), plan.sha256)
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


__all__ = ["Institution", "refusal", "with_head"]
