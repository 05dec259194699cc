"""A round of training at an institution, in two phases around the line that computes.

``begin`` refuses, scores and reserves: what it hands on is counted, and only that may be computed.
``end`` holds the update against the policy, settles and writes the reply. Whoever computes, for one
institution or for many at once, has to come through both.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from confide.client.algorithm_state import Kept, keeps_state
from confide.client.ledger.ledger import already_answered
from confide.client.questions import AskedRound, Questions
from confide.client.records.encoded import InstitutionData
from confide.client.release import Releases
from confide.client.reservation import ReservedRound, RoundAccount, RoundKey
from confide.client.safeguards import Safeguards
from confide.client.schedule import LocalSchedule, plan_of_round
from confide.client.scores import Scored, Scores
from confide.client.secure_sums.masking import Masking, SumPlace
from confide.client.secure_sums.noise import share_secret, with_share
from confide.client.secure_sums.record_noise import PeerNoises
from confide.client.training.alternating import trainer_of_round
from confide.client.training.local_round import RoundInputs, local_round
from confide.client.training.trainer import Trainer
from confide.client.training.work import LocalWork
from confide.client.update_measures import UpdateMeasures, measure
from confide.errors import DeniedError, PrivacyError
from confide.models.compute import threads
from confide.protocol.codecs.travel import Sent, travel_of
from confide.protocol.messages import STEPS, Evaluation, Reply, Request
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import (
    LARGEST_FLOAT32,
    Shapes,
    Tensors,
    encode,
)
from confide.strategies.algorithm import ClientResult, Memory, join_extra, split_received
from confide.strategies.parts import build_algorithm

RowsFn = Callable[[Tensors, LocalSchedule], None]
"""Checks, on the tensors of a round, that what a record adds to a pass is its own affair; raises
RowsDifferError if not."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RoundWork:
    """A round that was counted and may be computed, once.

    Attributes:
        request: what was asked.
        plan: the request's plan, with the learning rate of the round.
        schedule: the work that it comes to here; of all its steps those that are to be taken.
        inputs: the tensors that it starts from.
        data: the institution's records.
        key: what identifies it in the ledger.
        reserved: its secret, and what the run has spent with it.
        validation: scores of the tensors that it starts from, as they may leave.
        codec_state: what the upload's codec kept after the round before.
        within_s: seconds after which no further step is taken; None for all steps.
        place: the masked sum that its update goes into; None where it leaves as it is.
        share_secret: what its share of the sum's noise derives from, where there is one.
    """

    request: Request
    plan: TrainingPlan
    schedule: LocalSchedule
    inputs: RoundInputs
    data: InstitutionData
    key: RoundKey
    reserved: ReservedRound
    validation: Mapping[str, Evaluation]
    codec_state: Tensors = field(default_factory=dict)
    within_s: float | None = None
    place: SumPlace | None = None
    share_secret: bytes = field(default=b"", repr=False)


