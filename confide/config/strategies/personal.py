"""Settings of algorithms by which institutions predict with tensors of their own.

They travel in the plan, so both sides check them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from confide.config.client import ClientConfig
from confide.config.fields import setting
from confide.config.strategies.objectives import ObjectiveConfig, part_name, plain_steps_problems


@dataclass
class FedPerConfig(ObjectiveConfig):
    """FedPer: the head stays at each institution."""

    kind: str = part_name("fedper", "objective")


@dataclass
class FedBnConfig(ObjectiveConfig):
    """FedBN: the layers of norms stay at each institution."""

    kind: str = part_name("fedbn", "objective")


@dataclass
class FedRepConfig(ObjectiveConfig):
    """FedRep: the head stays, and is trained before the layers below it."""

    kind: str = part_name("fedrep", "objective")
    head_share: float = setting(
        0.5,
        "Share of a round's local steps, the first ones, that train the head alone; the others"
        " train what is shared.",
        gt=0,
        lt=1,
    )

    def client_problems(self, client: ClientConfig) -> Iterator[str]:
        """Yield rounds that are too short for both parts."""
        if client.local_steps == 1:
            yield (
                f"objective.kind={self.kind} trains the head and then the layers below it, and"
                " client.local_steps=1; set at least 2, or client.local_epochs."
            )


@dataclass
class FineTuningConfig(ObjectiveConfig):
    """FedAvg, then rounds in which each institution trains for itself."""

    kind: str = part_name("fine_tuning", "objective")
    local_rounds: int = setting(
        1,
        "Number of the run's rounds, the last ones, whose training stays at each institution.",
        ge=1,
        le=1_000_000,
    )

    def round_problems(self, num_rounds: int) -> Iterator[str]:
        """Yield a number of rounds that leaves none for the federation."""
        if self.local_rounds >= num_rounds:
            yield (
                f"objective.local_rounds={self.local_rounds} of {num_rounds} rounds leave none that"
                " institutions train together; lower it, or raise server.num_rounds."
            )


@dataclass
class DittoConfig(ObjectiveConfig):
    """Ditto: a personal model beside the federated one, held near it."""

    kind: str = part_name("ditto", "objective")
    proximal_lambda: float = setting(
        0.1, "Weight lambda of ||v - w_global||^2 / 2 for the personal model v.", ge=0, le=1e4
    )


@dataclass
class ApflConfig(ObjectiveConfig):
    """APFL: institutions predict with a mixture of their own model and the federated one."""

    kind: str = part_name("apfl", "objective")
    alpha: float = setting(
        0.5,
        "Weight of an institution's own model in the mixture that it predicts with.",
        ge=0,
        le=1,
    )

    def client_problems(self, client: ClientConfig) -> Iterator[str]:
        """Yield optimizers with another step than the gradient's."""
        yield from plain_steps_problems(
            client, self.kind, "moves two models by the gradient of their mixture"
        )


@dataclass
class IfcaConfig(ObjectiveConfig):
    """IFCA: several models, of which institutions train the one that fits them best."""

    kind: str = part_name("ifca", "objective")
    clusters: int = setting(
        2, "Number of models, all of which travel down and up each round.", ge=1, le=64
    )
    start_spread: float = setting(
        0.01,
        "Standard deviation of what is added to each number of the first model to make the others"
        " that training starts from.",
        gt=0,
        le=10,
    )
    start_seed: int = setting(
        0,
        "Seed of what is added: another one starts elsewhere, where all choose one model.",
        ge=0,
        le=2**31 - 1,
    )

    def round_problems(self, num_rounds: int) -> Iterator[str]:
        """Yield a number of rounds that leaves none to train in."""
        if num_rounds == 1:
            yield (
                f"objective.kind={self.kind} trains in all rounds but the last, in which"
                " institutions get the model that they chose, and num_rounds=1; set"
                " server.num_rounds=2 or more."
            )


__all__ = [
    "ApflConfig",
    "DittoConfig",
    "FedBnConfig",
    "FedPerConfig",
    "FedRepConfig",
    "FineTuningConfig",
    "IfcaConfig",
]
