"""Exact federated Newton for linear models: each round one sum of second derivatives.

Newton's method on the pooled, ridge-penalised loss (for logistic regression iteratively reweighted
least squares; Hastie, Tibshirani and Friedman, "The Elements of Statistical Learning", section
4.4.1), whose sums over records are sums over institutions. With n records, parameters w (weights
and intercepts) and J(w) = sum of losses + ridge / 2 |weights|^2,

- client: loss, gradient and Hessian of its records, float64, as means;
- server: ``w += t * direction`` with ``direction = -(Hessian of J)^-1 (gradient of J)``; t = 1, and
  half of the step before where J did not fall enough (Armijo 1966), so that it cannot diverge.

The step after a decrement ``gradient^T (Hessian)^-1 gradient`` of at most ``tolerance`` ends the
run: convergence is quadratic, and 3 to 6 sums give the regression on pooled records. A gradient
travels as two float32 numbers an element, which hold 48 bits; the Hessian's float32 slows
convergence a little and moves no optimum. The coordinator holds second derivatives of all records
of an institution: nothing of it is private, and under privacy it is refused
(``client=private_newton`` is the private counterpart).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from confide.config.outcomes.outcome import DEFAULT_OUTCOME
from confide.errors import ConfigError
from confide.protocol.tensors import Shapes, Tensors, shapes_of
from confide.strategies.algorithm import (
    Algorithm,
    ClientResult,
    ClientRound,
    Records,
    ServerResult,
    ServerRound,
    StepFn,
    TrainFn,
)
from confide.tasks.task import Batch

MOST_PARAMETERS = 2048
"""Of a model, weights and intercepts: their matrix of second derivatives takes 8 MiB to send."""
_ROWS = 4096  # of records whose second derivatives are in memory at a time
_ENOUGH = 1e-4  # share of the decrease that a straight line promises
_ROUNDING = 2.0**-22  # of J, whose means are float32: a smaller fall cannot be seen
_SHORTEST = 2.0**-30


@dataclass(frozen=True, kw_only=True)
class LinearLayer:
    """A linear model by the shapes of its tensors: weights [c, d] and intercepts [c].

    As one vector, parameters are those of the first output, d weights and the intercept, then those
    of the next.

    Attributes:
        weight: name of the weights.
        bias: name of the intercepts.
        outputs: c.
        inputs: d.
    """

    weight: str
    bias: str
    outputs: int
    inputs: int

    @classmethod
    def of(cls, shapes: Shapes, *, most: int | None = MOST_PARAMETERS) -> "LinearLayer":
        """Find it in a model's shapes.

        Args:
            shapes: of the trainable tensors.
            most: largest number of parameters; None for any.

        Raises:
            ConfigError: if the model is no linear layer, or too large for second derivatives.
        """
        matrices = [name for name, shape in shapes.items() if len(shape) == 2]
        vectors = [name for name, shape in shapes.items() if len(shape) == 1]
        if len(shapes) != 2 or len(matrices) != 1 or len(vectors) != 1:
            raise ConfigError(
                f"Expected one linear layer with intercepts; got tensors {', '.join(shapes)}. Set"
                " backbone=logistic or tuning=head, or choose another strategy."
            )
        outputs, inputs = shapes[matrices[0]]
        found = cls(weight=matrices[0], bias=vectors[0], outputs=outputs, inputs=inputs)
        if most is not None and found.size > most:
            raise ConfigError(
                f"strategy.objective.kind=newton: {outputs} outputs of {inputs} weights and an"
                f" intercept are {found.size} parameters, and their second derivatives are sent for"
                f" at most {most}; lower task.numeric.bins, or choose"
                " strategy=gradient_sum."
            )
        return found

    @property
    def size(self) -> int:
        """Number of parameters p = c (d + 1)."""
        return self.outputs * (self.inputs + 1)

    @property
    def num_pairs(self) -> int:
        """Number of second derivatives, each pair of parameters once."""
        return self.size * (self.size + 1) // 2

    def flat(self, tensors: Tensors) -> Tensor:
        """Return a model's tensors as one vector, float64 of shape [p]."""
        rows = torch.cat([tensors[self.weight], tensors[self.bias][:, None]], dim=1)
        return rows.double().flatten()

    def named(self, flat: Tensor) -> Tensors:
        """Undo :meth:`flat`, rounded to float32."""
        rows = flat.view(self.outputs, self.inputs + 1).float()
        return {self.weight: rows[:, :-1].clone(), self.bias: rows[:, -1].clone()}


