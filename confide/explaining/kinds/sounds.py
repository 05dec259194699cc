"""Sounds: a unit is a patch of the spectrogram, a stretch of time in some mel bands."""

from collections.abc import Mapping
from typing import ClassVar, cast

import torch
from datasets import Dataset
from torch import Tensor

from confide.config.tasks.media.sound_task import SoundTaskConfig
from confide.explaining.case import Canvas, Case, Layout, Unit, by_groups, expanded
from confide.explaining.kinds.patches import patches, span
from confide.explaining.network import Network
from confide.inference.predictor import Predictor
from confide.sounds.log_mel import SILENCE
from confide.tasks.media.audio_classification import SPECTROGRAM

_TIMES, _BANDS = 12, 6


class Sounds:
    """Takes sounds apart by stretches of time and bands of frequency.

    Args:
        predictor: of sounds.
        network: the same, whole.
        baseline: name of what stands for patches that are left out.
    """

    layout: Layout = "map"
    what = "patch"
    baselines: ClassVar[Mapping[str, str]] = {
        "silence": "silence",
        "middle": "noise of middling power in every band",
    }

    def __init__(self, predictor: Predictor, network: Network, baseline: str) -> None:
        self._task, self._network = predictor.task, network
        self._schema = cast(SoundTaskConfig, predictor.plan.task)
        self._fill = {"silence": SILENCE, "middle": 0.0}[baseline]

    def case(self, record: Dataset) -> Case:
        """Take one sound apart."""
        batch = self._task.encode(record).take(torch.tensor([0]))
        inputs = batch[SPECTROGRAM]
        baseline = torch.full_like(inputs, self._fill)
        # Of the input, time runs down and bands run across
        frames, bands = inputs.shape[1:]
        groups, times, parts = patches(frames, bands, rows=_TIMES, columns=_BANDS)

        def outputs(values: Tensor) -> Tensor:
            return self._network.outputs(expanded(batch, SPECTROGRAM, values))

        low, high = float(inputs.min()), float(inputs.max())
        # On a page time runs to the right and frequency up
        turned = inputs[0].T.flip(0)
        shown = (turned - low) / max(high - low, 1e-6)
        return Case(
            units=[
                self._unit(place, times, parts, frames, bands) for place in range(times * parts)
            ],
            inputs=inputs,
            baseline=baseline,
            groups=groups,
            outputs_fn=outputs,
            mixed_fn=by_groups(inputs, baseline, groups, outputs),
            has_gradient=self._network.module is not None,
            batch=batch,
            canvas=Canvas(
                picture=shown,
                rows=f"{bands} mel bands, the highest at the top",
                columns=f"{self._schema.seconds:g} s from left to right",
                map_fn=lambda entries: entries.T.flip(0),
            ),
        )

    def _unit(self, place: int, times: int, parts: int, frames: int, bands: int) -> Unit:
        start, end = span(place // parts, times, frames)
        low, high = span(place % parts, parts, bands)
        step = self._schema.step_ms / 1000
        return Unit(f"{start * step:.2f} to {end * step:.2f} s, bands {low + 1} to {high}")


__all__ = ["Sounds"]
