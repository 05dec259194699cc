"""Models of transformers that hear a recording and write what is said, such as Whisper."""

from collections.abc import Callable
from typing import Any

import torch

from confide.config.models.seq2seq import Seq2SeqConfig
from confide.models.language.seq2seq import Read, build_writing
from confide.models.memory import numbers_of_record
from confide.models.networks import evaluating
from confide.models.workload import Order, Workload
from confide.tasks.media.speech_recognition import shape_of
from confide.tasks.outcomes.build import outcome_of

AUTO_CLASS = "AutoModelForSpeechSeq2Seq"


def build_spoken(config: Seq2SeqConfig, order: Order) -> Workload:
    """Build a model that writes what is said.

    Raises:
        ModelError: if it cannot be loaded, is of a family that cannot be trained so, or a record
            would take gibibytes.
    """
    (places,) = outcome_of(order.task).target_shape

    def read(whole: Any) -> Read:
        frames, bands = shape_of(whole.config)

        def forward(model: Any) -> None:
            model(
                input_features=torch.zeros((1, bands, frames)),
                decoder_input_ids=torch.zeros((1, places), dtype=torch.int64),
                use_cache=False,
            )

        limits = {"outcome.max_tokens": (places, int(whole.config.max_target_positions))}
        return Read(
            source=frames // 2,
            limits=limits,
            numbers_fn=lambda: _numbers(whole, forward),
            fix=f"lower task.outcome.max_tokens={places}, or choose a smaller model",
        )

    return build_writing(config, order, auto_class=AUTO_CLASS, read_fn=read)


def _numbers(model: Any, forward_fn: Callable[[Any], None]) -> int:
    """Return what all layers hand on of one record, where nothing is kept for the next token."""
    with evaluating(model):
        return numbers_of_record(model, forward_fn)


__all__ = ["AUTO_CLASS", "build_spoken"]
