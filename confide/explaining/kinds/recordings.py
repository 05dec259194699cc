"""Recordings of speech: a unit is a stretch of time."""

from collections.abc import Callable, Mapping
from typing import ClassVar, NamedTuple, cast

import torch
from datasets import Dataset
from torch import Tensor

from confide.config.outcomes.transcript import TranscriptConfig
from confide.config.tasks.media.speech_recognition import SpeechRecognitionConfig
from confide.explaining.case import FIXED, Canvas, Case, Layout, Unit, by_groups, expanded
from confide.explaining.kinds.patches import patches, span
from confide.explaining.network import Network
from confide.explaining.written import Runs, forced_by, log_probabilities
from confide.inference.predictor import Predictor
from confide.models.language.seq2seq import Seq2SeqModel
from confide.sounds.log_mel import SILENCE, WHISPER_RATE, WHISPER_STEP
from confide.tasks.media.audio_classification import SPECTROGRAM
from confide.tasks.media.speech_recognition import FEATURES
from confide.tasks.task import LABELS, Batch

_STRETCHES = 24
_SHORTEST_S = 0.05


class _Heard(NamedTuple):
    """What a model wrote of a recording.

    Attributes:
        labels: of it, as the outcome's target has them, [1, k'].
        outputs_fn: spectrograms [b, ...] -> log-probabilities of its pieces, [b, k].
    """

    labels: Tensor
    outputs_fn: Callable[[Tensor], Tensor]


class Recordings:
    """Takes recordings apart by stretches of time; what was written of them stays as it is.

    Args:
        predictor: of what is said.
        network: the same, whole.
        baseline: name of what stands for stretches that are left out.
    """

    layout: Layout = "table"
    what = "stretch of time"
    baselines: ClassVar[Mapping[str, str]] = {
        "silence": "silence",
        "middle": "noise of middling power in every band",
    }

    def __init__(self, predictor: Predictor, network: Network, baseline: str) -> None:
        self._task, self._network, self._baseline = predictor.task, network, baseline
        self._schema = cast(SpeechRecognitionConfig, predictor.plan.task)

    def case(self, record: Dataset) -> Case:
        """Take one recording apart."""
        batch = self._task.encode(record).take(torch.tensor([0]))
        by_tokens = FEATURES in batch
        name = FEATURES if by_tokens else SPECTROGRAM
        heard = (self._tokens if by_tokens else self._characters)(batch)
        inputs = batch[name]
        # A decoder hears bands by frames, the other network frames by bands
        down = inputs[0] if by_tokens else inputs[0].T
        bands, frames = down.shape
        step_s = WHISPER_STEP / WHISPER_RATE if by_tokens else self._schema.step_ms / 1000
        # What is behind a recording's length is silence of every record, and nobody's unit
        within = min(frames, 1 + round(self._schema.seconds / step_s))
        longest = min(_STRETCHES, max(1, round(self._schema.seconds / _SHORTEST_S)))
        cells, _, count = patches(1, within, rows=1, columns=longest)
        places = torch.full((frames,), FIXED)
        places[:within] = cells[0]
        groups = (places[None] if by_tokens else places[:, None]).expand(inputs.shape[1:])
        fill = {"silence": float(inputs.min()) if by_tokens else SILENCE, "middle": 0.0}
        baseline = torch.where(groups == FIXED, inputs, fill[self._baseline])
        ends = [span(place, count, within) for place in range(count)]
        # On a page time runs to the right and frequency up
        low, high = float(down.min()), float(down.max())
        return Case(
            units=[Unit(f"{start * step_s:.2f}–{end * step_s:.2f} s") for start, end in ends],
            inputs=inputs,
            baseline=baseline,
            groups=groups,
            outputs_fn=heard.outputs_fn,
            mixed_fn=by_groups(inputs, baseline, groups, heard.outputs_fn),
            has_gradient=self._network.module is not None,
            batch={LABELS: heard.labels},
            canvas=Canvas(
                picture=(down[:, :within].flip(0) - low) / max(high - low, 1e-6),
                rows=f"{bands} mel bands, the highest at the top",
                columns=f"{self._schema.seconds:g} s from left to right",
                map_fn=lambda entries: (entries if by_tokens else entries.T)[:, :within].flip(0),
            ),
        )

    def _tokens(self, batch: Batch) -> _Heard:
        model = cast(Seq2SeqModel, self._network.module)
        written, given = forced_by(model, self._network.outputs(batch), batch)

        def outputs(values: Tensor) -> Tensor:
            source = expanded(given, FEATURES, values)
            return log_probabilities(self._network.called(model.forced, source), written)

        return _Heard(torch.tensor([written]), outputs)

    def _characters(self, batch: Batch) -> _Heard:
        outcome = cast(TranscriptConfig, self._schema.outcome)
        runs = Runs(self._network.outputs(batch)[0], outcome.characters)

        def outputs(values: Tensor) -> Tensor:
            made = self._network.outputs(expanded(batch, SPECTROGRAM, values))
            return runs.log_probabilities(made)

        labels = torch.tensor([[ord(one) for one in runs.text]], dtype=torch.int64)
        return _Heard(labels, outputs)


__all__ = ["Recordings"]
