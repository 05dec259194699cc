"""What leaves of one split of an institution's records, and how its ledger keeps it."""

from collections.abc import Mapping
from dataclasses import dataclass

from confide.metrics.tally import ScoreTally
from confide.protocol.messages import Evaluation

_SUMS, _STD = "sums", "sums std"


@dataclass(frozen=True, kw_only=True)
class Told:
    """What leaves of one split.

    Attributes:
        evaluation: metrics, and the number of records.
        tally: sums that they follow from; None where none leave.
    """

    evaluation: Evaluation
    tally: ScoreTally | None = None

    def content(self) -> dict[str, object]:
        """Return it as a ledger keeps it."""
        kept: dict[str, object] = dict(self.evaluation)
        if self.tally is not None:
            kept[_SUMS] = {name: list(sums) for name, sums in self.tally.sums.items()}
            kept[_STD] = self.tally.std
        return kept

    @classmethod
    def of(cls, kept: Mapping[str, object]) -> "Told":
        """Read what a ledger kept, of a release that knew of no tally too."""
        evaluation = {name: it for name, it in kept.items() if isinstance(it, int | float)}
        std, sums = evaluation.pop(_STD, 0.0), kept.get(_SUMS)
        tally = ScoreTally(sums=sums, std=std) if isinstance(sums, dict) else None
        return cls(evaluation=evaluation, tally=tally)


def evaluations(told: Mapping[str, Told]) -> dict[str, Evaluation]:
    """Return the metrics of what leaves, by split."""
    return {split: one.evaluation for split, one in told.items()}


__all__ = ["Told", "evaluations"]