def newton(*, ridge: float, tolerance: float) -> Algorithm:
    """Build exact Newton steps.

    Args:
        ridge: weight of |weights|^2 / 2 beside the sum of losses, > 0.
        tolerance: decrement, in units of the summed loss, whose step is the last.
    """

    def server(given: ServerRound, step: StepFn) -> ServerResult:
        layer = LinearLayer.of(shapes_of(given.params))
        before, at = _Search.of(given.state), layer.flat(given.params)
        examples = _accepted(given)
        ridges = _ridges(layer, ridge, given) / examples
        gradient = given.extra["rest"].double() - layer.flat(given.update) + ridges * at
        objective = float(given.extra["loss"].double() + (ridges * at).dot(at) / 2)
        # Others than before have another loss: nothing to compare with
        if examples == before.examples and not before.is_enough(objective):
            search = before.halved()
        else:
            hessian = _unpacked(given.extra["hessian"].double(), layer.size)
            direction = _solved(hessian + torch.diag(ridges), -gradient, layer, given)
            decrement = -float(gradient.dot(direction))
            search = _Search(
                point=at,
                direction=direction,
                objective=objective,
                decrement=decrement,
                examples=examples,
                finished=decrement * examples <= tolerance,
            )
        moved = search.point + search.step * search.direction - at
        return replace(step(layer.named(moved)), state=search.state)

    def first_state(params: Tensors) -> Tensors:
        # Before anybody is asked: a model that is too large is refused here
        nothing = torch.zeros(LinearLayer.of(shapes_of(params)).size, dtype=torch.float64)
        return _Search(point=nothing, direction=nothing.clone(), examples=0).state

    return Algorithm(
        client=_client,
        server=server,
        first_state=first_state,
        returned_shapes=_returned_shapes,
        finished_fn=lambda state: _Search.of(state).finished,
    )


# The client part


def _client(given: ClientRound, train: TrainFn) -> ClientResult:
    """Send sums over all records, and minus the mean gradient as the update."""
    if given.records is None:
        raise ValueError("Expected the training records, which an institution has at hand.")
    layer = LinearLayer.of(shapes_of(given.params))
    total = _Sums.none(layer.size)
    for part in _parts(given.records, layer, given.params):
        total = total.plus(part)
    mean = total.over(len(given.records.examples))
    gradient = layer.named(mean.gradient)
    return ClientResult(
        update={name: -gradient[name] for name in given.params},
        extra={
            "rest": (mean.gradient - layer.flat(gradient)).float(),
            "hessian": _packed(mean.hessian).float(),
            "loss": mean.loss.float()[None],
        },
    )


def _returned_shapes(shapes: Shapes) -> Shapes:
    layer = LinearLayer.of(shapes)
    return {"rest": (layer.size,), "hessian": (layer.num_pairs,), "loss": (1,)}


@dataclass(frozen=True)
class _Sums:
    """Over some records, float64: the loss, its gradient [p] and its Hessian [p, p]."""

    loss: Tensor
    gradient: Tensor
    hessian: Tensor

    @classmethod
    def none(cls, size: int) -> "_Sums":
        shapes = ((), (size,), (size, size))
        return cls(*(torch.zeros(shape, dtype=torch.float64) for shape in shapes))

    def plus(self, other: "_Sums") -> "_Sums":
        return _Sums(
            self.loss + other.loss, self.gradient + other.gradient, self.hessian + other.hessian
        )

    def over(self, count: int) -> "_Sums":
        return _Sums(self.loss / count, self.gradient / count, self.hessian / count)


def _parts(records: Records, layer: LinearLayer, params: Tensors) -> Iterator[_Sums]:
    """Yield the sums of all records, some thousand at a time."""
    inputs_fn = _inputs_of(records)
    rows = layer.flat(params).view(layer.outputs, layer.inputs + 1)
    for places in torch.arange(len(records.examples)).split(_ROWS):
        batch = records.examples.take(places)
        inputs = inputs_fn(batch).double().cpu()
        # The intercept is a weight of an input that is always 1
        yield _derivatives(
            torch.cat([inputs, torch.ones((len(inputs), 1), dtype=torch.float64)], dim=1),
            rows,
            lambda outputs, batch=batch: records.losses_fn(  # type: ignore[misc]
                outputs, {name: column.cpu() for name, column in batch.items()}
            ),
        )


def _derivatives(inputs: Tensor, rows: Tensor, losses_fn: Callable[[Tensor], Tensor]) -> _Sums:
    """Return the sums of a few records.

    Args:
        inputs: with the intercept's 1, shape [b, d + 1].
        rows: parameters, shape [c, d + 1].
        losses_fn: outputs [b, c] -> losses [b], each of its own row.
    """
    outputs = (inputs @ rows.T).requires_grad_()
    losses = losses_fn(outputs)
    (slopes,) = torch.autograd.grad(losses.sum(), outputs, create_graph=True)
    count, width = rows.shape
    hessian = torch.zeros((count, width, count, width), dtype=torch.float64)
    for k in range(count):
        curvatures = torch.zeros_like(outputs)
        if slopes.requires_grad:  # of a loss that is bent nowhere it does not depend on outputs
            (curvatures,) = torch.autograd.grad(
                slopes[:, k].sum(), outputs, retain_graph=True, materialize_grads=True
            )
        for j in range(k, count):
            block = (inputs * curvatures[:, j : j + 1]).T @ inputs
            hessian[k, :, j], hessian[j, :, k] = block, block.T
    size = count * width
    gradient = (slopes.detach().T @ inputs).flatten()
    return _Sums(losses.detach().sum(), gradient, hessian.view(size, size))


