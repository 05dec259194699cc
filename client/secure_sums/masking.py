"""An institution's side of a masked sum: which sum a request is for, and what goes into it.

Nothing of an update, nor of its scores, leaves in the open where a plan asks for masked sums. What
leaves is a function of the institution's key of the job, of the sum and of the update.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy
import torch

from confide.client.safeguards import Safeguards
from confide.client.schedule import LocalSchedule
from confide.client.secure_sums.memory import SCORES
from confide.client.secure_sums.record_noise import stated_noise
from confide.client.secure_sums.seat import Seat
from confide.errors import DeniedError, ProtocolError
from confide.metrics.summed import SummedScores
from confide.protocol.masked_sums import MaskedSums, SumAnswer, SumQuestion
from confide.protocol.messages import Evaluation, Reply, Request
from confide.protocol.plan import TrainingPlan
from confide.protocol.refusals import Refusal
from confide.protocol.tensors import Shapes, Tensors, check_values, flatten, num_values
from confide.protocol.words import MASKED, Words, encode_words
from confide.secure_aggregation.context import SumContext
from confide.secure_aggregation.wide import to_words
from confide.storage.tensor_files import sha256
from confide.strategies.aggregators import add_scaled
from confide.strategies.masked_sums import context_of, length_of, question_of, scores_in, weight_of


@dataclass(frozen=True, kw_only=True)
class SumPlace:
    """The sum that an answer goes into, and the institution's seat in it.

    Attributes:
        context: of the sum, checked.
        seat: masks and opens.
        sums: what the plan says of sums.
        scores: how metrics stand at the end of the vector.
        scored: split -> identifier of what is scored, so that it is in one sum only.
    """

    context: SumContext
    seat: Seat
    sums: MaskedSums
    scores: SummedScores
    scored: Mapping[str, str]

    def scores_that_may_leave(
        self, evaluations: Mapping[str, Evaluation]
    ) -> Mapping[str, Evaluation]:
        """Return scores but for those that are in another sum already.

        Two sums over different cohorts with the same scores in them would tell one's by their
        difference.
        """
        return {
            split: one
            for split, one in evaluations.items()
            if not self.seat.has_scored(self.scored[split], but=self.context)
        }


@dataclass(frozen=True, kw_only=True)
class Masked:
    """What leaves of an answer.

    Attributes:
        words: the masked vector.
        answer: what comes with it.
    """

    words: Words
    answer: SumAnswer

    def on(self, reply: Reply) -> Reply:
        """Return a reply with it."""
        return replace(reply, arrays=encode_words(self.words), sum=self.answer)

    @property
    def tensors(self) -> Tensors:
        """The vector as a ledger keeps it: signed integers of the same bits."""
        bits = 8 * self.words.dtype.itemsize
        return {MASKED: torch.from_numpy(self.words.view(f"<i{bits // 8}"))}


class Masking:
    """Finds the sum that a request is for, and masks what goes into it.

    Args:
        safeguards: what the institution decides and remembers by itself.
    """

    def __init__(self, safeguards: Safeguards) -> None:
        self._safeguards = safeguards

    def is_asked(self, plan: TrainingPlan) -> bool:
        """Tell whether answers to a plan leave masked."""
        return plan.sums is not None and not self._safeguards.emulates_sums

    def advert(self, plan: TrainingPlan, schedule: LocalSchedule) -> str:
        """Return the institution's signed key of a job, as text; empty where none is asked for."""
        if not self.is_asked(plan):
            return ""
        return self._seat(plan, schedule).advert.to_text()

    def _seat(self, plan: TrainingPlan, schedule: LocalSchedule) -> Seat:
        taking_part = self._safeguards.sums
        if taking_part is None:
            raise ProtocolError(
                "The plan asks for masked sums, and there is no trainer.key with its certificate"
                " to sign by; `confide doctor` says what is missing.",
                code=Refusal.SUM_KEYS,
            )
        return taking_part.seat(
            plan.job,
            num_examples=schedule.num_examples,
            noise_multiplier=stated_noise(self._safeguards, schedule),
            sampling_rate=schedule.sampling_rate if plan.private else 1.0,
        )

    def place(
        self,
        plan: TrainingPlan,
        request: Request,
        schedule: LocalSchedule,
        *,
        digest: str,
        scored: Mapping[str, str],
        shapes: Shapes | None = None,
    ) -> SumPlace:
        """Return the sum that an answer goes into.

        Args:
            plan: the request's plan, which asks for masked sums.
            request: from the coordinator, not trusted.
            schedule: the work that it comes to here.
            digest: of the request's tensors.
            scored: split -> identifier of what is scored on its records.
            shapes: of an update; None where scores alone are asked for.

        Raises:
            ConfideError: if the sum may not be what the coordinator makes of it.
        """
        sums, asked = _asked(plan, request)
        splits = tuple(scored)
        scores = scores_in(plan, splits, len(asked.cohort))
        kind = "evaluate" if shapes is None else "train"
        context = context_of(
            plan,
            sums,
            asked,
            server_round=request.server_round,
            question=question_of(kind, plan, digest, splits, asked.before),
            length=length_of(shapes or {}, scores, sums),
        )
        seat = self._seat(plan, schedule)
        seat.check(context, asked.before)
        if sums.share is not None and shapes is not None:
            seat.check_share(context, honest=sums.share.honest, rounds=schedule.max_rounds)
        return SumPlace(
            context=context,
            seat=seat,
            sums=sums,
            scores=scores,
            scored=scored,
        )

    def mask_update(
        self, place: SumPlace, update: Tensors, shapes: Shapes, scores: Mapping[str, Evaluation]
    ) -> Masked:
        """Mask an update with its scores.

        Args:
            place: of the round.
            update: what would leave without masks.
            shapes: of it, in the order in which everybody lays tensors out.
            scores: of the tensors that the round started from, as they may leave.

        Raises:
            DeniedError: if a value is beyond what the sum has room for.
        """
        try:
            check_values(update, max_value=place.sums.max_value)
        except ProtocolError as error:  # nobody else can see it: the sum would be spoilt
            raise DeniedError(str(error), code=Refusal.TENSOR_VALUES) from None
        own = next(it for it in place.context.cohort if it.name == place.seat.advert.name)
        weight = weight_of(own.num_examples, place.sums)
        values = torch.zeros(num_values(shapes), dtype=torch.int64)
        add_scaled(values, flatten(update, shapes), weight * 2.0**place.context.scale_bits)
        return self._masked(place, values.numpy(), sha256(update), scores)

    def mask_scores(self, place: SumPlace, scores: Mapping[str, Evaluation]) -> Masked:
        """Mask scores that are asked for by themselves."""
        nothing = numpy.zeros(0, dtype=numpy.int64)
        return self._masked(place, nothing, SCORES + place.context.question, scores)

    def _masked(
        self,
        place: SumPlace,
        values: "numpy.ndarray[tuple[int], numpy.dtype[numpy.int64]]",
        update: str,
        scores: Mapping[str, Evaluation],
    ) -> Masked:
        told = place.scores_that_may_leave(scores)
        words = to_words(place.scores.write(told), place.sums.bits)
        whole = numpy.concatenate([values, words])
        # Of those that stay here nothing is remembered: asked again, the sum is the same
        scored = [place.scored[split] for split in told]
        masked = place.seat.mask(place.context, whole, update, scores=scored)
        answer = SumAnswer(commitments=masked.commitments, boxes=masked.boxes)
        return Masked(words=masked.vector, answer=answer)

    def unmask(self, plan: TrainingPlan, request: Request, schedule: LocalSchedule) -> SumAnswer:
        """Help to open a sum, once and for one set of survivors.

        Raises:
            ConfideError: if the sum is not known here, or may not be opened so.
        """
        if not self.is_asked(plan):
            raise ProtocolError("The plan asks for no masked sums.", code=Refusal.SUM_UNKNOWN)
        sums, asked = _asked(plan, request)
        context = context_of(
            plan,
            sums,
            asked,
            server_round=request.server_round,
            question=asked.question,
            length=asked.length,
        )
        opened = self._seat(plan, schedule).unmask(context, asked.survivors, asked.boxes)
        return SumAnswer(shares=opened.shares, signature=opened.signature)


def _asked(plan: TrainingPlan, request: Request) -> tuple[MaskedSums, SumQuestion]:
    asked, sums = request.sum, plan.sums
    if asked is None or sums is None:
        raise ProtocolError(
            "The plan asks for masked sums, and the request names no cohort.",
            code=Refusal.SUM_COHORT,
        )
    if not asked.cohort:
        raise ProtocolError(
            "Expected a cohort with this institution in it.", code=Refusal.SUM_COHORT
        )
    if sums.threshold is not None and asked.threshold != sums.threshold:
        raise ProtocolError(
            f"The plan says threshold={sums.threshold}, the request {asked.threshold}.",
            code=Refusal.SUM_COHORT,
        )
    return sums, asked


__all__ = ["Masked", "Masking", "SumPlace"]
