"""The institution's policy: what a plan may ask for, and what may leave the institution.

The rules are the institution's own YAML (:class:`~confide.config.privacy.PolicyConfig`), checked by
its own installed code: a plan is checked against every rule before anything is loaded or reserved,
and a reply once more before it leaves. A plan can only be denied; nothing in it changes a rule. A
denial names the rule, the value asked for and the value allowed.
"""

import datetime
import functools
from collections.abc import Callable, Iterator, Mapping

from confide.client.plan_rules import plan_rules
from confide.client.schedule import Workplan, epsilon_alone
from confide.client.update_measures import UpdateMeasures, measure
from confide.client.verdicts import Verdict, at_most, without_figures
from confide.config.privacy import PolicyConfig
from confide.metrics.metric import is_noisy, noise_name
from confide.protocol.codecs.travel import update_bytes
from confide.protocol.masked_sums import MaskedSums
from confide.protocol.messages import Evaluation
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Shapes, Tensors
from confide.releases.table import RELEASES

_MIB = 2**20


class Policy:
    """The rules of one institution, and checks against them.

    Args:
        config: rules of the institution.
        now_fn: clock that returns local time.
    """

    def __init__(
        self,
        config: PolicyConfig,
        *,
        now_fn: Callable[[], datetime.datetime] = datetime.datetime.now,
    ) -> None:
        self.config = config
        self._now_fn = now_fn

    def counts(self, units: int) -> tuple[Verdict, Verdict]:
        """Check a number of training units against the rules about it."""
        declared, least = self.config.public_n or units, self.config.min_records
        return (
            Verdict(rule="public_n", asked=units, allowed=declared, holds=units <= declared),
            Verdict(rule="min_records", asked=units, allowed=least, holds=units >= least),
        )

    def public_count(self, units: int) -> int:
        """Return n: the declared number of training units, or the true one.

        Raises:
            DeniedError: if there are more than declared, or too few; without the true number.
        """
        for verdict in self.counts(units):
            if not verdict.holds:
                raise without_figures(verdict)
        return self.config.public_n or units

    def verdicts(
        self, plan: TrainingPlan, size: Workplan, *, is_approved: bool
    ) -> Iterator[Verdict]:
        """Check a plan against every rule.

        Args:
            plan: plan of the run.
            size: amount of work that the plan means here.
            is_approved: whether the institution's people approved this plan.
        """
        yield from self.plan_verdicts(plan)
        config = self.config
        if plan.private and plan.privacy.trust == "peers":
            # What the run costs, whoever colludes: noise of others only counts beside it
            asked = max(epsilon_alone(plan, size), plan.privacy.metrics_epsilon or 0.0)
            yield at_most("max_epsilon", asked, config.max_epsilon)
        yield at_most("max_rounds", size.max_rounds, config.max_rounds)
        yield at_most("max_epochs", size.epochs, config.max_epochs)
        yield Verdict(
            rule="approval",
            asked="approved" if is_approved else "not approved",
            allowed="approved" if config.approval == "manual" else "automatic",
            holds=is_approved or config.approval == "automatic",
        )

    def plan_verdicts(self, plan: TrainingPlan) -> Iterator[Verdict]:
        """Check a plan against the rules that need no knowledge of the records."""
        return plan_rules(self.config, plan)

    def check_before_loading(self, plan: TrainingPlan) -> None:
        """Check a plan, as far as possible before its backbone or the records are read.

        Raises:
            DeniedError: naming the first rule that denies it.
        """
        for verdict in self.plan_verdicts(plan):
            if not verdict.holds:
                raise verdict.denial()

    def check_plan(self, plan: TrainingPlan, size: Workplan, *, is_approved: bool) -> None:
        """Check a plan.

        Raises:
            DeniedError: naming the first rule that denies it.
        """
        for verdict in self.verdicts(plan, size, is_approved=is_approved):
            if not verdict.holds:
                raise verdict.denial()

    def figures(self, plan: TrainingPlan) -> dict[str, float]:
        """Return what a release may be used for, as the coordinator is told with it."""
        if not RELEASES[plan.releases].is_shown:
            return {}
        return {
            "by_institution": float(self.config.release_statistics == "institution"),
            "min_cell": float(self.config.min_cell),
        }

    def hours(self) -> Verdict:
        """Say whether a round may begin now."""
        now = self._now_fn().strftime("%H:%M")
        allowed = self.config.hours
        if allowed is None:
            return Verdict(rule="hours", asked=now, allowed="always", holds=True)
        start, end = allowed.split("-")
        # Text of the form HH:MM sorts by time. Hours such as 20:00-06:00 go past midnight.
        inside = start <= now < end if start <= end else now >= start or now < end
        return Verdict(rule="hours", asked=now, allowed=allowed, holds=inside)

    def check_hours(self) -> None:
        """Check that a round may begin now.

        Raises:
            DeniedError: if not.
        """
        if self.config.hours is None:
            return
        verdict = self.hours()
        if not verdict.holds:
            raise verdict.denial()

    def check_size(self, shapes: Shapes, sums: MaskedSums | None = None) -> None:
        """Check the size of an update with these shapes.

        Args:
            shapes: of its tensors.
            sums: how they are masked; None: they leave as float32.

        Raises:
            DeniedError: if it would be too large.
        """
        size = update_bytes(shapes, sums) / _MIB
        verdict = at_most("max_update_mb", size, self.config.max_update_mb)
        if not verdict.holds:
            raise verdict.denial()

    def check_values(self, largest: float) -> None:
        """Check the largest absolute value of what a coordinator sent.

        Raises:
            DeniedError: if it is too large.
        """
        if not largest <= self.config.max_value:
            raise at_most("max_value", largest, self.config.max_value).denial()

    def check_update(self, update: Tensors) -> None:
        """Check an update that is about to leave.

        Raises:
            DeniedError: if it is too long, of another dtype or not finite; without its figures.
        """
        self.check_measures(measure(update))

    def check_measures(self, found: UpdateMeasures) -> None:
        """Check an update that is about to leave, by its measures; as :meth:`check_update`."""
        allowed = self.config.max_update_norm
        is_float32 = all(dtype == "float32" for dtype in found.dtypes)
        if is_float32 and found.is_finite and found.norm <= allowed:
            return
        # The update was charged already, so that checking it reveals nothing more about records
        for verdict in (
            Verdict(
                rule="update_dtype",
                asked=", ".join(found.dtypes),
                allowed="float32",
                holds=is_float32,
            ),
            Verdict(
                rule="update_finite",
                asked="not finite",
                allowed="finite",
                holds=found.is_finite,
            ),
            at_most("max_update_norm", found.norm, allowed),
        ):
            if not verdict.holds:
                raise without_figures(verdict)

    @property
    def smallest_cell(self) -> int:
        """Smallest number of units that an exact count may be chosen from.

        No more than metrics may be told of.
        """
        return min(self.config.min_cell, self.config.min_support)

    def released(self, evaluations: Mapping[str, Evaluation]) -> dict[str, Evaluation]:
        """Return the metrics that may leave: allowed ones, on enough records.

        With noise, unless the policy lets exact ones out; noisy ones say their number of records
        with noise too.
        """
        return {
            split: {name: value for name, value in evaluation.items() if name in self._told}
            for split, evaluation in evaluations.items()
            if evaluation["num_examples"] >= self.config.min_support and self._protects(evaluation)
        }

    @functools.cached_property
    def _told(self) -> frozenset[str]:
        metrics = self.config.metrics
        return frozenset({"num_examples", *metrics, *map(noise_name, metrics)})

    def _protects(self, evaluation: Evaluation) -> bool:
        """Tell whether metrics are protected as the policy demands."""
        mode = self.config.metrics_privacy
        return mode == "exact" or (mode == "noisy" and is_noisy(evaluation))


__all__ = ["Policy"]
