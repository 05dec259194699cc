"""What the words of a sweep stand for.

``a=1,2``, ``a=range(1,9)``, ``a=glob(fed*)``, ``a=tag(log, interval(0.01, 1))``.
"""

import itertools
import math
from collections.abc import Iterator, Sequence

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Override, ValueType
from hydra.errors import HydraException


def expand(overrides: Sequence[str], loader: ConfigLoader, *, most: int) -> Iterator[list[str]]:
    """Yield the jobs of a sweep; of an interval, whose values a sweeper chooses, the ends.

    Args:
        overrides: as for ``--multirun``.
        loader: knows the choices of a group.
        most: jobs beyond that many are left out.
    """
    yield from itertools.islice(
        itertools.product(*(_values(word, loader) for word in overrides)), most
    )


def count_jobs(overrides: Sequence[str], loader: ConfigLoader) -> int:
    """Count the jobs of a sweep over every combination."""
    return math.prod(len(_values(word, loader)) for word in overrides)


def swept_keys(overrides: Sequence[str]) -> list[str]:
    """Name the settings that a sweep varies."""
    parsed = [OverridesParser.create().parse_override(word) for word in overrides]
    return [override.key_or_group for override in parsed if override.is_sweep_override()]


def of_kind(overrides: Sequence[str], kind: ValueType) -> list[str]:
    """Pick the words that are a sweep of one kind, such as an interval."""
    return [
        word
        for word in overrides
        if OverridesParser.create().parse_override(word).value_type is kind
    ]


def _values(word: str, loader: ConfigLoader) -> list[str]:
    """Return the overrides that one word stands for; itself where it is no sweep, or wrong."""
    try:
        [override] = OverridesParser.create(config_loader=loader).parse_overrides([word])
        if not override.is_sweep_override():
            return [word]
        values = _values_of(override)
    except HydraException:
        return [word]
    return [f"{override.get_key_element()}={value}" for value in values]


def _values_of(override: Override) -> list[str]:
    sweep = override.value()
    if isinstance(sweep, IntervalSweep):
        return [str(sweep.start), str(sweep.end)]
    values = list(override.sweep_string_iterator())
    if (
        isinstance(sweep, Glob) and not values
    ):  # stands for itself, which is no choice of the group: a mistake like any other
        return [f"'{pattern}'" for pattern in sweep.include]
    return values


__all__ = ["count_jobs", "expand", "of_kind", "swept_keys"]
