"""Settings of algorithms against drift: institutions whose records or whose work are unequal."""

from collections.abc import Iterator
from dataclasses import dataclass

from confide.config.client import ClientConfig
from confide.config.fields import setting
from confide.config.strategies.objectives import ObjectiveConfig, part_name


@dataclass
class FedNovaConfig(ObjectiveConfig):
    """FedNova's normalised updates."""

    kind: str = part_name("fednova", "objective")

    def client_problems(self, client: ClientConfig) -> Iterator[str]:
        """Yield optimizers whose update is no sum of gradients."""
        yield from _sgd_problems(client, self.kind)


@dataclass
class FedExPConfig(ObjectiveConfig):
    """FedExP's extrapolated steps."""

    kind: str = part_name("fedexp", "objective")
    epsilon: float = setting(
        1e-3,
        "Added to the squared norm of the mean update: the larger, the nearer to FedAvg.",
        gt=0,
        le=1e6,
    )

    def client_problems(self, client: ClientConfig) -> Iterator[str]:
        """Yield optimizers in whose updates noise has no known length."""
        yield from _sgd_problems(client, self.kind)


@dataclass
class QFedAvgConfig(ObjectiveConfig):
    """q-FedAvg's weights by loss."""

    kind: str = part_name("qfedavg", "objective")
    q: float = setting(
        1.0, "How much more an institution counts that has a larger loss; 0: FedAvg.", ge=0, le=100
    )

    def client_problems(self, client: ClientConfig) -> Iterator[str]:
        """Yield optimizers whose learning rate is no inverse of a Lipschitz constant."""
        yield from _sgd_problems(client, self.kind)


@dataclass
class L2SpConfig(ObjectiveConfig):
    """L2-SP's penalty on the way from where the run began."""

    kind: str = part_name("l2_sp", "objective")
    alpha: float = setting(
        0.01, "Weight of ||w - w_0||^2 / 2, with w_0 where the run began; 0: FedAvg.", ge=0, le=1e4
    )


@dataclass
class MoonConfig(ObjectiveConfig):
    """MOON's contrastive loss."""

    kind: str = part_name("moon", "objective")
    mu: float = setting(1.0, "Weight of the contrastive loss.", ge=0, le=1e4)
    temperature: float = setting(0.5, "Temperature tau of the contrastive loss.", gt=0, le=1e4)


def _sgd_problems(client: ClientConfig, kind: str) -> Iterator[str]:
    if client.optimizer.kind != "sgd":
        yield (
            f"objective.kind={kind} takes the update for learning_rate times a sum of gradients,"
            f" and client.optimizer.kind={client.optimizer.kind}; set client.optimizer.kind=sgd."
        )


__all__ = ["FedExPConfig", "FedNovaConfig", "L2SpConfig", "MoonConfig", "QFedAvgConfig"]
