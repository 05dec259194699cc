"""Exponential times."""

from dataclasses import dataclass

from confide.config.delays.delays import MOST_S, DelaysConfig, delay_name
from confide.config.fields import setting


@dataclass
class ExponentialDelaysConfig(DelaysConfig):
    """Times are exponential."""

    kind: str = delay_name("exponential")
    mean_s: float = setting(1.0, "Mean time, in virtual seconds.", gt=0, le=MOST_S)


__all__ = ["ExponentialDelaysConfig"]
