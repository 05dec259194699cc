"""Settings of an institution's side: local training, optimizer, ledger and device."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from confide.config.fields import STRICT, setting
from confide.config.strategies.schedules import ScheduleConfig


@dataclass
class OptimizerConfig:
    """Optimizer of local training; its state is reset each round."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: str = setting("sgd", "Client optimizer.", choices=("sgd", "adam", "adamw"))
    learning_rate: float = setting(0.1, "Client learning rate.", gt=0, le=1e4)
    momentum: float = setting(0.0, "Momentum of SGD.", ge=0, lt=1)
    weight_decay: float = setting(0.0, "L2 penalty (sgd, adam) or decoupled decay (adamw).", ge=0)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)


@dataclass
class ClientConfig:
    """Local training of an institution in one round."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    # With upper bounds: these are part of a plan, which somebody else writes, and no typing error
    # of theirs should keep an institution's machine busy for ever.
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    local_epochs: int = setting(
        1, "Number of passes over the training records in one round.", ge=1, le=10_000
    )
    local_steps: int | None = setting(
        None,
        "Number of optimizer steps in one round; null: local_epochs passes.",
        ge=1,
        le=1_000_000,
    )
    batch_size: int = setting(
        32,
        "Number of records in one step; under DP-SGD the expected number.",
        ge=1,
        le=10_000_000,
    )
    sampling_rate: float | None = setting(
        None, "Share q of the training records in one step; null: batch_size / n.", ge=1e-6, le=1
    )
    steps_within_s: float | None = setting(
        None,
        "Seconds for the local steps of one round, virtual ones in a simulation: who has not taken"
        " all by then sends what it has, one step at least, and says how many; null: all are taken."
        " Under privacy all are charged.",
        gt=0,
        le=1e9,
    )

    def batch_of(self, num_examples: int) -> tuple[float, int]:
        """Return the share of the records in a step, in (0, 1], and how many those are, >= 1.

        Args:
            num_examples: number of training units, n >= 1.
        """
        rate = self.sampling_rate
        if rate is None:
            rate = min(1.0, self.batch_size / num_examples)
        return rate, max(1, round(rate * num_examples))

    def planned_steps(self, num_examples: int) -> int:
        """Return how many steps a round has, >= 1.

        Args:
            num_examples: number of training units, n >= 1.
        """
        if self.local_steps is not None:
            return self.local_steps
        _, batch_size = self.batch_of(num_examples)
        return math.ceil(self.local_epochs * num_examples / batch_size)

    def steps_in(self, num_examples: int, seconds: float) -> int:
        """Return how many steps fit into ``steps_within_s``, from 1 to those planned.

        Args:
            num_examples: number of training units, n >= 1.
            seconds: that all planned steps take, >= 0.
        """
        planned, within = self.planned_steps(num_examples), self.steps_within_s
        if within is None or seconds <= within:
            return planned
        return max(1, math.floor(planned * within / seconds))


@dataclass
class InstitutionConfig(ClientConfig):
    """The group ``client``: local training, which plans hold, and ledgers, which stay local."""

    # Folders of the institution's own machine: no coordinator learns or chooses them.
    ledger: str | None = setting(
        None,
        "Folder of the institutions' privacy ledgers, which outlives the run; null: in memory, lost"
        " with the process.",
    )
    ledger_anchors: str | None = setting(
        None,
        "Folder of the ledgers' anchors, best on another disk: an older copy of a ledger is"
        " recognised by them; null: next to the ledgers.",
    )


@dataclass
class TrainerConfig:
    """Performance only: none of these changes the privacy guarantee."""

    # Apart from the settings above: these are the institution's own and never part of a plan

    device: str = setting("auto", "Device to compute on.", choices=("auto", "cpu", "cuda", "mps"))
    precision: str = setting(
        "float32",
        "Arithmetic of the forward and backward pass; parameters stay float32.",
        choices=("float32", "bf16"),
    )
    physical_batch_size: int = setting(
        256,
        "Largest number of records in one forward pass; larger batches are accumulated.",
        ge=1,
    )
    num_threads: int | None = setting(
        None,
        "Number of CPU threads of each process that trains; null: one for a model of fewer than a"
        " million parameters, for a larger one torch's choice inline and one in a worker.",
        ge=1,
    )
    # A service may have no HOME.
    feature_cache: str | None = setting(
        "${oc.env:CONFIDE_CACHE,${oc.env:HOME,/tmp}/.cache/confide}",
        "Folder in which features of a frozen backbone are cached, by content hash; null: no"
        " cache.",
    )


def gradient_weights(steps: int, momentum: float) -> Iterator[float]:
    """Yield the weight of each step's gradient in an update by SGD, the last step's first.

    Args:
        steps: of the round, >= 1.
        momentum: in [0, 1); it starts anew with the round.

    >>> list(gradient_weights(3, 0.5))
    [1.0, 1.5, 1.75]
    """
    weight = 0.0
    for _ in range(steps):
        weight = momentum * weight + 1.0
        yield weight
