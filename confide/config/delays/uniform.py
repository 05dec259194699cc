"""Uniform times."""

from collections.abc import Iterator
from dataclasses import dataclass

from confide.config.delays.delays import MOST_S, DelaysConfig, delay_name
from confide.config.fields import setting


@dataclass
class UniformDelaysConfig(DelaysConfig):
    """Times are uniform between two bounds; the same for all where the bounds are equal."""

    kind: str = delay_name("uniform")
    low_s: float = setting(1.0, "Shortest time, in virtual seconds.", ge=0, le=MOST_S)
    high_s: float = setting(10.0, "Longest time, in virtual seconds.", ge=0, le=MOST_S)

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        yield from super().problems()
        if self.low_s > self.high_s:
            yield f"low_s={self.low_s:g} exceeds high_s={self.high_s:g}; exchange them."


__all__ = ["UniformDelaysConfig"]