class TrainingRounds:
    """An institution's rounds of training.

    Args:
        data: encoded records.
        trainer: computes.
        questions: reads what the coordinator asks for.
        safeguards: what the institution decides and remembers by itself.
        account: counts rounds in the ledger.
        scores: scores the tensors that a round starts from.
        masking: masks what leaves, where a plan asks for that.
    """

    def __init__(  # noqa: PLR0913 - what stands between a request and its reply
        self,
        *,
        data: InstitutionData,
        trainer: Trainer,
        questions: Questions,
        safeguards: Safeguards,
        account: RoundAccount,
        scores: Scores,
        masking: Masking,
    ) -> None:
        self._name, self._data, self._trainer = account.name, data, trainer
        self._questions, self._safeguards = questions, safeguards
        self._account, self._scores = account, scores
        self._masking = masking
        self._noises = PeerNoises(safeguards, account)
        self._releases = Releases(
            account.name, data=data, policy=safeguards.policy, account=account
        )
        self._memory: Memory = {}

    def begin(
        self, plan: TrainingPlan, request: Request, *, rows_fn: RowsFn | None = None
    ) -> RoundWork | Reply:
        """Refuse a round, or count it and return what is to be computed.

        Everything that can be refused is refused before the round is reserved, which spends it.

        Args:
            plan: the request's plan.
            request: from the coordinator, not trusted.
            rows_fn: checks the passes of whoever computes; None where that is the trainer.

        Returns:
            The work; or the reply itself, where there is nothing to compute: the same question was
            answered before, or asks for a release.

        Raises:
            ConfideError: what keeps the institution from training.
        """
        asked = self._questions.round(plan, request)
        answered = self._account.answered(asked.key)
        if answered is not None:
            return self._still_allowed(plan, answered, asked.shapes)
        self._safeguards.policy.check_hours()
        if plan.releases:
            return self._releases.answer(plan, asked.schedule, asked.key)
        server_round, place = request.server_round, asked.place
        # Before scores are released, and anything else is spent
        with_peers = self._noises.of_round(
            plan, asked.schedule, server_round, place.context if place else None
        )
        if plan.private:
            self._check_starts(asked, rows_fn)
        # Round r scores the tensors it starts from, so that a round is one exchange.
        validation = self._validated(asked.scored, server_round)
        reserved = self._account.reserve(
            asked.key, plan, asked.schedule, server_round, with_peers=with_peers
        )
        # Only a CPU repeats it bit for bit, and equal noise on two sums would cancel.
        if reserved.is_replay and self._trainer.workload.compute.device.type != "cpu":
            raise already_answered(asked.key.run)
        # Counted whole: with fewer steps less is spent than was charged
        taken, within_s = self._allowed(plan, asked.schedule, server_round)
        return RoundWork(
            request=request,
            plan=plan_of_round(plan, server_round),
            schedule=taken,
            inputs=self._inputs(asked, server_round),
            data=self._data,
            key=asked.key,
            reserved=reserved,
            validation=validation,
            codec_state=asked.kept.codec,
            within_s=within_s,
            place=place,
            share_secret=share_secret(
                self._safeguards.randomness, plan, server_round, asked.start, place
            ),
        )

    def _check_starts(self, asked: AskedRound, rows_fn: RowsFn | None) -> None:
        """Check what a round of private training starts from, as far as that follows from it."""
        params, _ = split_received(asked.start)
        trainer = trainer_of_round(self._trainer, asked.scored.server_round)
        check_fn = rows_fn or trainer.check_rows
        for begun in asked.algorithm.starts_of(params, asked.kept.algorithm):
            if begun is not params:  # of that the bound was checked as it came
                self._check_kept(begun)
            trainer.check_margin(asked.schedule)
            check_fn(begun, asked.schedule)

    def _inputs(self, asked: AskedRound, server_round: int) -> RoundInputs:
        params, extra = split_received(asked.start)
        return RoundInputs(
            params=params,
            extra=extra,
            kept=asked.kept.algorithm,
            server_round=server_round,
            memory=self._memory,
            institution=self._name,
        )

    def _validated(self, scored: Scored, server_round: int) -> Mapping[str, Evaluation]:
        """Return scores of the tensors that a round starts from, as they may leave."""
        if not len(self._data.validation):
            return {}
        return self._scores.of_round(scored, server_round)

    def _allowed(
        self, plan: TrainingPlan, schedule: LocalSchedule, server_round: int
    ) -> tuple[LocalSchedule, float | None]:
        """Return a round's steps as far as their time is known beforehand, or else their time."""
        seconds_fn, within_s = self._safeguards.seconds_fn, plan.client.steps_within_s
        if within_s is None or seconds_fn is None:
            return schedule, within_s
        units = schedule.num_examples
        steps = plan.client.steps_in(units, seconds_fn(server_round, units))
        return replace(schedule, steps=steps), None

    def compute(self, work: RoundWork) -> ClientResult:
        """Compute a round, here and alone."""
        result = local_round(
            self._trainer,
            work.inputs,
            work.data,
            LocalWork(plan=work.plan, schedule=work.schedule, secret=work.reserved.secret),
            within_s=work.within_s,
        )
        share = work.plan.noise_share
        if share is None:
            return result
        return replace(result, update=with_share(result.update, share, secret=work.share_secret))

    def end(
        self,
        work: RoundWork,
        result: ClientResult,
        *,
        sends_update: bool = True,
        measures: UpdateMeasures | None = None,
    ) -> Reply:
        """Hold what was computed against the policy, settle it and write the reply.

        Args:
            work: as ``begin`` returned it.
            result: what was computed of it.
            sends_update: whether the update is in the reply; or else whoever computed adds it up
                where it is, once this has returned.
            measures: of what leaves, where many were measured at once; None to measure it here.

        Raises:
            DeniedError: if the update may not leave; it is never computed again.
            StorageError: if it cannot be kept.
        """
        plan, states = work.plan, self._safeguards.states
        sent = self._written(work, join_extra(result.update, result.extra), measures)
        if states is not None and keeps_state(plan):
            kept = Kept(algorithm=result.kept, codec=sent.state)
            # As it was sent: this one has the learning rate of the round
            asked = TrainingPlan.from_json(work.request.plan)
            states.save(plan.job, work.request.server_round, kept.joined, plan=asked.sha256)
        reply = Reply(
            institution=self._name,
            num_examples=work.schedule.num_examples,
            evaluations={} if work.place else work.validation,
            figures={**work.reserved.figures, **_told_steps(work, result)},
        )
        if work.place is not None:
            return self._masked(work, work.place, sent.told, reply)
        if plan.private:
            self._account.settle(work.key, reply, sent.arrays)
        return replace(reply, arrays=encode(sent.arrays)) if sends_update else reply

    def _masked(self, work: RoundWork, place: SumPlace, update: Tensors, reply: Reply) -> Reply:
        """Return a reply with a masked update in it, which alone is kept."""
        algorithm = build_algorithm(work.plan.objective)
        shapes = algorithm.reply_shapes(self._trainer.shapes)
        try:
            masked = self._masking.mask_update(place, update, shapes, work.validation)
        except DeniedError:
            self._account.abandon(work.key)
            raise
        whole = masked.on(reply)
        if work.plan.private:
            self._account.settle(work.key, replace(whole, arrays=None), masked.tensors)
        return whole

    def _written(self, work: RoundWork, update: Tensors, measures: UpdateMeasures | None) -> Sent:
        """Write an update as it travels, and hold what it tells against the policy.

        Of an update under privacy the noise is in it: whatever is written of it, and whatever
        stays here for the next one, is post-processing.

        Raises:
            DeniedError: if it may not leave; it is never computed again.
        """
        policy, travel = self._safeguards.policy, travel_of(work.plan.upload)
        try:
            # First as it was computed: a codec writes finite numbers alone
            found = measures or measure(update)
            if travel.codec is None or not found.is_finite:
                policy.check_measures(found)
                return Sent(arrays=update, told=update)
            with threads(self._trainer.num_threads):
                sent = travel.write(update, state=work.codec_state, key=work.reserved.secret)
            policy.check_measures(measure(sent.told))
        except DeniedError:
            self._account.abandon(work.key)
            raise
        return sent

    def _check_kept(self, tensors: Tensors) -> None:
        """Check tensors that a training starts from, of which some were kept here.

        Raises:
            PrivacyError: if they are larger than what the policy allows of tensors that come; the
                figure, which follows from records, stays here.
        """
        largest = max(float(value.abs().max()) for value in tensors.values() if value.numel())
        bound = self._safeguards.policy.config.max_value
        if not largest <= bound:
            raise PrivacyError(
                f"What the algorithm keeps here has grown beyond policy.max_value={bound:g}; start"
                " a new run with a lower learning rate."
            )

    def _still_allowed(self, plan: TrainingPlan, reply: Reply, shapes: Shapes) -> Reply:
        """Hold a durable reply against the policy of today."""
        if plan.releases:
            return self._releases.again(plan, reply)
        if reply.arrays is not None and reply.sum is None:  # a masked one was checked before
            # Not by the shared decoder, which holds what other institutions start from
            read = travel_of(plan.upload).decode
            update = read(reply.arrays, shapes, max_value=LARGEST_FLOAT32)
            self._safeguards.policy.check_update(update.tensors)
        return replace(reply, evaluations=self._safeguards.policy.released(reply.evaluations))


def _told_steps(work: RoundWork, result: ClientResult) -> dict[str, float]:
    """Return the figure that tells how many steps an update has, where that may be fewer."""
    if work.plan.client.steps_within_s is None:
        return {}
    steps = work.schedule.steps if result.steps is None else result.steps
    return {STEPS: float(steps)}


__all__ = ["RoundWork", "RowsFn", "TrainingRounds"]
