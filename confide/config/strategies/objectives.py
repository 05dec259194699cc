"""Settings of algorithms: what a client does in a round, and the server's counterpart of it.

They travel in the plan, so both sides check them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from confide.config.client import ClientConfig
from confide.config.fields import STRICT, setting

CHOSEN_BY_GROUP = "Chosen by its group: strategy/{group}=KIND."
"""Meaning of the setting ``kind`` of a part."""


def part_name(name: str, group: str) -> Any:
    """Declare the setting ``kind`` of a part; its schema serves under no other kind's name."""
    return setting(name, CHOSEN_BY_GROUP.format(group=group), choices=(name,))


@dataclass
class ObjectiveConfig:
    """Local steps on the mean loss, as in FedAvg; other algorithms extend this."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: str = part_name("plain", "objective")

    def client_problems(self, client: ClientConfig) -> Iterator[str]:
        """Yield what does not fit the settings of a local round."""
        return iter(())


@dataclass
class FedProxConfig(ObjectiveConfig):
    """FedProx's proximal term."""

    kind: str = part_name("fedprox", "objective")
    proximal_mu: float = setting(0.01, "Weight mu of ||w - w_global||^2 / 2.", ge=0)


@dataclass
class FedDynConfig(ObjectiveConfig):
    """FedDyn's dynamic regularisation."""

    kind: str = part_name("feddyn", "objective")
    alpha: float = setting(
        0.1,
        "Weight of ||w - w_global||^2 / 2; about 1 / (learning rate * steps) where a round has"
        " few.",
        gt=0,
        le=1e4,
    )


@dataclass
class ClientMomentumConfig(ObjectiveConfig):
    """Momentum of updates, kept at the institutions."""

    kind: str = part_name("client_momentum", "objective")
    momentum: float = setting(
        0.9, "Weight of an institution's earlier updates in what it sends.", ge=0, lt=1
    )


@dataclass
class ScaffoldConfig(ObjectiveConfig):
    """SCAFFOLD's control variates."""

    kind: str = part_name("scaffold", "objective")

    def client_problems(self, client: ClientConfig) -> Iterator[str]:
        """Yield optimizers whose update is not a sum of gradients."""
        # Control variates are mean gradients, read off the update: steps must be plain ones.
        optimizer = client.optimizer
        if optimizer.kind != "sgd" or optimizer.momentum or optimizer.weight_decay:
            yield (
                f"objective.kind={self.kind} takes the update for learning_rate times the sum of"
                f" the gradients, and client.optimizer has kind={optimizer.kind},"
                f" momentum={optimizer.momentum}, weight_decay={optimizer.weight_decay}; set"
                " kind=sgd, momentum=0, weight_decay=0."
            )


@dataclass
class GradientSumConfig(ObjectiveConfig):
    """One sum of gradients over all records a round, and a step that follows from public figures.

    For a linear model on rows of a known norm (``backbone.row_norm``).
    """

    kind: str = part_name("gradient_sum", "objective")
    momentum: float = setting(0.9, "Momentum beta of the coordinator's steps.", ge=0, lt=1)
    logit_noise: float = setting(
        1.2,
        "Standard deviation that the noise of all rounds together gives the difference of two"
        " logits; the length of a step follows from it.",
        gt=0,
        le=1e3,
    )
    averaged: float = setting(
        0.5, "Share of the rounds, the last ones, whose mean is the run's model.", gt=0, le=1
    )

    def client_problems(self, client: ClientConfig) -> Iterator[str]:
        """Yield settings by which an update is anything but minus the mean gradient."""
        yield from _full_batch_problems(client, self.kind, choice="client=private_table")


@dataclass
class GradientAdamConfig(ObjectiveConfig):
    """One mean gradient a round from each institution, and Adam's steps at the coordinator.

    FedSGD with FedAdam's step (Reddi et al. 2021, arXiv 2003.00295), for networks of any kind.
    """

    kind: str = part_name("gradient_adam", "objective")
    learning_rate: float = setting(
        0.002, "Adam's learning rate: about how far a parameter moves in a round.", gt=0, le=1e4
    )
    beta1: float = setting(0.9, "Decay of the first moment.", ge=0, lt=1)
    beta2: float = setting(0.99, "Decay of the second moment.", ge=0, lt=1)
    tau: float = setting(1e-4, "Added to the root of the second moment.", gt=0)
    averaged: float = setting(
        0.2, "Share of the rounds, the last ones, whose mean is the run's model.", gt=0, le=1
    )

    def client_problems(self, client: ClientConfig) -> Iterator[str]:
        """Yield settings by which an update is anything but minus a mean gradient."""
        yield from _one_step_problems(client, self.kind, choice="client=gradients")


