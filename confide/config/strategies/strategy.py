"""Settings of strategies, and the tables of the parts that they are composed of.

One line of a table is one kind of part: its small config, the dotted path of what builds it, and
its name. An algorithm's config travels in the plan, so both sides check it. No torch is imported.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from confide.config.custom import named_problems
from confide.config.fields import setting
from confide.config.strategies.aggregators import (
    AGGREGATORS,
    MIXINGS,
    AggregatorConfig,
    CustomAggregatorConfig,
    MixingConfig,
    RobustConfig,
    WeightedMeanConfig,
)
from confide.config.strategies.algorithms import ALGORITHMS
from confide.config.strategies.codecs import CODECS, CodecConfig, sparse_problem
from confide.config.strategies.kinds import AlgorithmKind, PartKind
from confide.config.strategies.mechanisms import MECHANISMS, MechanismConfig
from confide.config.strategies.objectives import (
    BoostingConfig,
    FedDynConfig,
    FedProxConfig,
    GradientSumConfig,
    NewtonConfig,
    ObjectiveConfig,
    PrivateNewtonConfig,
    ScaffoldConfig,
)
from confide.config.strategies.selections import (
    SELECTIONS,
    PoissonSelectionConfig,
    SelectionConfig,
    UniformSelectionConfig,
)
from confide.config.strategies.server_optimizers import (
    SERVER_OPTIMIZERS,
    ServerOptimizerConfig,
    SgdConfig,
)
from confide.config.strategies.timings import (
    TIMINGS,
    BufferedTimingConfig,
    FedAsyncTimingConfig,
    FedBuffTimingConfig,
    TimingConfig,
)

PARTS: dict[str, Mapping[str, PartKind]] = {
    "objective": ALGORITHMS,
    "selection": SELECTIONS,
    "mixing": MIXINGS,
    "aggregator": AGGREGATORS,
    "server_optimizer": SERVER_OPTIMIZERS,
    "timing": TIMINGS,
    "mechanism": MECHANISMS,
    "upload": CODECS,
    "download": CODECS,
}
"""Field of a composed strategy -> the table of its kinds."""


# Strategies


@dataclass
class StrategyConfig:
    """A strategy: composed here, or one of Flower's own."""


