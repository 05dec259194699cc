"""What a codec is: numbers in bytes, in as many as the shapes of the tensors say.

Both sides know shapes and codec from the plan, so that a message says nothing of its own length: a
message of another length is refused before it is read, and what is read is as large as the model.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from confide.errors import ProtocolError
from confide.privacy.randomness import KeyedGenerator
from confide.protocol.refusals import Refusal
from confide.protocol.tensors import Shapes, Tensors

Bytes = NDArray[np.uint8]
"""What travels, shape [num_bytes]."""


class Codec(Protocol):
    """Writes the values of named tensors as bytes, and reads them.

    ``shapes`` are of all tensors that travel together, in the order in which their values stand.
    """

    def num_bytes(self, shapes: Shapes) -> int:
        """Return the length of every message about tensors of these shapes."""

    def first_state(self, shapes: Shapes) -> Tensors:
        """Return what the writer keeps before its first message; nothing for most codecs."""

    def write(
        self, values: Tensor, shapes: Shapes, state: Tensors, draw: KeyedGenerator
    ) -> tuple[Bytes, Tensors]:
        """Write values, and return what the writer keeps for its next message.

        Args:
            values: finite, float32, shape [d].
            shapes: of the tensors that they are of.
            state: what the writer kept after its last message.
            draw: for random choices; used for no other message.
        """

    def read(self, data: Bytes, shapes: Shapes) -> Tensor:
        """Read values, float32 of shape [d], from the bytes of a stranger.

        What is returned need not be finite: whoever asks looks at the values.

        Raises:
            ProtocolError: if no writer would have written them.
        """


def unwritten(what: str) -> ProtocolError:
    """Return the error about bytes that no writer writes."""
    return ProtocolError(f"A coded message holds {what}.", code=Refusal.TENSOR_VALUES)


__all__ = ["Bytes", "Codec", "unwritten"]
