"""Which plans an institution takes part in, and what each comes to here."""

import sys

from confide.client.ledger.ledger import Ledger
from confide.client.policy import Policy
from confide.client.records.encoded import InstitutionData
from confide.client.schedule import LocalSchedule, make_schedule, workplan
from confide.errors import DeniedError, PrivacyError, ProtocolError
from confide.protocol.plan import TrainingPlan, plan_sha256
from confide.protocol.refusals import Refusal
from confide.protocol.releases import release_shapes
from confide.protocol.tensors import Shapes
from confide.strategies.parts import build_algorithm

# Each plan costs a calibration, and whoever writes plans must not fill the memory with them.
_MOST_PLANS = 64


class Admission:
    """Holds plans against an institution's policy and against what it serves.

    Args:
        policy: the institution's rules.
        ledger: knows which plans its people approved.
        data: its records.
        serves: the plan that its trainer was built for.
        shapes: names and shapes of the trainable tensors.
        begun: job -> the plan that it began to train with, as text; kept up to date.
    """

    def __init__(
        self,
        *,
        policy: Policy,
        ledger: Ledger,
        data: InstitutionData,
        serves: TrainingPlan,
        shapes: Shapes,
        begun: dict[str, str],
    ) -> None:
        self._policy = policy
        self._ledger = ledger
        self._data = data
        self._serves = serves
        self._shapes = shapes
        self._schedules: dict[str, LocalSchedule] = {}
        self._begun = begun

    def schedule(self, plan: TrainingPlan, text: str) -> LocalSchedule:
        """Check a plan once, and return the work that it comes to here.

        Args:
            plan: what is asked for.
            text: the plan as it was sent.

        Raises:
            DeniedError: if a rule of the policy denies it, or nothing could account for it.
            PrivacyError: if no noise suffices, or it protects another unit than is served.
            ProtocolError: if it is not what is served.
        """
        if text in self._schedules:
            return self._schedules[text]
        policy = self._policy
        num_examples = policy.public_count(self._data.num_units(plan.privacy.unit))
        # An automatic policy has no approvals to look up: that reads the ledger.
        manual = policy.config.approval == "manual"
        approved = manual and self._ledger.is_approved(plan.job, plan_sha256(text))
        policy.check_plan(plan, workplan(plan, num_examples=num_examples), is_approved=approved)
        if plan.releases:
            policy.check_size(release_shapes(plan))
        else:
            # What an algorithm sends beside its update leaves too.
            reply = build_algorithm(plan.objective).reply_shapes(self._shapes)
            policy.check_size(reply, plan.sums)
        self._check_served(plan)
        if len(self._schedules) >= _MOST_PLANS:
            self._schedules.clear()
        self._schedules[text] = make_schedule(plan, num_examples=num_examples)
        return self._schedules[text]

    def check_same_plan(self, job: str, text: str) -> None:
        """Check that a job goes on with the plan that it began to train with.

        Raises:
            ProtocolError: if not.
        """
        if len(self._begun) >= _MOST_PLANS:
            self._begun.clear()
        # Many institutions of one process are sent one text, which it keeps once
        if self._begun.setdefault(job, sys.intern(text)) != text:
            raise ProtocolError(
                f"Job {job} comes with another plan than before.", code=Refusal.PLAN_CHANGED
            )

    def _check_served(self, plan: TrainingPlan) -> None:
        if self._ledger.keeps_account and not plan.private:
            raise DeniedError(
                "Training without privacy cannot be accounted for.",
                code=Refusal.BUDGET_UNPROTECTED,
            )
        serves = self._serves
        agrees = {
            "task": plan.task == serves.task,
            "backbone": plan.backbone == serves.backbone,
            "backbone_sha256": plan.backbone_sha256 == serves.backbone_sha256,
            "tuning": plan.tuning == serves.tuning,
            "encoding": (plan.releases, plan.encoded_task)
            == (serves.releases, serves.encoded_task),
        }
        for part, same in agrees.items():
            if not same:
                raise ProtocolError(
                    f"The plan's {part} is not what this institution serves.",
                    code=Refusal.PLAN_NOT_SERVED,
                )
        if plan.privacy.unit != serves.privacy.unit:
            raise PrivacyError(
                f"The plan asks for unit={plan.privacy.unit}, this institution serves"
                f" {serves.privacy.unit}."
            )


__all__ = ["Admission"]
