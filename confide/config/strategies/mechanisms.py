"""Settings of client-level privacy, and the table of its mechanisms. No torch is imported."""

from collections.abc import Iterator
from dataclasses import dataclass

from confide.config.aggregation import MOST_INSTITUTIONS, AggregationConfig
from confide.config.fields import setting
from confide.config.noise_share import NoiseShare
from confide.config.strategies.aggregators import AggregatorConfig, WeightedMeanConfig
from confide.config.strategies.kinds import PartKind
from confide.config.strategies.objectives import part_name
from confide.config.strategies.selections import (
    PoissonSelectionConfig,
    RoundRobinSelectionConfig,
    SelectionConfig,
)
from confide.config.tunings.table import TUNINGS
from confide.config.tunings.tuning import TuningConfig


@dataclass
class MechanismConfig:
    """No client-level privacy; mechanisms extend this."""

    kind: str = part_name("none", "mechanism")

    def selection_problems(self, selection: SelectionConfig) -> Iterator[str]:
        """Yield why clients that are so selected cannot be accounted for."""
        yield from ()

    def rule_problems(self, aggregator: AggregatorConfig) -> Iterator[str]:
        """Yield why one client may move what a rule makes of updates by more than its share."""
        yield from ()

    def masked_problems(
        self, aggregation: AggregationConfig, selection: SelectionConfig
    ) -> Iterator[str]:
        """Yield why it does not go with what the coordinator sees, one sentence each."""
        yield from ()


@dataclass
class NoisyMechanismConfig(MechanismConfig):
    """What mechanisms have in common: updates are clipped as a whole, and summed with noise."""

    kind: str = part_name("noisy", "mechanism")
    noise_multiplier: float = setting(
        "???",
        "Noise z in clipping norms: of each round's sum, or with bands of the whole run in units of"
        " its sensitivity. Epsilon follows from it.",
        ge=0,
        le=1e4,
    )
    clip_norm: float = setting(
        1.0, "L2 norm to which each client's update is shortened.", gt=0, le=1e6
    )
    delta: float = setting(
        1e-5, "Delta at which epsilon is told; below 1 / number of clients.", gt=0, lt=1
    )

    @property
    def share(self) -> NoiseShare | None:
        """What each client does to its update by itself; None where the coordinator does it all."""
        return None

    def rule_problems(self, aggregator: AggregatorConfig) -> Iterator[str]:
        """Yield rules in which a client's share is not fixed beforehand."""
        key = f"mechanism.kind={self.kind}"
        if not isinstance(aggregator, WeightedMeanConfig):
            yield (
                f"aggregator.kind={aggregator.kind}: {key} needs a sum, which one client moves by"
                " no more than its clipped update; a rule such as a median has no such bound. Set"
                " strategy/aggregator=weighted_mean: clipped means withstand single clients too."
            )
        elif aggregator.weighting != "uniform":
            yield (
                f"aggregator.weighting={aggregator.weighting}: with {key} every client weighs the"
                " same, or one with many records would move the model by more than its share; set"
                " strategy.aggregator.weighting=uniform."
            )


@dataclass
class GaussianMechanismConfig(NoisyMechanismConfig):
    """Independent Gaussian noise in each round, on clients drawn by Poisson sampling."""

    kind: str = part_name("gaussian", "mechanism")
    quantile: float | None = setting(
        None,
        "Share of clients whose updates are to be within the clipping norm, which then follows"
        " their norms from clip_norm on; null: clip_norm stays.",
        gt=0,
        lt=1,
    )
    clip_learning_rate: float = setting(
        0.2, "How fast the clipping norm follows, as a power of e a round.", gt=0, le=10
    )
    bit_noise: float | None = setting(
        None,
        "Standard deviation of the noise on the number of clients within the clipping norm; null: a"
        " twentieth of the expected number of clients a round.",
        gt=0,
        le=1e9,
    )

    honest: int | None = setting(
        None,
        "With aggregation=secure: institutions of each sum that are trusted to clip, to add their"
        " shares of the noise and to keep these to themselves; each adds noise_multiplier *"
        " clip_norm / sqrt(honest). Null: the coordinator adds the noise.",
        ge=1,
        le=MOST_INSTITUTIONS,
    )

    @property
    def share(self) -> NoiseShare | None:
        """What each client does to its update, where they share the noise."""
        if self.honest is None:
            return None
        return NoiseShare(
            clip_norm=self.clip_norm, noise_multiplier=self.noise_multiplier, honest=self.honest
        )

    def masked_problems(
        self, aggregation: AggregationConfig, selection: SelectionConfig
    ) -> Iterator[str]:
        """Yield what keeps institutions from adding the noise to sums that nobody sees inside."""
        key = f"mechanism.kind={self.kind}"
        if not aggregation.is_secure:
            if self.honest is not None:
                yield (
                    f"mechanism.honest={self.honest}: updates that are seen each by itself would"
                    " have a share of the noise alone; set aggregation=secure, or leave it out."
                )
            return
        if self.honest is None:
            yield (
                f"{key}: with aggregation=secure institutions add the noise, since the coordinator"
                " is trusted with no sum without it; set strategy.mechanism.honest to how many of"
                " each sum are trusted to."
            )
        elif aggregation.threshold is not None and self.honest > aggregation.threshold:
            yield (
                f"mechanism.honest={self.honest}: a sum may be of"
                f" aggregation.threshold={aggregation.threshold}; lower it."
            )
        if self.quantile is not None:
            yield (
                f"mechanism.quantile={self.quantile:g}: with aggregation=secure institutions clip"
                " to a norm that the plan fixes; leave it out."
            )
        if selection.kind != "all":
            yield (
                f"selection.kind={selection.kind}: {key} gains nothing by chance with"
                " aggregation=secure, where the coordinator, which is not trusted, would draw; set"
                " strategy/selection=all."
            )
        if self.share is not None:
            yield from (f"mechanism: {problem}" for problem in self.share.problems())

    def selection_problems(self, selection: SelectionConfig) -> Iterator[str]:
        """Yield selections that amplify nothing by chance, or otherwise than is accounted for."""
        if selection.kind not in ("all", "poisson"):
            yield (
                f"selection.kind={selection.kind}: mechanism.kind={self.kind} accounts for clients"
                " that are drawn each by itself; set strategy/selection=poisson, or"
                " strategy/mechanism=banded with strategy/selection=round_robin."
            )


