"""Questions that a SuperLink keeps although nobody waits for their answers.

A question is asked again after a silence, and each copy may be answered: the first answer counts,
and nobody fetches the others, each as large as an update. Flower's SuperLink deletes a message once
its reply was fetched, and everything once a run has ended. Rounds of a run would fill its disk.
"""

import time
from collections.abc import Callable, Collection, Set
from dataclasses import dataclass, field

from flwr.app import Message

_Key = tuple[int, str, str]
"""Whom a question is for, its kind, and its group: the same of all its copies."""


@dataclass(frozen=True)
class _Sent:
    key: _Key
    expires: float


@dataclass
class Copies:
    """What was asked, and which of it nobody waits for any more.

    Attributes:
        clock: function that returns the time in seconds.
    """

    clock: Callable[[], float] = time.monotonic
    _sent: dict[str, _Sent] = field(default_factory=dict)
    _answered: set[str] = field(default_factory=set)

    def sent(self, message_id: str, message: Message) -> None:
        """Take note of a question."""
        about = message.metadata
        key = about.dst_node_id, about.message_type, about.group_id
        self._sent[message_id] = _Sent(key, self.clock() + about.ttl)

    def answered(self, message_id: str) -> None:
        """Take note that a question's reply was fetched."""
        question = self._sent.pop(message_id, None)
        self._answered.discard(message_id)
        if question is not None:
            same = {name for name, other in self._sent.items() if other.key == question.key}
            self._answered |= same

    def left_over(self, wanted: Collection[str]) -> Set[str]:
        """Return questions to which nobody waits for a reply.

        One of them is a copy of a question that was answered, or can be answered no more.

        Args:
            wanted: those that are waited for.
        """
        now = self.clock()
        expired = {name for name, question in self._sent.items() if question.expires < now}
        return (self._answered | expired) - set(wanted)

    def is_expired(self, message_id: str) -> bool:
        """Say whether a question can be answered no more."""
        question = self._sent.get(message_id)
        return question is not None and question.expires < self.clock()

    def forget(self, message_id: str) -> None:
        """Take note that the SuperLink keeps nothing of a question any more."""
        self._sent.pop(message_id, None)
        self._answered.discard(message_id)


__all__ = ["Copies"]
