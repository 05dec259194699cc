"""What a coordinator asks an institution for, as it is read: admitted, and not counted yet."""

from dataclasses import dataclass

from confide.client.admission import Admission
from confide.client.algorithm_state import Kept, kept_before
from confide.client.ledger.ledger import rounds_spent
from confide.client.reservation import RoundAccount, RoundKey
from confide.client.safeguards import Safeguards
from confide.client.schedule import LocalSchedule
from confide.client.scores import Scored
from confide.client.secure_sums.masking import Masking, SumPlace
from confide.errors import ProtocolError
from confide.protocol.codecs.travel import Travel, travel_of
from confide.protocol.messages import Request
from confide.protocol.plan import TrainingPlan
from confide.protocol.refusals import Refusal
from confide.protocol.tensors import DecodedTensors, Decoder, Shapes
from confide.strategies.algorithm import Algorithm, split_received
from confide.strategies.parts import build_algorithm


@dataclass(frozen=True, kw_only=True, eq=False)
class AskedRound:
    """A round as it was asked for, admitted and not counted yet.

    Attributes:
        algorithm: of the plan.
        schedule: the work that it comes to here.
        start: decoded tensors of the request.
        kept: what the institution kept after the round before.
        scored: the tensors it starts from, as they are scored.
        shapes: of the tensors of a reply.
        place: the masked sum that its update goes into; None where it leaves as it is.
        key: what identifies it in the ledger.
    """

    algorithm: Algorithm
    schedule: LocalSchedule
    start: DecodedTensors
    kept: Kept
    scored: Scored
    shapes: Shapes
    place: SumPlace | None
    key: RoundKey


class Questions:
    """Reads what a coordinator asks an institution for.

    Args:
        shapes: of the trainable tensors.
        decoder: decodes what the coordinator sends.
        safeguards: what the institution decides and remembers by itself.
        admission: holds plans against the policy.
        account: counts rounds in the ledger.
        masking: masks what leaves, where a plan asks for that.
    """

    def __init__(
        self,
        *,
        shapes: Shapes,
        decoder: Decoder,
        safeguards: Safeguards,
        admission: Admission,
        account: RoundAccount,
        masking: Masking,
    ) -> None:
        self._shapes, self._decoder, self._safeguards = shapes, decoder, safeguards
        self._admission, self._account, self._masking = admission, account, masking
        self._sent: tuple[Algorithm, Shapes] | None = None

    def round(self, plan: TrainingPlan, request: Request) -> AskedRound:
        """Read a round, and refuse what does not depend on what was spent.

        Args:
            plan: the request's plan.
            request: from the coordinator, not trusted.

        Raises:
            ConfideError: what keeps the institution from training.
        """
        schedule = self._admission.schedule(plan, request.plan)
        algorithm = build_algorithm(plan.objective)
        # A release is asked for with the tensors as they are, and answered so
        start = self.decode(request, self._sent_shapes(algorithm), travel_of(plan.download))
        params, _ = split_received(start)
        self._admission.check_same_plan(plan.job, request.plan)
        if request.server_round not in range(1, schedule.max_rounds + 1):
            raise rounds_spent(asked=request.server_round, allowed=schedule.max_rounds)
        kept = kept_before(self._safeguards.states, plan, params, before=request.server_round)
        scored = Scored.of(request, plan, schedule, received=start, kept=kept.algorithm)
        shapes = algorithm.reply_shapes(self._shapes)
        place = None
        if self._masking.is_asked(plan):
            place = self._masking.place(
                plan,
                request,
                schedule,
                digest=start.digest,
                scored=scored.of_splits(("validation",)),
                shapes=shapes,
            )
        context = place.context.digest.hex() if place else ""
        return AskedRound(
            algorithm=algorithm,
            schedule=schedule,
            start=start,
            kept=kept,
            scored=scored,
            shapes=shapes,
            place=place,
            key=self._account.identify(plan, request, start, kept.joined, context=context),
        )

    def decode(self, request: Request, shapes: Shapes, travel: Travel) -> DecodedTensors:
        """Decode the tensors of a request.

        Args:
            request: from the coordinator, not trusted.
            shapes: of the tensors that it must tell of.
            travel: how they travel.

        Raises:
            ProtocolError: if there are none, or others than expected.
            DeniedError: if the policy allows no such values.
        """
        if request.arrays is None:
            raise ProtocolError("Expected tensors with the request.", code=Refusal.TENSOR_NAMES)
        received = self._decoder.decode(request.arrays, shapes, travel.decode)
        self._safeguards.policy.check_values(received.largest)
        return received

    def _sent_shapes(self, algorithm: Algorithm) -> Shapes:
        """Return the shapes of what a request holds, which are the same in every round."""
        if self._sent is None or self._sent[0] is not algorithm:
            self._sent = algorithm, algorithm.request_shapes(self._shapes)
        return self._sent[1]


__all__ = ["AskedRound", "Questions"]
