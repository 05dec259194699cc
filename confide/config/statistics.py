"""Settings of ``confide statistics``."""

from dataclasses import dataclass

from confide.config.fields import setting


@dataclass
class StatisticsConfig:
    """What a release of statistics costs (confide statistics)."""

    epsilon: float = setting(
        1.0,
        "Bound on the privacy loss by the release of statistics, at privacy.delta and for"
        " privacy.unit; without a protected unit there is none, and policy.min_cell is the floor.",
        gt=0,
        le=100,
    )


__all__ = ["StatisticsConfig"]
