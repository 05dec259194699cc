"""An institution's ``drift.yaml``."""

from pathlib import Path

from confide.config.composing.strict_yaml import read_strict
from confide.config.drift import DriftConfig


def read_thresholds(path: Path | None) -> DriftConfig:
    """Read thresholds; those that the file leaves out have their defaults.

    Args:
        path: the file; None for none.

    Raises:
        ConfigError: naming every key that is unknown, mistyped or out of range.
    """
    return DriftConfig() if path is None else read_strict(path, DriftConfig)


__all__ = ["read_thresholds"]