@dataclass
class PrivateNewtonConfig(ObjectiveConfig):
    """Noisy sums of gradients, scaled by the inverse of a noisy Gram matrix.

    For a linear model of a table, on rows of a known norm (``backbone.row_norm``), under privacy.
    """

    kind: str = part_name("private_newton", "objective")
    gram_share: float = setting(
        0.3,
        "Share of the run's privacy that the Gram matrix has, as a part of mu squared, by which"
        " Gaussian mechanisms add up; what is left goes to the rounds.",
        gt=0,
        lt=1,
    )
    step: float = setting(
        1.0, "Length of a step, in Newton steps on the bound of the curvature.", gt=0, le=2
    )
    averaged: float = setting(
        0.5, "Share of the rounds, the last ones, whose mean is the run's model.", gt=0, le=1
    )

    def client_problems(self, client: ClientConfig) -> Iterator[str]:
        """Yield settings by which an update is anything but minus the mean gradient."""
        yield from _full_batch_problems(client, self.kind, choice="client=private_newton")


def _full_batch_problems(client: ClientConfig, kind: str, *, choice: str) -> Iterator[str]:
    """Yield settings of a local round that is no single plain step on all records."""
    yield from _one_step_problems(client, kind, choice=choice, rate=1.0)


def _one_step_problems(
    client: ClientConfig, kind: str, *, choice: str, rate: float | None = None
) -> Iterator[str]:
    """Yield settings of a local round that is no single plain step; ``rate``: of sampling."""
    optimizer = client.optimizer
    found = {
        "local_steps": (client.local_steps, 1),
        "sampling_rate": (client.sampling_rate, client.sampling_rate if rate is None else rate),
        "optimizer.kind": (optimizer.kind, "sgd"),
        "optimizer.learning_rate": (optimizer.learning_rate, 1.0),
        "optimizer.momentum": (optimizer.momentum, 0.0),
        "optimizer.weight_decay": (optimizer.weight_decay, 0.0),
    }
    found |= {
        f"optimizer.{name}": pair for name, pair in optimizer.schedule.beside_constant.items()
    }
    wrong = {name: pair for name, pair in found.items() if pair[0] != pair[1]}
    if wrong:
        said = ", ".join(f"{name}={value}" for name, (value, _) in wrong.items())
        rights = ", ".join(f"{name}={right}" for name, (_, right) in wrong.items())
        over = "" if rate is None else " over all records"
        yield (
            f"objective.kind={kind}, which {choice} chooses, takes the update"
            f" for minus the mean gradient{over}, and client has {said}; set"
            f" {rights}, or choose strategy=fedavg with a client of its own."
        )


@dataclass
class NewtonConfig(ObjectiveConfig):
    """Newton's method on sums of second derivatives, for a linear model and without privacy.

    All records are read once a round, whatever ``client`` says of local steps.
    """

    kind: str = part_name("newton", "objective")
    ridge: float = setting(
        1.0,
        "Weight of |w|^2 / 2 beside the sum of all records' losses, intercepts excepted; of two"
        " classes, of the difference of their weights.",
        ge=1e-6,
        le=1e6,
    )
    tolerance: float = setting(
        1e-6,
        "Fall of the penalised sum of losses that Newton's step promises; the step that promises"
        " no more ends the run.",
        gt=0,
        le=1e3,
    )


@dataclass
class BoostingConfig(ObjectiveConfig):
    """Boosting: one level of a tree a round, on exact sums over all training records."""

    kind: str = part_name("boosting", "objective")
    learning_rate: float = setting(0.1, "Share eta of each tree's step that is taken.", gt=0, le=1)
    l2: float = setting(1.0, "Penalty lambda on the values of leaves.", ge=0, le=1e6)
    min_child_weight: float = setting(
        1.0,
        "Smallest sum of curvatures on either side of a split; a record has at most 1/4 (of several"
        " classes 1/2).",
        ge=1e-3,
        le=1e9,
    )
    min_records: int = setting(
        10,
        "Smallest number of training records on either side of a split, over all institutions.",
        ge=1,
        le=1_000_000_000,
    )

    def client_problems(self, client: ClientConfig) -> Iterator[str]:
        """Yield settings of local steps, of which there are none."""
        if (client.local_steps, client.sampling_rate) != (1, 1.0):
            yield (
                f"objective.kind={self.kind}, which client=trees chooses, adds up all records"
                f" once a round, and client has local_steps={client.local_steps},"
                f" sampling_rate={client.sampling_rate}; leave client out (client=trees)."
            )


@dataclass
class FedExLoraConfig(ObjectiveConfig):
    """FedEx-LoRA: what the mean of adapters leaves out is added to the weights they belong to."""

    kind: str = part_name("fedex_lora", "objective")


@dataclass
class FloraConfig(ObjectiveConfig):
    """FLoRA: adapters are multiplied out into the weights, and start anew in every round."""

    kind: str = part_name("flora", "objective")


__all__ = [
    "CHOSEN_BY_GROUP",
    "BoostingConfig",
    "ClientMomentumConfig",
    "FedDynConfig",
    "FedExLoraConfig",
    "FedProxConfig",
    "FloraConfig",
    "GradientSumConfig",
    "NewtonConfig",
    "ObjectiveConfig",
    "PrivateNewtonConfig",
    "ScaffoldConfig",
    "part_name",
]
