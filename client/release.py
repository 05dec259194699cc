"""What an institution answers a plan that asks for a release with: sums, with noise.

Protected, trusted and public: :mod:`confide.releases.release`, in the plan's unit. A release is one
Gaussian mechanism without sampling, at the plan's epsilon: a run of one step in the ledger,
reserved before noise is drawn and kept once it was. Asked again, by this run or a later one, an
institution gives the same answer at no cost; another question is another run, and is refused when
the budget does not cover it.
"""

from dataclasses import replace

import numpy
import torch

from confide.client.policy import Policy
from confide.client.records.encoded import InstitutionData
from confide.client.reservation import RoundAccount, RoundKey
from confide.client.schedule import LocalSchedule
from confide.config.tasks.tabular import TabularConfig
from confide.errors import PrivacyError
from confide.privacy.randomness import KeyedGenerator, derive_key
from confide.protocol.messages import Reply
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors, encode
from confide.releases.release import Floats, Records, Sums
from confide.releases.table import RELEASES


class Releases:
    """Answers plans that ask for a release.

    Args:
        institution: its name.
        data: its records.
        policy: its rules.
        account: reserves before noise is drawn, and keeps answers.
    """

    def __init__(
        self, institution: str, *, data: InstitutionData, policy: Policy, account: RoundAccount
    ) -> None:
        self._institution, self._data = institution, data
        self._policy, self._account = policy, account

    def answer(self, plan: TrainingPlan, schedule: LocalSchedule, key: RoundKey) -> Reply:
        """Answer with noisy sums; reserved before and kept after."""
        least = self._policy.config.min_cell
        exact = exact_sums(plan, self._data, schedule, min_cell=least)
        reserved = self._account.reserve(key, plan, schedule, server_round=1)
        sums = released_sums(plan, exact, schedule, secret=reserved.secret)
        reply = Reply(
            institution=self._institution,
            num_examples=schedule.num_examples,
            figures={**reserved.figures, **self._told(plan)},
        )
        if plan.private:
            self._account.settle(key, reply, sums)
        return replace(reply, arrays=encode(sums))

    def again(self, plan: TrainingPlan, answered: Reply) -> Reply:
        """Give a kept answer again; what may be shown of it is today's word."""
        return replace(answered, figures={**answered.figures, **self._told(plan)})

    def _told(self, plan: TrainingPlan) -> dict[str, float]:
        """Return what is told beside a release: what it may be used for, and whose floor it has."""
        figures = self._policy.figures(plan)
        if figures:
            figures["owners"] = float(self._data.groups is not None)
        return figures


def exact_sums(
    plan: TrainingPlan, data: InstitutionData, schedule: LocalSchedule, *, min_cell: int
) -> Sums:
    """Add up what the training records' units add to a release.

    All that can be refused is refused here, before a release is reserved, which spends it.

    Args:
        plan: asks for a release.
        data: records, encoded by the plan.
        schedule: that the noise was calibrated for.
        min_cell: the policy's floor, below which no exact figure leaves.

    Raises:
        PrivacyError: if a task of one's own encoded the columns otherwise, or noise was calibrated
            for anything but one look at every record.
    """
    if schedule.sampling_rate != 1 or schedule.steps != 1:
        raise PrivacyError(
            "Every record is counted, and once: noise for samples or several steps is another."
        )
    kind = RELEASES[plan.releases]
    records = Records(
        features=_features(plan, data),
        labels=data.train.labels.cpu().numpy(),
        groups=None if data.groups is None else data.groups.cpu().numpy(),
        by_group=plan.privacy.unit == "group",
    )
    if not plan.private and kind.exact_fn is not None:
        return kind.exact_fn(plan, records, min_cell)
    return kind.sums_fn(plan, records)


def _features(plan: TrainingPlan, data: InstitutionData) -> Floats:
    task, features = plan.encoded_task, data.train.columns.get("features")
    if not isinstance(task, TabularConfig):
        return numpy.zeros((len(data.train), 0))
    if features is None or features.dim() != 2 or features.shape[1] != task.num_inputs:
        raise PrivacyError(
            "The task encodes rows otherwise than its schema says, so that there are no columns to"
            f" release {RELEASES[plan.releases].title} of; use task.numeric.edges=public."
        )
    rows: Floats = features.cpu().double().numpy()
    return rows


def released_sums(
    plan: TrainingPlan, sums: Sums, schedule: LocalSchedule, *, secret: bytes
) -> Tensors:
    """Add noise to sums, and round.

    Args:
        plan: asks for a release.
        sums: of the records, from :func:`exact_sums`.
        schedule: with the noise that the plan's epsilon takes; none without privacy.
        secret: what the noise derives from.

    Returns:
        float32 multiples of the kind's resolution where there is noise.
    """
    kind = RELEASES[plan.releases]
    if not plan.private and kind.exact_fn is not None:
        return {name: torch.from_numpy(value.astype("float32")) for name, value in sums.items()}
    scales, tensors = kind.scales_fn(plan), {}
    for name, value in sums.items():
        std = schedule.noise_multiplier * scales[name]
        # The release's first tensor alone, as when it was the only one
        place = kind.title if name == next(iter(scales)) else f"{kind.title}/{name}"
        noise = KeyedGenerator(derive_key(secret, place)).normal(value.size, std=std)
        noisy = value + noise.numpy().reshape(value.shape)
        rounded = numpy.rint(noisy / kind.resolution) * kind.resolution
        tensors[name] = torch.from_numpy(rounded.astype("float32"))
    return tensors


__all__ = ["Releases", "exact_sums", "released_sums"]
