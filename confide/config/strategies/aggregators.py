"""Settings of aggregation rules and of the mixing before them, and their tables.

A robust rule says how many updates it needs for a number of hostile institutions, from its paper,
so that a config beyond that is refused before anything is trained. No torch is imported.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from confide.config.custom import named_problems
from confide.config.fields import setting
from confide.config.strategies.kinds import PartKind
from confide.config.strategies.objectives import CHOSEN_BY_GROUP, part_name


@dataclass
class AggregatorConfig:
    """An aggregation rule."""

    kind: str = setting("???", CHOSEN_BY_GROUP.format(group="aggregator"))


@dataclass
class WeightedMeanConfig(AggregatorConfig):
    """The weighted mean."""

    kind: str = part_name("weighted_mean", "aggregator")
    weighting: str = setting(
        "num_examples", "What a client's update weighs.", choices=("num_examples", "uniform")
    )


@dataclass
class CustomAggregatorConfig(AggregatorConfig):
    """A rule of your own, by dotted path."""

    kind: str = part_name("custom", "aggregator")
    _target_: str = setting("???", "Dotted path of a function or class of your own.")
    kwargs: dict[str, Any] = setting(dict, "Arguments of _target_.")

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        yield from named_problems(self._target_, self.kwargs)


@dataclass
class RobustConfig(AggregatorConfig):
    """A rule that withstands hostile institutions; every institution weighs the same."""

    num_hostile: int = setting(
        1, "Number of hostile institutions in a round that the rule withstands.", ge=0, le=10**6
    )


@dataclass
class MedianConfig(RobustConfig):
    """The median of each number."""

    kind: str = part_name("median", "aggregator")


@dataclass
class TrimmedMeanConfig(RobustConfig):
    """The mean of each number without its num_hostile largest and smallest values."""

    kind: str = part_name("trimmed_mean", "aggregator")


@dataclass
class KrumConfig(RobustConfig):
    """The one update that is nearest to its neighbours."""

    kind: str = part_name("krum", "aggregator")


@dataclass
class MultiKrumConfig(RobustConfig):
    """The mean of the updates that are nearest to their neighbours."""

    kind: str = part_name("multi_krum", "aggregator")
    num_kept: int | None = setting(
        None, "Number of updates that are averaged; null: all but num_hostile.", ge=1
    )


@dataclass
class BulyanConfig(RobustConfig):
    """Updates that Krum chooses one after the other, and of each number those near the median."""

    kind: str = part_name("bulyan", "aggregator")


@dataclass
class GeometricMedianConfig(RobustConfig):
    """The point with the least sum of distances to all updates."""

    kind: str = part_name("geometric_median", "aggregator")


@dataclass
class NormBoundedConfig(RobustConfig):
    """The mean of updates that are shortened to a length."""

    kind: str = part_name("norm_bounded", "aggregator")
    max_norm: float | None = setting(
        None, "L2 norm that updates are shortened to; null: the median of the round's.", gt=0
    )


@dataclass
class CenteredClippingConfig(RobustConfig):
    """The mean of updates that are held within a distance of the round before's."""

    kind: str = part_name("centered_clipping", "aggregator")
    radius: float | None = setting(
        None, "Distance that updates are held within; null: the median of the round's.", gt=0
    )
    steps: int = setting(1, "Number of times the centre moves in a round.", ge=1, le=100)


@dataclass
class MixingConfig:
    """Updates go into the rule as they are; other mixings extend this."""

    kind: str = part_name("none", "mixing")


@dataclass
class BucketingConfig(MixingConfig):
    """Updates are averaged in random groups before the rule."""

    kind: str = part_name("bucketing", "mixing")
    bucket_size: int = setting(2, "Number of updates in one group.", ge=1, le=10**6)


@dataclass
class NearestNeighboursConfig(MixingConfig):
    """Each update is replaced by the mean of its nearest ones before the rule."""

    kind: str = part_name("nearest_neighbours", "mixing")


