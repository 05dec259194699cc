"""From the config of a part to the part, by the tables of ``confide.config.strategies``."""

import functools
from typing import Any, cast

from confide.config.strategies.strategy import ALGORITHMS, ObjectiveConfig, PartKind
from confide.strategies.algorithm import Algorithm


def build_part(kind: PartKind, config: Any) -> Any:
    """Call a part's builder with its settings, each by its name.

    Args:
        kind: the part's line in its table.
        config: its settings, an instance of ``kind.schema``.
    """
    return kind.build(config)


def build_algorithm(config: ObjectiveConfig) -> Algorithm:
    """Return the algorithm that a config or a plan names: one for all who name it alike.

    Each question to an institution looks it up several times, and it keeps nothing.
    """
    kind, settings = ALGORITHMS[config.kind], vars(config)
    for value in settings.values():
        if isinstance(value, list | dict):
            return cast(Algorithm, build_part(kind, config))
    return _built(config.kind, kind.builder, tuple(settings.items()))


@functools.lru_cache(maxsize=64)
def _built(kind: str, builder: str, settings: tuple[tuple[str, Any], ...]) -> Algorithm:
    schema = ALGORITHMS[kind].schema
    algorithm: Algorithm = build_part(ALGORITHMS[kind], schema(**dict(settings)))
    return algorithm


__all__ = ["build_algorithm", "build_part"]
