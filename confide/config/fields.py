"""How a setting is declared: its default, range and meaning in one place, and how values are held against them."""

import dataclasses
import math
import operator
from collections.abc import Iterator
from dataclasses import field
from typing import Any


def setting(  # noqa: PLR0913 - a declaration, one word a bound
    default: Any,
    meaning: str,
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """Declare a setting with its default, meaning and range."""
    metadata = {"meaning": meaning, "ge": ge, "gt": gt, "le": le, "lt": lt, "choices": choices}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def describe_range(metadata: Any) -> str:
    """Write a setting's range in words, '' where anything of its type will do."""
    if metadata.get("choices"):
        return "one of " + ", ".join(metadata["choices"])
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    return " and ".join(
        f"{sign} {metadata[key]:.10g}"
        for key, sign in signs.items()
        if metadata.get(key) is not None
    )


_COMPARISONS = {"gt": operator.gt, "ge": operator.ge, "lt": operator.lt, "le": operator.le}


def _in_range(value: Any, metadata: Any) -> bool:
    if metadata.get("choices"):
        return value in metadata["choices"]
    limits = [
        (holds, metadata[key])
        for key, holds in _COMPARISONS.items()
        if metadata.get(key) is not None
    ]
    return not limits or (
        math.isfinite(value) and all(holds(value, bound) for holds, bound in limits)
    )


def range_problems(node: Any, prefix: str = "") -> Iterator[str]:
    """Walk a config and yield a sentence for each value outside its declared range.

    Args:
        node: a schema dataclass; nested ones, lists and dicts of them are walked too.
        prefix: the dotted key of ``node``.
    """
    for item in dataclasses.fields(node):
        value, key = getattr(node, item.name), f"{prefix}{item.name}"
        if dataclasses.is_dataclass(value):
            yield from range_problems(value, f"{key}.")
        elif parts := _nested(value):
            for name, part in parts:
                yield from range_problems(part, f"{key}.{name}.")
        elif value is not None and not _in_range(value, item.metadata):
            yield (
                f"{key}={value}: expected {describe_range(item.metadata)}."
                f" {item.metadata['meaning']}"
            )
    check = getattr(node, "problems", None)
    if check is not None:
        yield from (f"{prefix}{problem}" for problem in check())


def _nested(value: Any) -> list[tuple[Any, Any]]:
    """Name the dataclasses in a list or dict; nothing for any other value."""
    named = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [(name, part) for name, part in named if dataclasses.is_dataclass(part)]


STRICT = {"extra": "forbid", "strict": True, "allow_inf_nan": False}


__all__ = ["STRICT", "describe_range", "range_problems", "setting"]
