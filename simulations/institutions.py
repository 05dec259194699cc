"""Simulated institutions: the real ones, with keys that derive from the simulation's secret."""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from confide.client.algorithm_state import ClientStates, keeps_state
from confide.client.app import RequestHandler
from confide.client.assembly import Assembly, institution_keys
from confide.client.institution import Institution
from confide.client.ledger.ledger import Ledger
from confide.client.ledger.memory import MemoryLedger
from confide.client.policy import Policy
from confide.client.records.encoded import InstitutionData
from confide.client.safeguards import Safeguards
from confide.client.secure_sums.rules import sum_rules
from confide.client.training.trainer import Trainer
from confide.config.privacy import PolicyConfig
from confide.errors import UnreadableError
from confide.privacy.randomness import derive_key
from confide.protocol.plan import TrainingPlan
from confide.server.run.carrier import Run
from confide.server.run_folder import STATES, SUMS
from confide.simulations.faults import Faults, FaultyInstitution
from confide.simulations.secure_sums import SimulatedSums
from confide.simulations.virtual.delays import DelaysSource
from confide.storage.files import folder_name

DRAW = "keys"
"""What a checkpoint calls the number of the keys that its masks derive from."""

StatesFn = Callable[[str], ClientStates]
"""Name of an institution -> where it keeps tensors between rounds."""

LedgerFn = Callable[[str], Ledger]
"""Name of an institution -> its ledger, opened."""


def simulated_states(folder: Path, kept: int, name: str) -> ClientStates:
    """Return where an institution keeps tensors between rounds, in a folder of its own."""
    return ClientStates(folder / folder_name(name), kept=kept)


def check_states(run: Run, plan: TrainingPlan, states: StatesFn) -> None:
    """Check that institutions still have the tensors that they kept until the checkpoint.

    Raises:
        UnreadableError: naming those who have not.
    """
    if run.checkpoint is None or not keeps_state(plan):
        return
    state = run.checkpoint.state
    lost = []
    trained = ((name, record.server_round) for record in state.history for name in record.accepted)
    last = {name: server_round for name, server_round in trained if name not in run.withdrawn}
    if state.flight is not None:  # a client counts its own questions, and not steps
        last = dict.fromkeys(last, 1)
    for name, server_round in last.items():
        end = state.server_round if state.flight is None else state.flight.asked[name]
        version = states(name).version(plan.job, before=end + 1) or 0
        if version < server_round:  # trained since with tensors that are gone
            lost.append(name)
    if lost:
        raise UnreadableError(
            f"{run.run_dir / STATES} lacks the state of {', '.join(lost)}; start the run anew."
        )


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What the institutions of a simulation have in common.

    Attributes:
        serves: the plan that trainers are built for.
        policy: what each of them allows.
        noise_secret: what mechanisms derive from; with ledgers that outlive the process only if
            noise is to repeat.
        reproducible: whether ``noise_secret`` follows from a seed.
        by_round: whether noise then follows from institution, job and round alone, and not from
            the bits of tensors, which differ between processors; for public records only.
        ledgers: where institutions keep theirs; None for memory.
        faults: injected ones; None for none.
        states: where institutions keep tensors between rounds; None declines algorithms that do.
        brackets: whether epsilon is told as that of a few numbers of rounds, which many numbers of
            records need.
        delays: how long clients compute; None where that is nobody's business.
        sums: what they take part in masked sums with; None where they take part in none.
        emulates_sums: whether updates leave as they are where the plan asks for masked sums.
    """

    serves: TrainingPlan
    policy: PolicyConfig
    noise_secret: bytes = field(repr=False)
    reproducible: bool = False
    by_round: bool = False
    ledgers: LedgerFn | None = None
    faults: Faults | None = None
    states: StatesFn | None = None
    brackets: bool = False
    delays: DelaysSource | None = None
    sums: SimulatedSums | None = None
    emulates_sums: bool = False


def masked_sums(
    run: Run, plan: TrainingPlan, setup: Setup, names: Iterable[str]
) -> SimulatedSums | None:
    """Return what institutions take part in masked sums with; None where they take part in none.

    Args:
        run: this process's part of the run.
        plan: what institutions are asked to do.
        setup: what else they have in common.
        names: of them.

    Raises:
        ConfigError: if a name has no room in a certificate.
    """
    if plan.sums is None or setup.emulates_sums:
        return None
    made = SimulatedSums.make(
        names,
        secret=derive_key(run.secret, "sums"),
        rules=sum_rules(setup.policy.secure),
        folder=run.run_dir.absolute() / SUMS,
    )
    return replace(made, draw=_draw(run, repeats=not plan.private or setup.reproducible))


def _draw(run: Run, *, repeats: bool) -> int:
    """Return the number of a process's keys.

    Where it draws other noise than the process before, a round that is done again has other
    values, which are refused under the same masks. What was masked before is opened by the keys of
    that time.
    """
    before: int = run.before.get(DRAW, 0)
    if run.checkpoint is None or run.checkpoint.state.sum is not None:
        return before
    # A ledger keeps what a round's noise derives from until it has the masked answer
    return before if repeats or run.config.client.ledger is not None else before + 1


class InstitutionFactory:
    """Opens the institutions of a simulation that share one process and its trainer.

    Args:
        trainer: shared by all of them.
        setup: what else they share.
    """

    def __init__(self, trainer: Trainer, setup: Setup) -> None:
        self._assembly = Assembly(trainer, setup.serves)
        self._setup = setup
        self._policy = Policy(setup.policy)
        self._delays = setup.delays.open() if setup.delays else None

    def open(
        self, name: str, data: InstitutionData, safeguards: Safeguards | None = None
    ) -> Institution:
        """Open one institution.

        Args:
            name: its name.
            data: its encoded records.
            safeguards: what it remembers, where it was open before; None for a new one's.
        """
        return self._assembly.institution(name, data, safeguards or self.safeguards(name))

    def safeguards(self, name: str) -> Safeguards:
        """Return what a new institution decides and remembers."""
        setup = self._setup
        # A ledger that outlives the process would see a new process's secret answer a question
        # that an old one answered: keys then derive from a seed or are drawn for each mechanism.
        derives = setup.reproducible or setup.ledgers is None
        return Safeguards(
            policy=self._policy,
            ledger=setup.ledgers(name) if setup.ledgers else MemoryLedger(),
            key_fn=institution_keys(setup.noise_secret, name) if derives else None,
            reproducible=setup.reproducible,
            by_round=setup.by_round,
            states=setup.states(name) if setup.states else None,
            brackets=setup.brackets,
            seconds_fn=functools.partial(self._delays.work_s, name) if self._delays else None,
            sums=setup.sums.taking_part(name) if setup.sums else None,
            emulates_sums=setup.emulates_sums,
        )


def faulty(institution: RequestHandler, faults: Faults | None, job: str) -> RequestHandler:
    """Return an institution as it is in a job: with faults only where these are meant for it."""
    meant = faults is not None and faults.job == job
    return FaultyInstitution(institution, faults) if faults is not None and meant else institution


__all__ = [
    "DRAW",
    "InstitutionFactory",
    "LedgerFn",
    "Setup",
    "StatesFn",
    "check_states",
    "faulty",
    "masked_sums",
    "simulated_states",
]