@dataclass(frozen=True, kw_only=True)
class RobustKind(PartKind):
    """One robust rule.

    Attributes:
        sentence: what it does, for a report.
        per_hostile: number of updates that each hostile one needs.
        beyond: number of updates that are needed beside those.
    """

    sentence: str
    per_hostile: int = 2
    beyond: int = 1

    def least(self, num_hostile: int) -> int:
        """Return the smallest number of updates among which so many may be hostile."""
        return self.per_hostile * num_hostile + self.beyond

    def most_hostile(self, updates: int) -> int:
        """Return the largest number of hostile ones among so many updates; -1 for too few."""
        return max(-1, (updates - self.beyond) // self.per_hostile)


_ROOM = "confide.strategies.robust"

ROBUST: dict[str, RobustKind] = {
    "median": RobustKind(
        schema=MedianConfig,
        builder=f"{_ROOM}.trimming.median",
        name="the coordinate-wise median",
        sentence="Of each number the median over the institutions was taken.",
    ),
    "trimmed_mean": RobustKind(
        schema=TrimmedMeanConfig,
        builder=f"{_ROOM}.trimming.trimmed_mean",
        name="the trimmed mean",
        sentence="Of each number the largest and the smallest values were left out, and the others"
        " averaged.",
    ),
    "krum": RobustKind(
        schema=KrumConfig,
        builder=f"{_ROOM}.krum.krum",
        name="Krum",
        sentence="Each round took the one update that was nearest to its neighbours.",
        beyond=3,
    ),
    "multi_krum": RobustKind(
        schema=MultiKrumConfig,
        builder=f"{_ROOM}.krum.multi_krum",
        name="Multi-Krum",
        sentence="Each round averaged the updates that were nearest to their neighbours.",
        beyond=3,
    ),
    "bulyan": RobustKind(
        schema=BulyanConfig,
        builder=f"{_ROOM}.krum.bulyan",
        name="Bulyan",
        sentence="Krum chose updates one after the other, and of each number of theirs those"
        " nearest to the median were averaged.",
        per_hostile=4,
        beyond=3,
    ),
    "geometric_median": RobustKind(
        schema=GeometricMedianConfig,
        builder=f"{_ROOM}.geometric_median.geometric_median",
        name="the geometric median",
        sentence="Each round took the point with the least sum of distances to all updates.",
    ),
    "norm_bounded": RobustKind(
        schema=NormBoundedConfig,
        builder=f"{_ROOM}.clipping.norm_bounded",
        name="the norm-bounded mean",
        sentence="Updates were shortened to one length before they were averaged.",
    ),
    "centered_clipping": RobustKind(
        schema=CenteredClippingConfig,
        builder=f"{_ROOM}.clipping.centered_clipping",
        name="centred clipping",
        sentence="Updates were held within a distance of the round before's before they were"
        " averaged.",
    ),
}
"""Rules that withstand hostile institutions, by kind."""

AGGREGATORS: dict[str, PartKind] = {
    "weighted_mean": PartKind(
        schema=WeightedMeanConfig, builder="confide.strategies.aggregators.WeightedMean"
    ),
    "custom": PartKind(
        schema=CustomAggregatorConfig, builder="confide.strategies.custom.custom_aggregator"
    ),
    **ROBUST,
}
MIXINGS: dict[str, PartKind] = {
    "none": PartKind(schema=MixingConfig, builder=f"{_ROOM}.mixing.none"),
    "bucketing": PartKind(
        schema=BucketingConfig, builder=f"{_ROOM}.mixing.Bucketing", name="bucketing"
    ),
    "nearest_neighbours": PartKind(
        schema=NearestNeighboursConfig,
        builder=f"{_ROOM}.mixing.NearestNeighbours",
        name="nearest-neighbour mixing",
    ),
}


def too_many_hostile(kind: str, num_hostile: int, groups: int, there: str) -> str | None:
    """Say why a rule does not withstand so many hostile institutions; None if it does.

    Args:
        kind: of the rule.
        num_hostile: setting of it.
        groups: number of vectors that it sees in a round.
        there: what sets this number, for the sentence.
    """
    rule = ROBUST[kind]
    if groups >= rule.least(num_hostile):
        return None
    most = rule.most_hostile(groups)
    return (
        f"strategy.aggregator.num_hostile={num_hostile}: {rule.name} needs"
        f" {rule.least(num_hostile)} updates or groups of updates for it, and has {groups}"
        f" ({there}); {f'set it to at most {most}' if most >= 0 else 'choose another rule'}, or add"
        " institutions."
    )


def num_withstood(aggregator: object) -> int:
    """Return how many hostile institutions a rule is set to withstand; 0 for another rule."""
    return aggregator.num_hostile if isinstance(aggregator, RobustConfig) else 0


def robust_problems(
    aggregator: AggregatorConfig, mixing: MixingConfig, updates: int, there: str
) -> Iterator[str]:
    """Yield what a rule does not withstand among so many updates; nothing for other rules.

    Args:
        aggregator: the rule's settings.
        mixing: before it.
        updates: in a round.
        there: what sets this number, for the sentence.
    """
    if not isinstance(aggregator, RobustConfig):
        return
    size = mixing.bucket_size if isinstance(mixing, BucketingConfig) else 1
    problem = too_many_hostile(aggregator.kind, aggregator.num_hostile, -(-updates // size), there)
    if problem is not None:
        yield problem
    kept = aggregator.num_kept if isinstance(aggregator, MultiKrumConfig) else None
    if kept is not None and kept > updates - aggregator.num_hostile:
        yield (
            f"strategy.aggregator.num_kept={kept} of {updates} updates ({there}) would keep hostile"
            f" ones, num_hostile={aggregator.num_hostile}; lower it, or leave it null."
        )


__all__ = [
    "AGGREGATORS",
    "MIXINGS",
    "ROBUST",
    "AggregatorConfig",
    "BucketingConfig",
    "CenteredClippingConfig",
    "CustomAggregatorConfig",
    "KrumConfig",
    "MixingConfig",
    "MultiKrumConfig",
    "RobustConfig",
    "RobustKind",
    "TrimmedMeanConfig",
    "WeightedMeanConfig",
    "num_withstood",
    "robust_problems",
    "too_many_hostile",
]
