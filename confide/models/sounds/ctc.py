"""Networks for speech that start at random."""

import math
from typing import cast

from torch import Tensor, nn

from confide.config.models.ctc import CtcConfig
from confide.config.tasks.media.speech_recognition import SpeechRecognitionConfig
from confide.models.memory import refuse_large, within_memory
from confide.models.networks import Head
from confide.models.workload import Order, Workload
from confide.tasks.outcomes.build import outcome_of

_GROUP = 8


class CtcEncoder(nn.Module):
    """Convolutions over time with GroupNorm and ReLU, and a linear head in every frame.

    Time keeps its resolution: how many frames there are for a text follows from the schema alone.

    Args:
        bands: m of a spectrogram.
        width: channels of each convolution.
        depth: blocks after the first, each added to what it takes.
        kernel: frames that a convolution sees, odd.
        num_outputs: characters, and one for none.
    """

    def __init__(
        self, *, bands: int, width: int, depth: int, kernel: int, num_outputs: int
    ) -> None:
        super().__init__()
        self.first = _block(bands, width, kernel)
        self.blocks = nn.ModuleList(_block(width, width, kernel) for _ in range(depth))
        self.head = Head(width, num_outputs).head

    def forward(self, input_values: Tensor) -> Tensor:
        """Map spectrograms [b, t, m] to numbers of each character in each frame, [b, t, c + 1]."""
        # Opacus 1.6 computes wrong gradients of convolutions whose input lies otherwise in memory
        hidden = self.first(input_values.transpose(1, 2).contiguous())
        for block in self.blocks:
            hidden = hidden + block(hidden)
        outputs: Tensor = self.head(hidden.transpose(1, 2))
        return outputs


def _block(inputs: int, outputs: int, kernel: int) -> nn.Module:
    # GroupNorm is of each record by itself, over its channels and all of its frames
    norm = nn.GroupNorm(math.gcd(_GROUP, outputs), outputs)
    return nn.Sequential(nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2), norm, nn.ReLU())


def build_ctc(config: CtcConfig, order: Order) -> Workload:
    """Build a network for recordings of the schema's length.

    Raises:
        ModelError: if a record would take gibibytes.
    """
    task = order.task_fn({})
    schema = cast(SpeechRecognitionConfig, order.task)
    (longest,) = outcome_of(schema).target_shape
    # Of a frame: what layers hand on, numbers of characters and their logarithms, and the ways to
    # write a text, forward and backward, with a blank between any two characters
    in_frame = 4 * config.width * (config.depth + 1) + 2 * schema.num_outputs
    numbers = schema.num_frames * (in_frame + 2 * (2 * longest + 1))
    refuse_large(
        numbers,
        fix="lower task.seconds, task.outcome.max_characters, backbone.width or backbone.depth, or"
        " raise task.step_ms",
    )
    compute = within_memory(order.compute, numbers)
    model = CtcEncoder(
        bands=schema.bands,
        width=config.width,
        depth=config.depth,
        kernel=config.kernel,
        num_outputs=schema.num_outputs,
    )
    return Workload(task, model.to(compute.device), task.encode, task.synthetic, compute)


__all__ = ["CtcEncoder", "build_ctc"]
