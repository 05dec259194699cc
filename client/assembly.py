"""How an institution is put together, simulated or deployed.

Records become encoded units, a plan and a workload become a trainer, rules and memory become
safeguards, and all of it an :class:`~confide.client.institution.Institution`.
"""

import functools
from collections.abc import Callable

from confide.client.institution import Institution
from confide.client.records.encoded import InstitutionData
from confide.client.reservation import KeyFn
from confide.client.safeguards import Safeguards
from confide.client.training.alternating import AlternatingTrainer
from confide.client.training.trainer import Trainer
from confide.config.tunings.table import TUNINGS
from confide.models.workload import Workload
from confide.privacy.keys import mechanism_key
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Decoder


def make_trainer(
    workload: Workload, plan: TrainingPlan, check_fn: Callable[[], None] | None = None
) -> Trainer:
    """Build the trainer that a plan needs.

    Args:
        workload: model and task.
        plan: what will be trained.
        check_fn: called before every step, raises to end training; None for no check.
    """
    size = plan.privacy.max_records_per_group if plan.privacy.unit == "group" else None
    make_fn: Callable[..., Trainer] = Trainer
    turns = TUNINGS[plan.tuning.kind].turns
    if turns:
        make_fn = functools.partial(AlternatingTrainer, tuning=plan.tuning, turns=turns)
    return make_fn(workload, private=plan.private, group_size=size, check_fn=check_fn)


def institution_keys(noise_secret: bytes, name: str) -> KeyFn:
    """Derive an institution's secret of every mechanism from one secret.

    Args:
        noise_secret: 32 bytes; several institutions may share it.
        name: of the institution.
    """
    return functools.partial(mechanism_key, noise_secret, name)


class Assembly:
    """Institutions that serve one plan and share one trainer.

    Args:
        trainer: shared by all of them.
        serves: the plan that it was built for.
    """

    def __init__(self, trainer: Trainer, serves: TrainingPlan) -> None:
        self._trainer = trainer
        self._serves = serves
        self._decoder = Decoder(trainer.shapes)  # the global tensors are decoded once for all

    def institution(self, name: str, data: InstitutionData, safeguards: Safeguards) -> Institution:
        """Put one institution together."""
        return Institution(
            name,
            data=data,
            trainer=self._trainer,
            decoder=self._decoder,
            serves=self._serves,
            safeguards=safeguards,
        )


__all__ = ["Assembly", "institution_keys", "make_trainer"]
