"""Declaration of settings: default, range and meaning in one place, and checks of values."""

import dataclasses
import math
import operator
from collections.abc import Collection, Iterable, Iterator
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
    choices: Collection[str] | None = None,
) -> Any:
    """Declare a setting with its default, meaning and range.

    Args:
        default: default value, or a function that returns it.
        meaning: noun phrase that says what the setting is, in plain words.
        ge: smallest value allowed.
        gt: bound that values must exceed.
        le: largest value allowed.
        lt: bound that values must stay below.
        choices: values allowed, or a table whose names they are, so that an entry added later
            counts; None for any.
    """
    metadata = {"meaning": meaning, "ge": ge, "gt": gt, "le": le, "lt": lt, "choices": choices}
    # Dataclasses refuse mutable defaults: lists and dictionaries are given as functions
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def describe_range(metadata: Any) -> str:
    """Return a setting's range in words; '' if any value of its type is allowed."""
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
    # YAML can say .inf, which lies above every lower bound: a setting with a bound must be finite
    return not limits or (
        math.isfinite(value) and all(holds(value, bound) for holds, bound in limits)
    )


def range_problems(node: Any, prefix: str = "") -> Iterator[str]:
    """Walk a config and yield a sentence for each value outside its declared range.

    Args:
        node: schema dataclass; nested ones, and lists and dicts of them, are walked too.
        prefix: dotted key of ``node``, with a dot at its end.
    """
    for item in dataclasses.fields(node):
        value, key = getattr(node, item.name), f"{prefix}{item.name}"
        named: Iterable[tuple[Any, Any]] = ()
        if isinstance(value, dict):
            named = value.items()
        elif isinstance(value, list):
            named = enumerate(value)
        parts = [(name, part) for name, part in named if dataclasses.is_dataclass(part)]
        for name, part in parts:
            yield from range_problems(part, f"{key}.{name}.")
        if dataclasses.is_dataclass(value):
            yield from range_problems(value, f"{key}.")
        elif not parts and value is not None and not _in_range(value, item.metadata):
            yield (
                f"{key}={value}: expected {describe_range(item.metadata)}."
                f" {item.metadata['meaning']}"
            )
    # Contradictions after ranges; a class without any needs no method.
    check = getattr(node, "problems", None)
    if check is not None:
        yield from (f"{prefix}{problem}" for problem in check())


# For pydantic, which reads plans and policies: they come from another organisation, so that an
# unknown key or a number written as text is an error and not a guess
STRICT = {"extra": "forbid", "strict": True, "allow_inf_nan": False}


__all__ = ["STRICT", "describe_range", "range_problems", "setting"]
