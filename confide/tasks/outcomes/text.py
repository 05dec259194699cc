"""Texts written from others: the tokens of each, and what a model writes by itself.

Targets are those of an answer. A model gives, for each place, the logits of the token there after
the right ones before it and, in one column more, the token that it writes by itself: shape
[b, K, v + 1], :data:`UNWRITTEN` where it has written none.
"""

from typing import TYPE_CHECKING

from confide.metrics.outcomes.texts import TEXT_FIGURES
from confide.tasks.outcomes.answer import Answer

if TYPE_CHECKING:
    from torch import Tensor

UNWRITTEN = -1.0


class Text(Answer):
    """A text that is written from another."""

    _one, _many = "a text", "texts"

    @property
    def score_shape(self) -> tuple[int, ...]:
        """What a record adds to the sums that metrics follow from."""
        return (len(TEXT_FIGURES),)

    def logits(self, outputs: "Tensor") -> "Tensor":
        """Return what a model gives for each token at each place, [b, K, v]."""
        return outputs[..., :-1]


def written_tokens(outputs: "Tensor") -> list[list[int]]:
    """Return the tokens that a model wrote by itself, of each record."""
    rows = outputs[..., -1].long().tolist()
    return [[token for token in row if token >= 0] for row in rows]


__all__ = ["UNWRITTEN", "Text", "written_tokens"]