def _inputs_of(records: Records) -> Callable[[Batch], Tensor]:
    """Return a function: batch -> what goes into the one layer that is trained, shape [b, d]."""
    trained = [
        layer
        for layer in records.model.modules()
        if isinstance(layer, nn.Linear) and layer.weight.requires_grad
    ]

    def inputs_of(batch: Batch) -> Tensor:
        caught: list[Tensor] = []
        handle = trained[0].register_forward_pre_hook(lambda _, args: caught.append(args[0]))
        try:
            with torch.no_grad():
                records.outputs_fn(batch)
        finally:
            handle.remove()
        return caught[0]

    return inputs_of


def _packed(symmetric: Tensor) -> Tensor:
    """Return each pair of a symmetric matrix [p, p] once, shape [p (p + 1) / 2]."""
    rows, columns = torch.triu_indices(*symmetric.shape)
    return symmetric[rows, columns]


def _unpacked(pairs: Tensor, size: int) -> Tensor:
    """Undo :func:`_packed`."""
    rows, columns = torch.triu_indices(size, size)
    symmetric = torch.zeros((size, size), dtype=pairs.dtype)
    symmetric[rows, columns] = pairs
    symmetric[columns, rows] = pairs
    return symmetric


# The server part


@dataclass(frozen=True, kw_only=True)
class _Search:
    """A line search: where it begins, where it goes, and how far it is.

    Attributes:
        point: parameters at which the direction was found, float64 of shape [p].
        direction: Newton's, shape [p].
        objective: J / n at the point; infinite before the first round.
        decrement: how much J / n falls along the direction at first, >= 0.
        step: t, in (0, 1].
        examples: n, of those whose records the objective is of.
        finished: whether this step is the last.
    """

    point: Tensor
    direction: Tensor
    objective: float = math.inf
    decrement: float = 0.0
    step: float = 1.0
    examples: int
    finished: bool = False

    @classmethod
    def of(cls, state: Tensors) -> "_Search":
        """Read it from an algorithm's state."""
        objective, decrement, step, examples, finished = state["figures"].tolist()
        return cls(
            point=state["point"],
            direction=state["direction"],
            objective=objective,
            decrement=decrement,
            step=step,
            examples=int(examples),
            finished=bool(finished),
        )

    @property
    def state(self) -> Tensors:
        """It as an algorithm's state."""
        figures = (self.objective, self.decrement, self.step, self.examples, self.finished)
        return {
            "point": self.point,
            "direction": self.direction,
            "figures": torch.tensor(figures, dtype=torch.float64),
        }

    def is_enough(self, objective: float) -> bool:
        """Say whether J fell enough at the end of the step; not where it is not a number."""
        rounding = _ROUNDING * max(1.0, abs(self.objective))
        return objective <= self.objective - _ENOUGH * self.step * self.decrement + rounding

    def halved(self) -> "_Search":
        """Return the same search with half of the step, which is the last where it is tiny."""
        step = self.step / 2
        return replace(self, step=step, finished=step < _SHORTEST)


def _accepted(given: ServerRound) -> int:
    """Return the number of records of those whose sums came."""
    asked = zip(given.participation.asked, given.cohort, strict=True)
    return sum(count for name, count in asked if name in given.participation.accepted)


def _ridges(layer: LinearLayer, ridge: float, given: ServerRound) -> Tensor:
    """Return each parameter's ridge, shape [p]: none for intercepts."""
    # Two logits say what one does that is their difference: its weights, twice those of each, have
    # the ridge that libraries with one logit give
    is_pair = layer.outputs == 2 and _is_softmax(given)
    rows = torch.full((layer.outputs, layer.inputs + 1), 2 * ridge if is_pair else ridge)
    rows[:, -1] = 0.0
    return rows.double().flatten()


def _is_softmax(given: ServerRound) -> bool:
    """Say whether adding one number to all outputs changes nothing."""
    return given.plan is None or given.plan.task.outcome.kind == DEFAULT_OUTCOME


def _solved(matrix: Tensor, right: Tensor, layer: LinearLayer, given: ServerRound) -> Tensor:
    """Solve for a direction by Cholesky's factors."""
    if _is_softmax(given):
        # Intercepts that grow together change no prediction, and nothing else bounds them
        intercepts = torch.arange(1, layer.outputs + 1) * (layer.inputs + 1) - 1
        matrix[intercepts[:, None], intercepts] += 1.0
    # Rounding of many records' sums, or a loss that is bent nowhere, may leave it singular
    least, added = 1e-7 * max(1e-9, float(matrix.abs().max())), 0.0
    while True:
        factor, failed = torch.linalg.cholesky_ex(matrix + added * torch.eye(len(matrix)))
        if not int(failed):
            return torch.cholesky_solve(right[:, None], factor)[:, 0]
        added = max(2 * added, least)


__all__ = ["MOST_PARAMETERS", "LinearLayer", "newton"]
