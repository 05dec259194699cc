"""The jobs that the overrides of a sweep stand for.

Overrides such as ``a=1,2``, ``a=range(1,9)``, ``a=glob(fed*)``, ``a=tag(log, interval(0.01, 1))``.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, ValueType
from hydra.errors import HydraException

from confide.config.composing.choices import is_schema


@dataclass(frozen=True, kw_only=True)
class RefusedJob:
    """A job whose config contradicts itself.

    Attributes:
        overrides: all of the job.
        problems: a sentence for each mistake.
    """

    overrides: Sequence[str]
    problems: Sequence[str]


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


def has_pattern(overrides: Sequence[str]) -> bool:
    """Say whether values are chosen by a pattern, ``glob(...)``."""
    return bool(of_kind(overrides, ValueType.GLOB_CHOICE_SWEEP))


def written_out(
    overrides: Sequence[str], loader: ConfigLoader, refused: Sequence[RefusedJob]
) -> list[str]:
    """Write out patterns, without the values that are in refused jobs alone.

    Args:
        overrides: overrides as for ``--multirun``.
        loader: Hydra's config loader, which knows the choices of a group.
        refused: jobs that do not fit, of all that the overrides stand for.
    """
    total = count_jobs(overrides, loader)
    lost = Counter(word for job in refused for word in job.overrides)
    patterns = of_kind(overrides, ValueType.GLOB_CHOICE_SWEEP)
    return [_listed(word, loader, total, lost) if word in patterns else word for word in overrides]


def _listed(word: str, loader: ConfigLoader, total: int, lost: Mapping[str, int]) -> str:
    values = _values(word, loader)
    left = [one for one in values if lost.get(one, 0) < total // len(values)]
    return f"{word.partition('=')[0]}={','.join(one.partition('=')[2] for one in left)}"


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
        if isinstance(sweep, Glob):  # the schemas that files extend are no choices
            values = [value for value in values if not is_schema(value)]
        if isinstance(sweep, Glob) and not values:
            # A pattern that matches nothing would mean no jobs at all, and no error. As a value it
            # is no choice of the group, which is reported like any other mistake.
            values = [f"'{pattern}'" for pattern in sweep.include]
    except HydraException:
        return [word]
    return [f"{override.get_key_element()}={value}" for value in values]


__all__ = [
    "RefusedJob",
    "count_jobs",
    "expand",
    "has_pattern",
    "of_kind",
    "swept_keys",
    "written_out",
]
