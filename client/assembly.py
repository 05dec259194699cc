"""How an institution is put together, simulated or deployed.

Records become encoded units, a plan and a workload become a trainer, rules and memory become
safeguards, and all of it an :class:`~confide.client.institution.Institution`.
"""

import functools
from collections.abc import Callable

from confide.client.algorithm_state import ClientStates
from confide.client.evaluation_quota import Evaluations
from confide.client.institution import Institution
from confide.client.ledger.ledger import Ledger
from confide.client.policy import Policy
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
        make_fn = functools.partial(AlternatingTrainer, turns=turns)
    return make_fn(workload, private=plan.private, group_size=size, check_fn=check_fn)


def institution_keys(noise_secret: bytes, name: str) -> KeyFn:
    """Derive an institution's secret of every mechanism from one secret.

    Args:
        noise_secret: 32 bytes; several institutions may share it.
        name: of the institution.
    """
    return functools.partial(mechanism_key, noise_secret, name)


def make_safeguards(  # noqa: PLR0913 - what an institution decides by itself
    name: str,
    *,
    policy: Policy,
    ledger: Ledger,
    noise_secret: bytes | None,
    reproducible: bool,
    by_round: bool = False,
    states: ClientStates | None,
    evaluations: Evaluations | None = None,
    brackets: bool = False,
) -> Safeguards:
    """Put together what an institution decides and remembers by itself.

    Args:
        name: the institution's name.
        policy: its rules.
        ledger: what was spent.
        noise_secret: what the randomness of every mechanism derives from; None for fresh keys from
            the operating system.
        reproducible: whether ``noise_secret`` derives from a seed.
        by_round: whether noise then follows from job and round alone; for public records only.
        states: where tensors are kept between rounds; None declines algorithms that keep any.
        evaluations: limit on exact scores; None for none.
        brackets: whether epsilon is told as that of a few numbers of rounds.

    Raises:
        PrivacyError: if noise would derive from a seed and the policy forbids that.
    """
    key_fn = None if noise_secret is None else institution_keys(noise_secret, name)
    return Safeguards(
        policy=policy,
        ledger=ledger,
        key_fn=key_fn,
        reproducible=reproducible,
        by_round=by_round,
        states=states,
        evaluations=evaluations,
        brackets=brackets,
    )


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


__all__ = ["Assembly", "institution_keys", "make_safeguards", "make_trainer"]
