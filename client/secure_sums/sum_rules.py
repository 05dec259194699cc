"""An institution's own rules of masked sums: how many there have to be, and who counts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from confide.errors import DeniedError
from confide.protocol.refusals import Refusal
from confide.secure_aggregation.context import SumContext, most_colluding

_FEWEST_HONEST = 2
"""Of a sum with one honest vector in it all others can take theirs off."""


@dataclass(frozen=True, kw_only=True)
class SumRules:
    """The institution's own rules of masked sums (``policy.secure``).

    Attributes:
        min_cohort: fewest institutions, itself included, in a cohort and among its survivors.
        max_colluding: c, institutions that may collude with the coordinator, of those that count;
            None: a third. Those that do not count may collude, however many they are.
        min_survivors: fewest whose sum it helps to open; None: as many as open a secret.
        peers: fingerprints of trainers' public keys that count towards ``min_cohort``; None: all
            that the authority signed. A key outlives its certificates.
        revoked_fn: returns the keys that the authority revoked, as of now: fingerprint -> since
            when.
    """

    min_cohort: int = 3
    max_colluding: int | None = None
    min_survivors: int | None = None
    peers: frozenset[str] | None = None
    revoked_fn: Callable[[], Mapping[str, str]] = dict

    def check_cohort(self, context: SumContext, counted: int) -> None:
        """Check who is in a cohort, and how many of them open a secret.

        Args:
            context: of the sum.
            counted: institutions that count, this one included.

        Raises:
            DeniedError: with the figures.
        """
        count, threshold = len(context.names), context.threshold
        if counted < self.min_cohort:
            raise _denied("min_cohort", Refusal.SUM_MIN_COHORT, counted, self.min_cohort)
        colluding = self._colluding(count, counted)
        if count - colluding < _FEWEST_HONEST:
            least = colluding + _FEWEST_HONEST
            raise _denied("max_colluding", Refusal.SUM_MIN_COHORT, count, least)
        if not count + colluding < 2 * threshold <= 2 * count:
            raise DeniedError(
                f"policy.secure.max_colluding: {threshold} shares of {count} are not more than half"
                f" of all and of the {colluding} that may collude.",
                code=Refusal.SUM_THRESHOLD,
                figures={"asked": float(threshold), "allowed": (count + colluding) // 2 + 1.0},
            )

    def check_honest(self, context: SumContext, counted: int, honest: int) -> None:
        """Check that as many of any sum as its noise is split over may be trusted.

        Args:
            context: of the sum.
            counted: institutions that count, this one included.
            honest: h, institutions that are counted on for their shares of the noise.

        Raises:
            DeniedError: with the figures.
        """
        allowed = context.threshold - self._colluding(len(context.names), counted)
        if honest > allowed:
            raise DeniedError(
                f"policy.secure.max_colluding: of the {context.threshold} of a sum {allowed} are"
                f" honest at least, and its noise is split over {honest}.",
                code=Refusal.SUM_THRESHOLD,
                figures={"asked": float(honest), "allowed": float(allowed)},
            )

    def _colluding(self, count: int, counted: int) -> int:
        """Return how many of a cohort may collude: c, and all that do not count.

        Everybody in a cohort has shares of everybody's secrets. Whoever has the authority's key
        could otherwise certify as many institutions as open both secrets of each honest one.
        """
        of_counted = most_colluding(counted) if self.max_colluding is None else self.max_colluding
        return of_counted + count - counted

    def check_survivors(self, context: SumContext, counted: int, survivors: int) -> None:
        """Check whose sum is to be opened.

        Args:
            context: of the sum.
            counted: survivors that count, this institution included.
            survivors: all of them.

        Raises:
            DeniedError: with the figures.
        """
        if counted < self.min_cohort:
            raise _denied("min_cohort", Refusal.SUM_MIN_COHORT, counted, self.min_cohort)
        least = max(context.threshold, self.min_survivors or 0)
        if survivors < least:
            raise _denied("min_survivors", Refusal.SUM_MIN_SURVIVORS, survivors, least)


def _denied(rule: str, code: Refusal, there: int, needed: int) -> DeniedError:
    return DeniedError(
        f"policy.secure.{rule}: there are {there}, needed at least {needed}.",
        code=code,
        figures={"asked": float(there), "allowed": float(needed)},
    )


__all__ = ["SumRules"]
