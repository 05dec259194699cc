"""Simulated institutions: the real ones, with keys that derive from the simulation's secret."""

from collections.abc import Callable
from pathlib import Path

from confide.client.data import InstitutionData
from confide.client.institution import Institution, KeyFn, SharedTensors
from confide.client.state import ClientStates, folder_name
from confide.client.trainer import Trainer
from confide.plan import TrainingPlan
from confide.privacy.randomness import derive_key

StatesFn = Callable[[str], ClientStates]
"""Name of an institution -> where it keeps tensors between rounds."""


def simulated_states(folder: Path, kept: int, name: str) -> ClientStates:
    """Give each institution a folder of its own."""
    return ClientStates(folder / folder_name(name), kept=kept)


def simulated_keys(noise_secret: bytes, name: str) -> KeyFn:
    """Derive an institution's secret of every mechanism from the simulation's: from its seed, or from the operating system."""
    return lambda job, mechanism: derive_key(noise_secret, "mechanism", name, job, mechanism)


class Doors:
    """Opens the doors of institutions that share one process and its trainer.

    Args:
        trainer: shared by all of them.
        serves: the plan it was built for.
        noise_secret: what mechanisms derive from.
        states: where institutions keep tensors between rounds; None declines algorithms that do.
    """

    def __init__(self, trainer: Trainer, *, serves: TrainingPlan, noise_secret: bytes, states: StatesFn | None) -> None:
        self._trainer = trainer
        self._tensors = SharedTensors(trainer)
        self._serves = serves
        self._noise_secret = noise_secret
        self._states = states

    def open(self, name: str, data: InstitutionData) -> Institution:
        """Open an institution's door."""
        return Institution(
            name,
            data=data,
            trainer=self._trainer,
            key_fn=simulated_keys(self._noise_secret, name),
            tensors=self._tensors,
            serves=self._serves,
            states=self._states(name) if self._states else None,
        )


__all__ = ["Doors", "StatesFn", "simulated_keys", "simulated_states"]
