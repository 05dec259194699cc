"""The jobs that the overrides of a sweep stand for.

Overrides such as ``a=1,2``, ``a=range(1,9)``, ``a=glob(fed*)``, ``a=tag(log, interval(0.01, 1))``.
"""

import itertools
import math
from collections.abc import Iterator, Sequence

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, ValueType
from hydra.errors import HydraException


def expand(overrides: Sequence[str], loader: ConfigLoader, *, most: int) -> Iterator[list[str]]:
    """Yield the overrides of each job; an interval, whose values are chosen later, gives its ends.

    Args:
        overrides: overrides as for ``--multirun``.
        loader: Hydra's config loader, which knows the choices of a group.
        most: largest number of jobs; further ones are left out.
    """
    # The order is that of Hydra's own sweeper, so that the n-th job here is its n-th job too
    yield from itertools.islice(
        itertools.product(*(_values(word, loader) for word in overrides)), most
    )


def count_jobs(overrides: Sequence[str], loader: ConfigLoader) -> int:
    """Return the number of jobs of a sweep over every combination."""
    return math.prod(len(_values(word, loader)) for word in overrides)


def swept_keys(overrides: Sequence[str]) -> list[str]:
    """Return the keys of the settings that a sweep varies."""
    parsed = [OverridesParser.create().parse_override(word) for word in overrides]
    return [override.key_or_group for override in parsed if override.is_sweep_override()]


def of_kind(overrides: Sequence[str], kind: ValueType) -> list[str]:
    """Return the overrides that are a sweep of one kind, such as an interval."""
    return [
        word
        for word in overrides
        if OverridesParser.create().parse_override(word).value_type is kind
    ]


def _values(word: str, loader: ConfigLoader) -> list[str]:
    """Return the overrides that one override stands for; itself if it is no sweep or is wrong."""
    try:
        [override] = OverridesParser.create(config_loader=loader).parse_overrides([word])
        if not override.is_sweep_override():
            return [word]
        sweep = override.value()
        if isinstance(sweep, IntervalSweep):
            values = [str(sweep.start), str(sweep.end)]
        else:
            values = list(override.sweep_string_iterator())
        if isinstance(sweep, Glob) and not values:
            # A pattern that matches nothing would mean no jobs at all, and no error. As a value it
            # is no choice of the group, which is reported like any other mistake.
            values = [f"'{pattern}'" for pattern in sweep.include]
    except HydraException:
        return [word]
    return [f"{override.get_key_element()}={value}" for value in values]


__all__ = ["count_jobs", "expand", "of_kind", "swept_keys"]
