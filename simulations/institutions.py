"""Simulated institutions: the real ones, with keys that derive from the simulation's secret."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from confide.client.algorithm_state import ClientStates
from confide.client.app import RequestHandler
from confide.client.institution import Institution, Safeguards
from confide.client.ledger.ledger import Ledger
from confide.client.ledger.memory import MemoryLedger
from confide.client.policy import Policy
from confide.client.records.encoded import InstitutionData
from confide.client.reservation import KeyFn
from confide.client.training.trainer import Trainer
from confide.config.privacy import PolicyConfig
from confide.privacy.keys import mechanism_key
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Decoder
from confide.simulations.faults import Faults, FaultyInstitution
from confide.storage.files import folder_name

StatesFn = Callable[[str], ClientStates]
"""Name of an institution -> where it keeps tensors between rounds."""

LedgerFn = Callable[[str], Ledger]
"""Name of an institution -> its ledger, opened."""


def simulated_states(folder: Path, kept: int, name: str) -> ClientStates:
    """Give each institution a folder of its own."""
    return ClientStates(folder / folder_name(name), kept=kept)


def simulated_keys(noise_secret: bytes, name: str) -> KeyFn:
    """Derive an institution's secret of every mechanism from the simulation's.

    From its seed, or from the operating system.
    """
    return lambda job, mechanism: mechanism_key(noise_secret, name, job, mechanism)


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What the institutions of a simulation have in common.

    Attributes:
        serves: the plan that trainers are built for.
        policy: what each of them allows.
        noise_secret: what mechanisms derive from; with ledgers that outlive the process only if
            noise is to repeat.
        reproducible: whether ``noise_secret`` follows from a seed.
        ledgers: where institutions keep theirs; None for memory.
        faults: injected ones; None for none.
        states: where institutions keep tensors between rounds; None declines algorithms that do.
    """

    serves: TrainingPlan
    policy: PolicyConfig
    noise_secret: bytes
    reproducible: bool = False
    ledgers: LedgerFn | None = None
    faults: Faults | None = None
    states: StatesFn | None = None


class InstitutionFactory:
    """Opens the doors of institutions that share one process and its trainer.

    Args:
        trainer: shared by all of them.
        setup: what else they share.
    """

    def __init__(self, trainer: Trainer, setup: Setup) -> None:
        self._trainer = trainer
        self._decoder = Decoder(trainer.shapes)
        self._setup = setup

    def open(self, name: str, data: InstitutionData) -> Institution:
        """Open an institution's door."""
        return Institution(
            name,
            data=data,
            trainer=self._trainer,
            decoder=self._decoder,
            serves=self._setup.serves,
            safeguards=self._safeguards(name),
        )

    def _safeguards(self, name: str) -> Safeguards:
        setup = self._setup
        return Safeguards(
            policy=Policy(setup.policy),
            ledger=setup.ledgers(name) if setup.ledgers else MemoryLedger(),
            key_fn=simulated_keys(setup.noise_secret, name)
            if setup.reproducible or setup.ledgers is None
            else None,
            reproducible=setup.reproducible,
            states=setup.states(name) if setup.states else None,
        )


def faulty(door: RequestHandler, faults: Faults | None, job: str) -> RequestHandler:
    """Return the door as it is in a job: with faults only where these are meant for it."""
    return FaultyInstitution(door, faults) if faults is not None and faults.job == job else door


__all__ = [
    "InstitutionFactory",
    "LedgerFn",
    "Setup",
    "StatesFn",
    "faulty",
    "simulated_keys",
    "simulated_states",
]
