"""What a counter-example is to reach: another decision, or a number beyond a bound."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from confide.errors import ConfigError
from confide.explaining.counterexamples import NearFn, ReachedFn
from confide.explaining.target import Target

_BOUND = re.compile(r"([<>])\s*(-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)")


class Goal(NamedTuple):
    """What is wanted of a row.

    Attributes:
        name: in words.
        reached_fn: whether outputs are that.
        near_fn: how near they are to it.
    """

    name: str
    reached_fn: ReachedFn
    near_fn: NearFn


def goal_of(target: Target, outputs: Tensor, wanted: str | None) -> Goal | None:
    """Return what is wanted; None where only a number is told, and none is named.

    Args:
        target: what is explained of the row.
        outputs: of the row, [1, ...].
        wanted: a decision, or a bound on what is shown; None for any other decision.

    Raises:
        ConfigError: if it is neither.
    """
    bound = None if wanted is None else _BOUND.fullmatch(wanted.strip())
    if bound is not None:
        return _beyond(target, bound[1], float(bound[2]))
    decide = target.decision_fn
    if decide is None:
        if wanted is None:
            return None
        raise ConfigError(
            f"--to {wanted}: expected a bound on {target.shown}, such as '>0.5' or '<100'."
        )
    now = int(decide(outputs)[0])
    # What is explained may be another decision than the one that is to change
    sign = -1.0 if target.decisions[now] == target.name else 1.0
    if wanted is None:
        return Goal(
            _other(target.decisions, now),
            lambda made: decide(made) != now,
            lambda made: sign * target.score_fn(made),
        )
    if wanted not in target.decisions:
        raise ConfigError(
            f"--to {wanted}: expected one of {', '.join(target.decisions)}, or a bound on"
            f" {target.shown} such as '>0.5'."
        )
    place = list(target.decisions).index(wanted)
    towards = 1.0 if wanted == target.name else sign
    return Goal(
        wanted, lambda made: decide(made) == place, lambda made: towards * target.score_fn(made)
    )


def _other(decisions: Sequence[str], now: int) -> str:
    return decisions[1 - now] if len(decisions) == 2 else f"another than {decisions[now]}"


def _beyond(target: Target, side: str, value: float) -> Goal:
    sign = 1.0 if side == ">" else -1.0
    return Goal(
        f"{target.shown} {side} {value:g}",
        lambda made: sign * target.shown_fn(made) > sign * value,
        lambda made: sign * target.shown_fn(made),
    )


__all__ = ["Goal", "goal_of"]
