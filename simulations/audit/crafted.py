"""The worst case for a plan: tensors and records that a hostile coordinator would pick.

The output layer's weights are zero and its bias favours the first class by so much that a record of
that class has a gradient of exactly zero, and a record of the second one the gradient (1, -1, 0,
...) times its features, far above C, at every step. So a canary (label: second class) adds a vector
of norm C in a direction known beforehand, and its companions (label: first class) add nothing,
while noise moves the tensors a little. Canaries are rows as the model reads them, not records that
an institution could hold: what is promised is promised for them too.

All this is checked by gradients of a copy of the model without hooks before a trial is run.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from confide.errors import PrivacyError
from confide.models.networks import trainable, trainable_tensors
from confide.models.workload import Workload
from confide.protocol.tensors import Tensors
from confide.tasks.tabular import FEATURES
from confide.tasks.task import LABELS, Examples

# Half the gap of the two logits: exp(-200) is zero in float32, and noise never closes it.
_BIAS = 100.0
_COMPANIONS = 16
_TRIED = 4
# A canary's gradient over C: a clipping norm that is too large by less than this shows in full.
_SHARPNESS = 8.0
_MOST_TOKEN_CANARIES = 32
# Singular values below this share of the largest tell canaries apart by noise alone.
_WEAKEST = 0.05


@dataclass(frozen=True, kw_only=True)
class Crafted:
    """Tensors and invented records of an audit.

    Attributes:
        start: tensors that a request holds.
        weight: name of the output layer's weight, in which canaries are looked for.
        canaries: m invented records.
        companions: invented records whose gradient is zero.
        signals: what a canary adds to the weight's sum, over C; float64, shape [m, c * w].
        sharpness: smallest norm of a canary's gradient, over C.
    """

    start: Tensors
    weight: str
    canaries: Examples
    companions: Examples
    signals: Tensor
    sharpness: float

    def decode(self, sums: Tensor, chosen: int | None = None) -> Tensor:
        """Estimate how often each canary was added.

        Args:
            sums: noisy sums over C in the output layer's weight, float64, shape [..., c * w].
            chosen: the only canary that can be there; None for any of them.

        Returns:
            float64, shape [..., m], or [...] where one is chosen; unbiased.
        """
        if chosen is not None:
            signal = self.signals[chosen]
            one: Tensor = sums @ (signal / signal.square().sum())
            return one
        inverse: Tensor = torch.linalg.pinv(self.signals, rtol=_WEAKEST)
        return sums @ inverse


def craft(workload: Workload, *, clipping_norm: float, most: int, seed: int) -> Crafted:
    """Pick the worst case for a model.

    Args:
        workload: of which no other user exists: its model is read without hooks.
        clipping_norm: C > 0.
        most: largest number of canaries.
        seed: of the invented records.

    Raises:
        PrivacyError: if the model does not end in a linear layer with a bias, or its gradients are
            not what they should be.
    """
    start = trainable_tensors(workload.model)
    weight, bias = output_layer(start, len(workload.task.labels))
    start[weight].zero_()
    start[bias].fill_(-_BIAS)
    start[bias][0] = _BIAS
    count = min(most, start[weight].shape[1])
    generator = torch.Generator().manual_seed(seed)
    invented = workload.synthetic(_COMPANIONS + count, generator)
    companions = _labelled(invented.select(torch.arange(_COMPANIONS)), 0)
    canaries = _canaries(invented.select(torch.arange(_COMPANIONS, len(invented))), clipping_norm)
    gradients = record_gradients(workload, start, companions)
    if any(float(g.abs().max()) > 0 for record in gradients for g in record.values()):
        raise _unfit(
            "a record of the first class still has a gradient, as every record of smoothed labels"
            " (task.label_smoothing) has"
        )
    signals, norms = _signals(workload, start, canaries, weight, clipping_norm)
    sharpness = min(norms) / clipping_norm
    if sharpness < 1:
        raise _unfit(f"a canary's gradient has only {sharpness:.2g} times the clipping norm")
    return Crafted(
        start=start,
        weight=weight,
        canaries=canaries,
        companions=companions,
        signals=signals,
        sharpness=sharpness,
    )


def stand_still(workload: Workload, *, seed: int) -> tuple[Tensors, Examples]:
    """Return tensors under which no record has a gradient, and records.

    Both halves of adapters are zero: what either adds is a product with the other. It takes no
    classes, and shows noise alone.

    Args:
        workload: of which no other user exists.
        seed: of the invented records.

    Raises:
        PrivacyError: if records still have gradients.
    """
    start = trainable_tensors(workload.model)
    for tensor in start.values():
        tensor.zero_()
    records = workload.synthetic(_COMPANIONS, torch.Generator().manual_seed(seed))
    few = records.select(torch.arange(_TRIED))
    if any(
        float(g.abs().max()) > 0
        for one in record_gradients(workload, start, few)
        for g in one.values()
    ):
        raise PrivacyError(
            "The audit crafts records of two classes, and this run predicts none; without them it"
            " measures the noise of adapters with two trained halves (tuning=lora) alone. Set"
            " audit.parts=[membership]."
        )
    return start, records


def output_layer(tensors: Tensors, classes: int) -> tuple[str, str]:
    """Name the weight and the bias of the layer that gives the logits.

    Args:
        tensors: the model's trainable ones.
        classes: number of logits.

    Raises:
        PrivacyError: if there is none.
    """
    for bias in reversed(tensors):
        weight = bias.removesuffix("bias") + "weight"
        if bias.endswith("bias") and tensors[bias].shape == (classes,) and weight in tensors:
            return weight, bias
    raise _unfit("no trained linear layer with a bias gives its logits")


def _unfit(reason: str) -> PrivacyError:
    return PrivacyError(
        f"This model's worst case is unknown to the audit: {reason}. Leave out the parts that need"
        " it: audit.parts=[membership,inversion]."
    )


def _labelled(examples: Examples, label: int) -> Examples:
    return examples.with_labels(torch.full_like(examples.labels, label))


def _canaries(invented: Examples, clipping_norm: float) -> Examples:
    """Turn invented records into canaries: of unlike directions, where the model takes numbers."""
    features = invented.columns.get(FEATURES)
    if features is None:  # tokens: whatever directions the encoder gives them
        few = torch.arange(min(len(invented), _MOST_TOKEN_CANARIES))
        return _labelled(invented.select(few), 1)
    length = _SHARPNESS * max(1.0, clipping_norm)
    unlike = length * torch.eye(len(invented), features.shape[1], dtype=features.dtype)
    return _labelled(Examples({**invented.columns, FEATURES: unlike}), 1)


def _signals(
    workload: Workload, start: Tensors, canaries: Examples, weight: str, clipping_norm: float
) -> tuple[Tensor, list[float]]:
    """Return what each canary adds to the weight's sum, over C, and its gradient's norm."""
    rows, norms = [], []
    for gradients in record_gradients(workload, start, canaries):
        squares = [g.double().square().sum() for g in gradients.values()]
        norm = float(torch.stack(squares).sum().sqrt())
        norms.append(norm)
        rows.append(gradients[weight].double().flatten() / max(norm, clipping_norm))
    return torch.stack(rows), norms


def record_gradients(workload: Workload, tensors: Tensors, examples: Examples) -> Iterator[Tensors]:
    """Yield the gradient of each record, computed alone and without any hook."""
    params = {
        name: tensor.to(workload.compute.device).requires_grad_()
        for name, tensor in tensors.items()
    }
    for index in range(len(examples)):
        batch = examples.take(torch.tensor([index]))
        loss = losses(workload.model, params, batch, workload).sum()
        found = torch.autograd.grad(loss, list(params.values()), allow_unused=True)
        yield {
            name: torch.zeros_like(p).cpu() if g is None else g.cpu()
            for (name, p), g in zip(params.items(), found, strict=True)
        }


def losses(
    model: nn.Module, params: Tensors, batch: dict[str, Tensor], workload: Workload
) -> Tensor:
    """Return the loss of each record of a batch with given tensors, shape [b]."""
    device = workload.compute.device
    placed = {name: column.to(device) for name, column in batch.items()}
    inputs = {name: column for name, column in placed.items() if name != LABELS}
    names = trainable(model).keys()
    outputs: Tensor = functional_call(model, {n: params[n] for n in names}, (), inputs)
    return workload.task.loss(outputs, placed)


__all__ = [
    "Crafted",
    "craft",
    "losses",
    "output_layer",
    "record_gradients",
    "stand_still",
]
