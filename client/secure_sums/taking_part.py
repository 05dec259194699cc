"""What an institution takes part in masked sums with, and its seat in each job's."""

from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from confide.client.secure_sums.memory import SumMemory
from confide.client.secure_sums.seat import Seat
from confide.client.secure_sums.sum_rules import SumRules
from confide.secure_aggregation.adverts import Identity

_MOST_SEATS = 64


@dataclass(frozen=True, kw_only=True)
class TakingPart:
    """Keys, rules and memory of an institution that takes part in masked sums.

    Attributes:
        identity: signs for it.
        authority: certificate of the federation's authority.
        rules: its own, ``policy.secure``.
        run_key_fn: name of a job -> its key of that job, the same after a restart.
        memory_fn: name of a job -> what it has to remember of its sums.
    """

    identity: Identity
    authority: x509.Certificate
    rules: SumRules
    run_key_fn: Callable[[str], X25519PrivateKey]
    memory_fn: Callable[[str], SumMemory]
    _seats: dict[str, tuple[Seat, tuple[int, float, float]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def seat(
        self, job: str, *, num_examples: int, noise_multiplier: float, sampling_rate: float
    ) -> Seat:
        """Return the institution's seat in a job, with its key signed for these figures."""
        figures = num_examples, noise_multiplier, sampling_rate
        seat, signed = self._seats.get(job, (None, None))
        if seat is not None and signed == figures:  # signing takes a millisecond
            return seat
        if seat is None:
            if len(self._seats) >= _MOST_SEATS:  # all that a seat knows is made again
                self._seats.clear()
            seat = Seat(
                self.identity,
                job,
                authority=self.authority,
                rules=self.rules,
                run_key=self.run_key_fn(job),
                memory=self.memory_fn(job),
            )
        seat.advertise(
            num_examples=num_examples,
            noise_multiplier=noise_multiplier,
            sampling_rate=sampling_rate,
        )
        self._seats[job] = seat, figures
        return seat


__all__ = ["TakingPart"]