@dataclass
class BandedMechanismConfig(NoisyMechanismConfig):
    """Gaussian noise that later rounds take back in part: banded matrix factorisation."""

    kind: str = part_name("banded", "mechanism")
    bands: int = setting(
        "???",
        "Rounds over which noise is correlated, at most strategy.selection.separation; each band is"
        " one more copy of the model in a checkpoint.",
        ge=1,
        le=1000,
    )

    def masked_problems(
        self, aggregation: AggregationConfig, selection: SelectionConfig
    ) -> Iterator[str]:
        """Yield that shares of correlated noise need everybody in every round."""
        if aggregation.is_secure:
            yield (
                f"mechanism.kind={self.kind}: with aggregation=secure institutions add the noise,"
                " and one that misses a round takes nothing of its earlier noise back; set"
                " strategy/mechanism=gaussian strategy/selection=all, or aggregation=plain."
            )

    def selection_problems(self, selection: SelectionConfig) -> Iterator[str]:
        """Yield selections in which rounds of one client may lie too near."""
        if not isinstance(selection, RoundRobinSelectionConfig):
            yield (
                f"selection.kind={selection.kind}: mechanism.kind={self.kind} needs rounds of one"
                " client that lie apart; set strategy/selection=round_robin, or"
                " strategy/mechanism=gaussian with strategy/selection=poisson."
            )
        elif selection.separation is None or selection.separation < self.bands:
            yield (
                f"mechanism.bands={self.bands}: rounds of one client have to be as far apart, and"
                f" selection.separation={selection.separation}; set strategy.selection.separation"
                f" to {self.bands} or more."
            )


MECHANISMS: dict[str, PartKind] = {
    "none": PartKind(schema=MechanismConfig, builder="confide.strategies.mechanisms.build.none"),
    "gaussian": PartKind(
        schema=GaussianMechanismConfig, builder="confide.strategies.mechanisms.build.gaussian"
    ),
    "banded": PartKind(
        schema=BandedMechanismConfig, builder="confide.strategies.mechanisms.build.banded"
    ),
}


def release_problems(strategy: object, *, keep: str, patience: int | None) -> Iterator[str]:
    """Yield settings of the coordinator that would release more of clients than is accounted for.

    Args:
        strategy: of the run.
        keep: ``server.keep``.
        patience: ``server.patience``.
    """
    mechanism = mechanism_of(strategy)
    if mechanism is not None and (keep == "best" or patience is not None):
        wrong = "server.keep=best" if keep == "best" else f"server.patience={patience}"
        yield (
            f"{wrong}: clients' own scores would decide which model is released, and"
            f" strategy.mechanism.kind={mechanism.kind} accounts for the rounds alone; set"
            " server.keep=last and server.patience=null."
        )


def mechanism_of(strategy: object) -> NoisyMechanismConfig | None:
    """Return the settings of a strategy's mechanism; None where it has none."""
    mechanism = getattr(strategy, "mechanism", None)
    return mechanism if isinstance(mechanism, NoisyMechanismConfig) else None


def share_of(strategy: object) -> NoiseShare | None:
    """Return what each client does to its update where they share the noise; None elsewhere."""
    mechanism = mechanism_of(strategy)
    return None if mechanism is None else mechanism.share


def share_problems(strategy: object, max_value: float) -> Iterator[str]:
    """Yield that updates with noise would be larger than the coordinator takes.

    Args:
        strategy: of the run.
        max_value: ``server.max_update_value``.
    """
    share = share_of(strategy)
    if share is not None and share.largest > max_value:
        yield (
            f"server.max_update_value={max_value:g}: a clipped update with its share of the noise"
            f" has values up to {share.largest:g}; raise it, or lower"
            " strategy.mechanism.clip_norm."
        )


def still_problems(strategy: object, tuning: TuningConfig) -> Iterator[str]:
    """Yield that noise would move what no institution trains in a round.

    Args:
        strategy: of the run.
        tuning: which tensors are trained.
    """
    mechanism, kind = mechanism_of(strategy), TUNINGS.get(tuning.kind)
    if mechanism is not None and kind is not None and kind.turns:
        yield (
            f"tuning.kind={tuning.kind} holds tensors still in some rounds, and the noise of"
            f" strategy.mechanism.kind={mechanism.kind} goes into all that travel; set tuning=lora."
        )


def sampling_rate(selection: SelectionConfig) -> float:
    """Return the probability with which one client takes part in a round."""
    return selection.probability if isinstance(selection, PoissonSelectionConfig) else 1.0


__all__ = [
    "MECHANISMS",
    "BandedMechanismConfig",
    "GaussianMechanismConfig",
    "MechanismConfig",
    "NoisyMechanismConfig",
    "mechanism_of",
    "release_problems",
    "sampling_rate",
    "share_of",
    "share_problems",
    "still_problems",
]
