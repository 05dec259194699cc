"""Holds a process of a deployment at an instant of a masked round, until a test lets it go on.

A test puts a copy of this file, named ``sitecustomize.py``, on the ``PYTHONPATH`` of a deployment's
processes; each loads it first. Nothing else is changed in them, and no one waits but where a file
beside the copy asks for it.
"""

import importlib.abc
import importlib.machinery
import sys
import time
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = Path(__file__).parent
LONGEST_S = 120.0
"""Nobody waits longer, whatever becomes of the test."""
RoundFn = Callable[..., int | None]
"""What a function was called with -> the round that it is an instant of; None for none."""


def reach(instant: str, server_round: int) -> None:
    """Wait here if a test asks this process to, once."""
    for asked in FOLDER.glob(f"{instant}-{server_round}-*.asked"):
        reached = asked.with_suffix(".reached")
        try:
            if asked.read_text() not in "\0".join(sys.argv):
                continue
            asked.rename(reached)
        except FileNotFoundError:  # another process waits for it
            continue
        end = time.monotonic() + LONGEST_S
        while reached.exists() and time.monotonic() < end:
            time.sleep(0.02)


def _training(enrolled: Any, state: Any, about: Any) -> int | None:
    return about.server_round if about.kind == "train" else None


def _opening(enrolled: Any, state: Any, under_way: Any) -> int | None:
    return under_way.masked.context.server_round if under_way.kind == "train" else None


def _second(masked: Any, *_: Any) -> int | None:
    return masked.context.server_round if len(masked.boxes) == 2 else None


HOOKS: dict[str, list[tuple[str, str, bool, RoundFn]]] = {
    # Module -> function, instant, whether the instant is after it, round
    "confide.server.rounds.masked_rounds": [
        ("question_in", "asks", False, _training),
        ("open_sum", "committed", False, _opening),
    ],
    "confide.server.secure_sums.collector": [
        ("MaskedSum.add", "some_vectors", True, _second),
        ("MaskedSum.check_answer", "some_shares", True, lambda it, *_: it.context.server_round),
        ("MaskedSum.open", "opened", True, lambda it, *_: it.context.server_round),
    ],
    "confide.client.training_round": [
        ("local_round", "trains", False, lambda trainer, inputs, *_: inputs.server_round),
        ("TrainingRounds.end", "kept", True, lambda it, work, *_: work.request.server_round),
    ],
    "confide.client.secure_sums.seat": [
        ("Seat.mask", "masked", True, lambda it, context, *_: context.server_round),
        ("Seat.unmask", "gives", True, lambda it, context, *_: context.server_round),
    ],
}


def _hook(module: ModuleType, path: str, instant: str, after: bool, round_fn: RoundFn) -> None:
    *owner, name = path.split(".")
    there: Any = module if not owner else getattr(module, owner[0])
    inner = getattr(there, name)

    @wraps(inner)
    def outer(*args: Any, **kwargs: Any) -> Any:
        if not after:
            _reach(instant, round_fn(*args))
            return inner(*args, **kwargs)
        result = inner(*args, **kwargs)
        _reach(instant, round_fn(*args))
        return result

    setattr(there, name, outer)


def _reach(instant: str, server_round: int | None) -> None:
    if server_round is not None:
        reach(instant, server_round)


class _Finder(importlib.abc.MetaPathFinder):
    """Hooks a module once it is loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in HOOKS:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        specs = (finder.find_spec(name, path, target) for finder in others)
        spec = next(filter(None, specs), None)
        if spec is None or spec.loader is None:
            return None
        inner = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            inner(module)
            for hook in HOOKS[name]:
                _hook(module, *hook)

        setattr(spec.loader, "exec_module", exec_module)  # noqa: B010 - a method, for mypy
        return spec


if __name__ == "sitecustomize":
    sys.meta_path.insert(0, _Finder())
