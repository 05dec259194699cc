"""What local steps follow from, beside tensors and records."""

from dataclasses import dataclass, field, replace

from confide.client.schedule import LocalSchedule
from confide.privacy.randomness import derive_key
from confide.protocol.plan import TrainingPlan


@dataclass(frozen=True, kw_only=True)
class LocalWork:
    """A plan, and what it comes to in one round of one institution.

    Attributes:
        plan: objective, optimizer and privacy.
        schedule: steps, batches, noise.
        secret: 32 bytes that all its randomness derives from, used for no other round.
    """

    plan: TrainingPlan
    schedule: LocalSchedule
    secret: bytes = field(repr=False)

    def training(self, number: int) -> "LocalWork":
        """Return what one of several trainings of the round follows from.

        Args:
            number: of the training, from 0. The first keeps the round's own secret; another's
                batches must differ.
        """
        secret = derive_key(self.secret, "training", number) if number else self.secret
        return replace(self, secret=secret)


__all__ = ["LocalWork"]