@dataclass
class ComposedStrategyConfig(StrategyConfig):
    """A strategy made of independent parts."""

    selection: SelectionConfig = field(default_factory=SelectionConfig)
    mixing: MixingConfig = field(default_factory=MixingConfig)
    aggregator: AggregatorConfig = field(default_factory=AggregatorConfig)
    server_optimizer: ServerOptimizerConfig = field(default_factory=ServerOptimizerConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    timing: TimingConfig = field(default_factory=TimingConfig)
    mechanism: MechanismConfig = field(default_factory=MechanismConfig)
    upload: CodecConfig = field(default_factory=CodecConfig)
    download: CodecConfig = field(default_factory=CodecConfig)

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        yield from self._timing_problems()
        yield from self._mechanism_problems()
        sparse = sparse_problem(self.aggregator, self.upload)
        if sparse is not None:
            yield sparse
        if isinstance(self.selection, PoissonSelectionConfig):
            yield from self._poisson_problems(self.selection)
        # The server's part of an algorithm sums over clients as its paper does; another weighting
        # would make it another algorithm. A custom rule is its author's to judge.
        algorithm, aggregator = ALGORITHMS.get(self.objective.kind), self.aggregator
        if (
            algorithm is not None
            and algorithm.weighting is not None
            and isinstance(aggregator, WeightedMeanConfig)
            and aggregator.weighting != algorithm.weighting
        ):
            yield (
                f"aggregator.weighting={aggregator.weighting}: {algorithm.name} is defined for"
                f" {algorithm.weighting} weights; set {algorithm.weighting}."
            )
        if self.mixing.kind != "none" and not isinstance(aggregator, RobustConfig):
            yield (
                f"mixing.kind={self.mixing.kind} goes before a robust rule, and"
                f" aggregator.kind={aggregator.kind} is none; set strategy/mixing=none, or choose a"
                " rule such as strategy/aggregator=trimmed_mean."
            )
        if algorithm is not None and algorithm.only_mean and isinstance(aggregator, RobustConfig):
            yield (
                f"aggregator.kind={aggregator.kind}: a robust rule sees an update and the figures"
                f" that objective.kind={self.objective.kind} sends beside it as one vector; set"
                " strategy/aggregator=weighted_mean, or strategy/objective=plain."
            )
        if (
            algorithm is not None
            and algorithm.each_update
            and aggregator.kind != WeightedMeanConfig().kind
        ):
            yield (
                f"aggregator.kind={aggregator.kind}: objective.kind={self.objective.kind} averages"
                " products of each institution's adapters, by the weights of a mean; set"
                " strategy/aggregator=weighted_mean, or another strategy."
            )
        if algorithm is not None and (algorithm.own_step or algorithm.step_length):
            yield from self._step_problems()
        if algorithm is not None and algorithm.exact:
            yield from self._exact_problems()

    def _mechanism_problems(self) -> Iterator[str]:
        """Yield what client-level privacy cannot account for."""
        mechanism, algorithm = self.mechanism, ALGORITHMS.get(self.objective.kind)
        yield from mechanism.selection_problems(self.selection)
        yield from mechanism.rule_problems(self.aggregator)
        if mechanism.kind == "none":
            return
        key = f"mechanism.kind={mechanism.kind}"
        if algorithm is not None and not algorithm.any_version:
            fits = " or ".join(name for name, kind in ALGORITHMS.items() if kind.any_version)
            yield (
                f"objective.kind={self.objective.kind}: {key} clips and noises one update a client"
                " and round, and this algorithm sends more or keeps something of it; set"
                f" strategy/objective={fits}."
            )
        if self.timing.kind != TimingConfig().kind:
            yield f"timing.kind={self.timing.kind}: {key} accounts for rounds; set rounds."

    def _timing_problems(self) -> Iterator[str]:
        """Yield parts that are defined for rounds alone."""
        if not isinstance(self.timing, BufferedTimingConfig):
            return
        key, algorithm = f"timing.kind={self.timing.kind}", ALGORITHMS.get(self.objective.kind)
        if algorithm is not None and not algorithm.any_version:
            fits = " or ".join(name for name, kind in ALGORITHMS.items() if kind.any_version)
            yield (
                f"objective.kind={self.objective.kind}: with {key} clients start from different"
                f" models, which this algorithm is not defined for; set strategy/objective={fits}."
            )
        if self.selection.kind != "all":
            yield (
                f"selection.kind={self.selection.kind}: with {key} there are no rounds to select"
                " for; set strategy/selection=all and timing.concurrency."
            )
        if self.aggregator.kind != "weighted_mean":
            yield (
                f"aggregator.kind={self.aggregator.kind}: {key} weighs stale updates less, which"
                " the weighted mean alone knows; set strategy/aggregator=weighted_mean."
            )
        if self.timing.kind == "fedasync" and self.server_optimizer != SgdConfig():
            yield (
                f"server_optimizer.kind={self.server_optimizer.kind}: fedasync mixes models by"
                " timing.mixing and takes no other step; leave server_optimizer out."
            )

    def _poisson_problems(self, selection: PoissonSelectionConfig) -> Iterator[str]:
        """Yield what needs to know how many clients a round has."""
        aggregator, algorithm = self.aggregator, ALGORITHMS.get(self.objective.kind)
        if isinstance(aggregator, RobustConfig):
            yield (
                f"aggregator.kind={aggregator.kind}: it withstands a part of a known number, and"
                " with selection.kind=poisson chance decides how many there are; set"
                " strategy/selection=uniform, or strategy/aggregator=weighted_mean."
            )
        if algorithm is not None and algorithm.own_step:
            yield (
                f"selection.kind=poisson: objective.kind={self.objective.kind} takes steps whose"
                " length is made for everybody's sums; set strategy/selection=all."
            )
        if selection.denominator != "expected":
            return
        if not isinstance(aggregator, WeightedMeanConfig) or aggregator.weighting != "uniform":
            yield (
                "selection.denominator=expected counts clients, who then weigh the same; set"
                " strategy/aggregator=weighted_mean strategy.aggregator.weighting=uniform, or"
                " selection.denominator=accepted."
            )
        if algorithm is not None and not algorithm.any_version:
            fits = " or ".join(name for name, kind in ALGORITHMS.items() if kind.any_version)
            yield (
                f"selection.denominator=expected: objective.kind={self.objective.kind} is defined"
                f" for means over those who answer; set strategy/objective={fits}, or"
                " selection.denominator=accepted."
            )

    def _exact_problems(self) -> Iterator[str]:
        """Yield what would stand between sums and what is made of them."""
        parts = {"aggregator": WeightedMeanConfig(), "server_optimizer": SgdConfig()}
        wrong = [name for name, plain in parts.items() if getattr(self, name) != plain]
        # Of a weighting its own sentence is said
        if self.aggregator.kind == "weighted_mean":
            wrong = [name for name in wrong if name != "aggregator"]
        for name in wrong:
            yield (
                f"{name}.kind={getattr(self, name).kind}: objective.kind={self.objective.kind},"
                " which client=trees chooses, makes trees of exact sums and changes nothing else;"
                f" leave {name} out (strategy=boosting)."
            )

    def _step_problems(self) -> Iterator[str]:
        """Yield what the coordinator's optimizer would change of an algorithm's own steps."""
        optimizer, plain = self.server_optimizer, SgdConfig()
        names = ["learning_rate", "momentum"] if isinstance(optimizer, SgdConfig) else ["kind"]
        found = {name: (getattr(optimizer, name), getattr(plain, name)) for name in names}
        found |= optimizer.schedule.beside_constant
        wrong = {name: pair for name, pair in found.items() if pair[0] != pair[1]}
        if wrong:
            said = ", ".join(
                f"server_optimizer.{name}={value}" for name, (value, _) in wrong.items()
            )
            rights = ", ".join(f"{name}={right}" for name, (_, right) in wrong.items())
            kind = self.objective.kind
            own = " (its momentum is objective.momentum)" * hasattr(self.objective, "momentum")
            yield (
                f"{said}: objective.kind={kind}, which {ALGORITHMS[kind].choice} chooses,"
                f" takes steps of its own; set {rights}{own}, or"
                " choose another client and strategy, such as client=table strategy=fedavg."
            )


@dataclass
class FlowerStrategyConfig(StrategyConfig):
    """Any strategy of ``flwr.serverapp.strategy``, by its dotted path."""

    _target_: str = setting(
        "flwr.serverapp.strategy.FedAvg", "Dotted path of the strategy's class."
    )
    kwargs: dict[str, Any] = setting(dict, "Arguments of its constructor.")


@dataclass
class CustomStrategyConfig(StrategyConfig):
    """A custom strategy, by dotted path.

    What makes a :class:`~confide.strategies.strategy.FederatedAlgorithm`.
    """

    _target_: str = setting("???", "Dotted path of a function or class of your own.")
    kwargs: dict[str, Any] = setting(dict, "Arguments of _target_.")
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        yield from named_problems(self._target_, self.kwargs)


def timing_of(strategy: StrategyConfig) -> TimingConfig:
    """Return a strategy's timing; one that is not composed here runs in rounds."""
    return strategy.timing if isinstance(strategy, ComposedStrategyConfig) else TimingConfig()


def codecs_of(strategy: StrategyConfig) -> tuple[CodecConfig, CodecConfig]:
    """Return how updates, and global tensors, travel; as they are unless composed here."""
    if isinstance(strategy, ComposedStrategyConfig):
        return strategy.upload, strategy.download
    return CodecConfig(), CodecConfig()


def objective_of(strategy: StrategyConfig) -> ObjectiveConfig:
    """Return what a strategy's clients do; one of Flower's own has plain clients."""
    if isinstance(strategy, ComposedStrategyConfig | CustomStrategyConfig):
        return strategy.objective
    return ObjectiveConfig()


__all__ = [
    "AGGREGATORS",
    "ALGORITHMS",
    "CODECS",
    "PARTS",
    "SELECTIONS",
    "SERVER_OPTIMIZERS",
    "TIMINGS",
    "AggregatorConfig",
    "AlgorithmKind",
    "BoostingConfig",
    "BufferedTimingConfig",
    "CodecConfig",
    "ComposedStrategyConfig",
    "CustomAggregatorConfig",
    "CustomStrategyConfig",
    "FedAsyncTimingConfig",
    "FedBuffTimingConfig",
    "FedDynConfig",
    "FedProxConfig",
    "FlowerStrategyConfig",
    "GradientSumConfig",
    "NewtonConfig",
    "ObjectiveConfig",
    "PartKind",
    "PrivateNewtonConfig",
    "ScaffoldConfig",
    "SelectionConfig",
    "ServerOptimizerConfig",
    "SgdConfig",
    "StrategyConfig",
    "TimingConfig",
    "UniformSelectionConfig",
    "WeightedMeanConfig",
    "codecs_of",
    "objective_of",
    "timing_of",
]
