"""Server optimizers: how the aggregated update changes the global tensors."""

from dataclasses import dataclass, field

from confide.config.fields import setting
from confide.config.strategies.kinds import PartKind
from confide.config.strategies.objectives import CHOSEN_BY_GROUP, part_name
from confide.config.strategies.schedules import ScheduleConfig


@dataclass
class ServerOptimizerConfig:
    """A server optimizer."""

    kind: str = setting("???", CHOSEN_BY_GROUP.format(group="server_optimizer"))
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)


@dataclass
class SgdConfig(ServerOptimizerConfig):
    """Gradient descent: FedAvg with learning_rate=1, FedAvgM with momentum."""

    kind: str = part_name("sgd", "server_optimizer")
    learning_rate: float = setting(1.0, "Server learning rate.", gt=0, le=1e4)
    momentum: float = setting(0.0, "Server momentum.", ge=0, lt=1)


@dataclass
class AdagradConfig(ServerOptimizerConfig):
    """FedAdagrad's server optimizer."""

    kind: str = part_name("adagrad", "server_optimizer")
    learning_rate: float = setting(0.1, "Server learning rate.", gt=0, le=1e4)
    beta1: float = setting(0.9, "Decay of the first moment.", ge=0, lt=1)
    tau: float = setting(1e-3, "Added to the root of the second moment.", gt=0)


@dataclass
class AdamConfig(ServerOptimizerConfig):
    """FedAdam's server optimizer."""

    kind: str = part_name("adam", "server_optimizer")
    learning_rate: float = setting(0.1, "Server learning rate.", gt=0, le=1e4)
    beta1: float = setting(0.9, "Decay of the first moment.", ge=0, lt=1)
    beta2: float = setting(0.99, "Decay of the second moment.", ge=0, lt=1)
    tau: float = setting(1e-3, "Added to the root of the second moment.", gt=0)


@dataclass
class YogiConfig(AdamConfig):
    """FedYogi's server optimizer."""

    kind: str = part_name("yogi", "server_optimizer")


SERVER_OPTIMIZERS: dict[str, PartKind] = {
    "sgd": PartKind(schema=SgdConfig, builder="confide.strategies.server_optimizers.Sgd"),
    "adam": PartKind(
        schema=AdamConfig, builder="confide.strategies.server_optimizers.adam", name="FedAdam"
    ),
    "yogi": PartKind(
        schema=YogiConfig, builder="confide.strategies.server_optimizers.yogi", name="FedYogi"
    ),
    "adagrad": PartKind(
        schema=AdagradConfig,
        builder="confide.strategies.server_optimizers.adagrad",
        name="FedAdagrad",
    ),
}


__all__ = [
    "SERVER_OPTIMIZERS",
    "AdagradConfig",
    "AdamConfig",
    "ServerOptimizerConfig",
    "SgdConfig",
    "YogiConfig",
]
