"""Settings that every kind of delay has: jitter, work, network, availability and lost answers.

They decide what a simulation's virtual clock shows, and nothing of them leaves the simulation.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from confide.config.fields import setting

MOST_S = 1e9
"""Bound on settings in virtual seconds: some thirty years."""


def delay_name(name: str) -> Any:
    """Declare the setting ``kind`` of delays; a schema serves under no other kind's name."""
    return setting(name, "Chosen by its group: simulation/delays=KIND.", choices=(name,))


@dataclass
class BandwidthConfig:
    """Rates at which tensors travel; a client's are drawn once, lognormal around the medians."""

    down_mb_s: float | None = setting(
        None,
        "Median rate at which a client receives tensors, in MB (10^6 bytes) per virtual second;"
        " null: at once.",
        gt=0,
        le=1e6,
    )
    up_mb_s: float | None = setting(
        None,
        "Median rate at which a client sends tensors, in MB (10^6 bytes) per virtual second; null:"
        " at once.",
        gt=0,
        le=1e6,
    )
    sigma: float = setting(
        0.0,
        "Standard deviation of the logarithm of a client's rates; 0: all have the median.",
        ge=0,
        le=5,
    )


@dataclass
class AvailabilityConfig:
    """When clients are there; one that is asked while it is away begins once it is back."""

    on_s: float | None = setting(
        None,
        "Mean of the exponential time for which a client is there, in virtual seconds; null:"
        " always.",
        gt=0,
        le=MOST_S,
    )
    off_s: float | None = setting(
        None,
        "Mean of the exponential time for which it is away, in virtual seconds; null: never.",
        gt=0,
        le=MOST_S,
    )
    trace: str | None = setting(
        None,
        "File of windows (.csv or .parquet with columns client, start_s, end_s) in place of on_s"
        " and off_s; clients that it does not name are always there, and one whose windows are over"
        " begins them anew.",
    )

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        if (self.on_s is None) != (self.off_s is None):
            yield (
                f"on_s={self.on_s}, off_s={self.off_s}: a client is there and away in turns; set"
                " both, or neither."
            )
        if self.trace is not None and self.on_s is not None:
            yield f"trace={self.trace} says when clients are there; leave on_s and off_s out."


@dataclass
class DelaysConfig:
    """No delays: every answer comes at once, and there is no virtual time; other kinds extend this.

    ``per`` and ``work`` say what a drawn number is the time of.
    """

    kind: str = delay_name("none")
    per: str = setting(
        "client",
        "What a time is drawn for: each client once, its speed (client), or each answer (answer).",
        choices=("client", "answer"),
    )
    work: str = setting(
        "answer",
        "What a drawn time is the time of: a whole answer (answer), or each training record of the"
        " client (record).",
        choices=("answer", "record"),
    )
    jitter: float = setting(
        0.0,
        "Each answer takes its time multiplied by a uniform number from 1 - jitter to 1 + jitter.",
        ge=0,
        lt=1,
    )
    dropout: float = setting(
        0.0,
        "Probability that an answer is lost. Where privacy is accounted for, it is computed and"
        " charged all the same.",
        ge=0,
        lt=1,
    )
    deadline_s: float | None = setting(
        None,
        "Virtual seconds after which an answer is not waited for any more; null: for ever, and a"
        " lost answer is noticed when it would have come.",
        gt=0,
        le=MOST_S,
    )
    bandwidth: BandwidthConfig = field(default_factory=BandwidthConfig)
    availability: AvailabilityConfig = field(default_factory=AvailabilityConfig)

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        if self.kind == "none" and self != DelaysConfig():
            yield (
                "kind=none: without delays there is no virtual time for its other settings; choose"
                " a kind, such as simulation/delays=lognormal."
            )


__all__ = ["MOST_S", "AvailabilityConfig", "BandwidthConfig", "DelaysConfig", "delay_name"]
