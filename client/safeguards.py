"""What an institution decides and remembers by itself, whatever a plan says."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

from confide.client.algorithm_state import ClientStates
from confide.client.evaluation_quota import Evaluations
from confide.client.ledger.ledger import Ledger
from confide.client.policy import Policy
from confide.client.records.encoded import InstitutionData
from confide.client.reservation import KeyFn, Randomness
from confide.client.secure_sums.taking_part import TakingPart
from confide.client.training.trainer import Trainer
from confide.errors import PrivacyError
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors

ScoredFn = Callable[[TrainingPlan, Tensors, Trainer, InstitutionData], None]
"""Plan, tensors that predict, the trainer that holds the model, the institution's records."""
SecondsFn = Callable[[int, int], float]
"""(number of the round, number of training units) -> virtual seconds that all its steps take."""


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
        brackets: whether epsilon is told as that of a few numbers of rounds, in a simulation.
        begun: job -> the plan that it began to train with here, as text.
        seconds_fn: how long all steps of a round take, in a simulation with a virtual clock; None:
            as long as they do.
        sums: what it takes part in masked sums with; None declines plans that ask for them.
        emulates_sums: whether updates leave as they are where a plan asks for masked sums, in a
            simulation that adds them up in the open.
        scored_fn: called when a trained model was scored on test records, for what the institution
            keeps of it; None for nothing.
    """

    policy: Policy
    ledger: Ledger
    key_fn: KeyFn | None = None
    reproducible: bool = False
    by_round: bool = False
    states: ClientStates | None = None
    evaluations: Evaluations | None = None
    brackets: bool = False
    begun: dict[str, str] = field(default_factory=dict)
    seconds_fn: SecondsFn | None = None
    sums: TakingPart | None = None
    emulates_sums: bool = False
    scored_fn: ScoredFn | None = None

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


__all__ = ["Safeguards", "ScoredFn", "SecondsFn"]
