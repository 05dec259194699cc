"""A trained model as one ONNX file: any batch and length in, logits and scores out."""

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from confide.errors import ModelError
from confide.inference.exporter import exporter_of
from confide.inference.predictor import ONNX_FILE
from confide.models.workload import Workload
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import num_bytes
from confide.tasks.outcomes.build import outcome_of
from confide.tasks.task import LABELS

_LARGEST_IN_ONE_FILE = 1 << 30
"""Bytes of weights; a protocol buffer holds less than 2 GiB, larger ones go to a file beside it."""


class _Served(nn.Module):
    """A model that gives the task's scores, such as probabilities, too."""

    def __init__(
        self,
        classifier: nn.Module,
        scores_fn: Callable[[Tensor], Tensor],
        *,
        inputs: Sequence[str],
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self._scores_fn, self._inputs = scores_fn, tuple(inputs)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Map inputs to logits [b, k] and scores [b, ...]."""
        # By name: a model takes more than every kind of task encodes.
        logits: Tensor = self.classifier(**dict(zip(self._inputs, inputs, strict=True)))
        return logits, self._scores_fn(logits)


def write_onnx(folder: Path, workload: Workload, plan: TrainingPlan, *, int8: bool) -> None:
    """Fill a folder with ``model.onnx`` and what encoding needs.

    Args:
        folder: empty.
        workload: with the trained tensors in its model, on the CPU; an adapter is merged into it.
        plan: task, backbone and tuning.
        int8: whether matrices become 8-bit integers, with activations quantised as they come.
    """
    exporter = exporter_of(plan)
    classifier = exporter.whole(workload, plan, merge=True)
    exporter.write_beside(folder, plan)
    # Three, since the converter takes a batch of one for a constant.
    batch = workload.task.synthetic(3, torch.Generator().manual_seed(0)).take(torch.arange(3))
    # All that is encoded: pairs of texts have token types beside what every text has.
    example = {name: column for name, column in batch.items() if name != LABELS}
    served = _Served(classifier, workload.task.scores, inputs=list(example)).eval()
    name = outcome_of(plan.task).score_name
    outside = num_bytes(classifier.state_dict()) > _LARGEST_IN_ONE_FILE
    if not int8:
        _convert(folder / ONNX_FILE, served, example, score_name=name, outside=outside)
        return
    with _quiet(), tempfile.TemporaryDirectory(dir=folder) as exact:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        _convert(Path(exact) / ONNX_FILE, served, example, score_name=name, outside=outside)
        # A scale for each output halves the difference that one for the whole matrix makes.
        quantize_dynamic(
            Path(exact) / ONNX_FILE,
            folder / ONNX_FILE,
            weight_type=QuantType.QInt8,
            per_channel=True,
            use_external_data_format=outside,
        )


def _convert(
    path: Path, served: _Served, example: dict[str, Tensor], *, score_name: str, outside: bool
) -> None:
    axes = ("batch", "sequence")
    # Long integers are tokens, whose second dimension is a length; pixels are short ones.
    dynamic = tuple(
        {i: name for i, name in enumerate(axes) if i == 0 or tensor.dtype == torch.int64}
        for tensor in example.values()
    )
    try:
        with _quiet():
            torch.onnx.export(
                served,
                tuple(example.values()),
                path,
                input_names=list(example),
                output_names=["logits", score_name],
                dynamic_shapes=(dynamic,),
                dynamo=True,
                external_data=outside,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise ModelError(
            f"--to onnx: the model or its task's scores need what ONNX lacks: {reason} Choose"
            " another form."
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the converters' own notes off the terminal.

    They are about operators and axes that no model here has.
    """
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


__all__ = ["write_onnx"]
