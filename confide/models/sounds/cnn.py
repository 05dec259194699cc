"""Networks of spectrograms that start at random."""

from typing import cast

from torch import Tensor, nn

from confide.config.models.cnn import CnnConfig
from confide.config.tasks.media.audio_classification import AudioClassificationConfig
from confide.errors import ModelError
from confide.models.memory import refuse_large, within_memory
from confide.models.networks import Head, scaled_rows
from confide.models.pictures.cnn import COARSE, convolutions, handed_on
from confide.models.workload import Order, Workload


class SoundCnn(nn.Module):
    """Blocks of a convolution, GroupNorm, ReLU and max pooling, and a linear head.

    Args:
        frames: t of a spectrogram.
        bands: m of a spectrogram.
        widths: channels of each block.
        num_outputs: of the head.
        row_norm: norm that features are scaled to; None leaves them as they are.
    """

    def __init__(
        self,
        *,
        frames: int,
        bands: int,
        widths: list[int],
        num_outputs: int,
        row_norm: float | None = None,
    ) -> None:
        super().__init__()
        self._row_norm = row_norm
        left = frames >> len(widths), bands >> len(widths)
        # What the head sees says when and where in the spectrum, coarsely.
        pooled = max(1, left[0] // COARSE), max(1, left[1] // COARSE)
        cells = (left[0] // pooled[0]) * (left[1] // pooled[1])
        self.blocks = nn.Sequential(*convolutions(1, widths), nn.AvgPool2d(pooled), nn.Flatten())
        self.head = Head(cells * widths[-1], num_outputs).head

    def forward(self, input_values: Tensor) -> Tensor:
        """Map spectrograms [b, t, m] to outputs [b, k]."""
        outputs: Tensor = self.head(scaled_rows(self.blocks(input_values[:, None]), self._row_norm))
        return outputs


def build_sound_cnn(config: CnnConfig, order: Order) -> Workload:
    """Build a network for sounds of the schema's length.

    Raises:
        ModelError: if so many blocks leave nothing of a spectrogram.
    """
    task = order.task_fn({})
    schema = cast(AudioClassificationConfig, order.task)
    if min(schema.num_frames, schema.bands) >> len(config.widths) < 1:
        raise ModelError(
            f"backbone.widths={config.widths}: so many blocks leave nothing of a spectrogram of"
            f" {schema.num_frames} frames and task.bands={schema.bands}; take fewer blocks."
        )
    numbers = handed_on(schema.num_frames, schema.bands, config.widths)
    refuse_large(
        numbers, fix="lower task.seconds, task.bands or backbone.widths, or raise task.step_ms"
    )
    compute = within_memory(order.compute, numbers)
    model = SoundCnn(
        frames=schema.num_frames,
        bands=schema.bands,
        widths=config.widths,
        num_outputs=schema.num_outputs,
        row_norm=config.row_norm,
    )
    return Workload(task, model.to(compute.device), task.encode, task.synthetic, compute)


__all__ = ["SoundCnn", "build_sound_cnn"]
