"""What the log of a kit's SuperNode says of its connection, for whoever asks from outside."""

from dataclasses import dataclass

from confide.client.deployment.kit import InstitutionKit
from confide.deployment.lifetime import processes
from confide.deployment.logs import log_tail
from confide.flower.explain import explain

_ROLE = "supernode"
_LOGS = ("logs", _ROLE)
"""Folders of a kit's state that it may log to: with the others, or as a service of its own."""


@dataclass(frozen=True, kw_only=True)
class SupernodeTold:
    """What one log says.

    Attributes:
        runs: whether the SuperNode runs.
        why: why it ended, or what it waits for, with the fix; None if its log tells nothing.
        was_refused: whether it ended because the coordinator would not have it.
    """

    runs: bool
    why: str | None
    was_refused: bool


def supernode_told(kit: InstitutionKit) -> list[SupernodeTold]:
    """Return what each of a kit's logs says of its last SuperNode."""
    found = []
    for folder in _LOGS:
        runs = _ROLE in processes(kit.state / folder)
        text = log_tail(kit.state / folder / f"{_ROLE}.log")
        why = explain(text, None if runs else 1)
        ended = why is not None and "Exit Code" in text[text.rfind("Starting Flower") :]
        found.append(SupernodeTold(runs=runs, why=why, was_refused=ended and not runs))
    return found


__all__ = ["SupernodeTold", "supernode_told"]
