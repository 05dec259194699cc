"""The table of kinds of delay.

One line is one kind: its settings, and the dotted path of what draws its times (see
``confide.simulations.virtual.times``). A new kind is one file here, one function and one line.
"""

from dataclasses import dataclass

from confide.config.delays.delays import DelaysConfig
from confide.config.delays.exponential import ExponentialDelaysConfig
from confide.config.delays.lognormal import LognormalDelaysConfig
from confide.config.delays.trace import TraceDelaysConfig
from confide.config.delays.uniform import UniformDelaysConfig


@dataclass(frozen=True, kw_only=True)
class DelayKind:
    """One kind of delay.

    Attributes:
        schema: dataclass of its settings.
        builder: dotted path of a function: settings -> what draws the time of an answer.
    """

    schema: type[DelaysConfig]
    builder: str


DELAYS: dict[str, DelayKind] = {
    "none": DelayKind(schema=DelaysConfig, builder="confide.simulations.virtual.times.none"),
    "exponential": DelayKind(
        schema=ExponentialDelaysConfig, builder="confide.simulations.virtual.times.exponential"
    ),
    "lognormal": DelayKind(
        schema=LognormalDelaysConfig, builder="confide.simulations.virtual.times.lognormal"
    ),
    "uniform": DelayKind(
        schema=UniformDelaysConfig, builder="confide.simulations.virtual.times.uniform"
    ),
    "trace": DelayKind(
        schema=TraceDelaysConfig, builder="confide.simulations.virtual.traces.trace"
    ),
}

__all__ = ["DELAYS", "DelayKind"]
