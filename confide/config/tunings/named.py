"""Institutions that a tuning names: they have to be there."""

from collections.abc import Collection

from confide.config.tunings.lora import LoraConfig
from confide.config.tunings.tuning import TuningConfig
from confide.errors import ConfigError


def check_named(tuning: TuningConfig, names: Collection[str]) -> None:
    """Check that ranks are those of institutions that there are.

    Args:
        tuning: of the run.
        names: of all institutions that could take part.

    Raises:
        ConfigError: naming those that are not there.
    """
    ranks = tuning.ranks if isinstance(tuning, LoraConfig) else {}
    unknown = [name for name in ranks if name not in names]
    if unknown:
        raise ConfigError(
            f"tuning.ranks names {', '.join(unknown)}; the institutions are"
            f" {', '.join(sorted(names)[:20])}."
        )


__all__ = ["check_named"]
