"""An exported model beside the run's own: the outputs, the size and the time of both."""

import statistics
import time
from dataclasses import dataclass

from torch import Tensor

from confide.inference.inputs import Inputs
from confide.inference.prediction import predict_in_parts, score
from confide.inference.predictor import Predictor
from confide.models.backbones import find_backbone
from confide.models.saved import RUN_FORM

TOLERANCE = 1e-4
"""Largest difference of logits and of scores, such as probabilities, between a run's own model and
an exact form of it."""
_TIMED_RECORDS, _REPEATS, _SINGLE = 256, 5, 8


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One model on the records of a comparison.

    Attributes:
        size_mb: megabytes (10^6) of the files it is loaded from.
        ms_per_record: from record to logits, tokenising included, in batches of 32; a median.
        metrics: of the task, on labelled records; {} without labels.
    """

    size_mb: float
    ms_per_record: float
    metrics: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What an export did.

    Attributes:
        form: hf, merged, onnx or int8.
        num_examples: records compared.
        num_labelled: those with a label.
        difference: largest absolute difference of scores, in units of one: of a probability, or of
            a number's range.
        score_name: what scores are, in the plural.
        logit_difference: and of logits.
        run: the run's own model.
        exported: the exported one, loaded from its files.
    """

    form: str
    num_examples: int
    num_labelled: int
    difference: float
    score_name: str
    logit_difference: float
    run: Measured
    exported: Measured

    @property
    def exact(self) -> bool:
        """Whether outputs are the same to :data:`TOLERANCE`; NaN never is."""
        return self.difference <= TOLERANCE and self.logit_difference <= TOLERANCE


def compare(run: Predictor, exported: Predictor, inputs: Inputs) -> Comparison:
    """Predict with both, in one process, and measure.

    Args:
        run: the run's own model.
        exported: what was made of it.
        inputs: records, n >= 1.

    Raises:
        ModelError: if the run's own model gives no finite numbers.
    """
    expected = run.outputs(inputs.records)
    run.refuse_diverged(expected)
    got = exported.outputs(inputs.records)
    few = inputs.records.select(range(min(_SINGLE, len(inputs.records))))
    alone = exported.outputs(few, batch_size=1)  # another batch shape
    pairs = ((expected, got), (expected[: len(few)], alone))
    scores = run.task.scores
    run_ms, exported_ms = _times(run, exported, inputs)
    return Comparison(
        form=exported.description.form,
        num_examples=len(inputs.records),
        num_labelled=int(inputs.labelled.sum()),
        difference=max(_gap(scores(one), scores(other)) for one, other in pairs)
        / run.outcome.score_unit,
        score_name=run.outcome.score_name,
        logit_difference=max(_gap(one, other) for one, other in pairs),
        run=Measured(
            size_mb=_size_mb(run),
            ms_per_record=run_ms,
            metrics=_metrics(run, inputs),
        ),
        exported=Measured(
            size_mb=_size_mb(exported),
            ms_per_record=exported_ms,
            metrics=_metrics(exported, inputs),
        ),
    )


def _gap(one: Tensor, other: Tensor) -> float:
    gap = float((one - other).abs().max())
    # max() passes over NaN or not, depending on the order of its arguments.
    return gap if gap == gap else float("inf")


def _metrics(model: Predictor, inputs: Inputs) -> dict[str, float]:
    metrics, _ = score(model, list(predict_in_parts(model, inputs)))
    return metrics


def _times(run: Predictor, exported: Predictor, inputs: Inputs) -> tuple[float, float]:
    """Time both in turn, so that what else the machine does falls on both alike."""
    records = inputs.records.select(range(min(_TIMED_RECORDS, len(inputs.records))))
    seconds: dict[str, list[float]] = {"run": [], "exported": []}
    for _ in range(_REPEATS):
        for name, model in (("run", run), ("exported", exported)):
            started = time.perf_counter()
            model.outputs(records)
            seconds[name].append(time.perf_counter() - started)
    ms = {name: 1e3 * statistics.median(taken) / len(records) for name, taken in seconds.items()}
    return ms["run"], ms["exported"]


def _size_mb(model: Predictor) -> float:
    folders = [model.folder]
    weights = model.plan.backbone.pretrained
    # A run's folder holds what was trained; it starts from the backbone's.
    if model.description.form == RUN_FORM and weights is not None:
        folders.append(find_backbone(weights))
    files = [path for folder in folders for path in folder.iterdir() if path.is_file()]
    return sum(path.stat().st_size for path in files) / 1e6


__all__ = ["TOLERANCE", "Comparison", "Measured", "compare"]
