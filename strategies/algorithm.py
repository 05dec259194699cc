"""What an algorithm is: a client part and a server part, and what goes between them.

The client part trains when it calls ``train``, the server part changes the global tensors when it
calls ``step``; what stands before, between and after those calls is the algorithm. Beside global
tensors and updates, named extra tensors may travel either way, float32 like these and of declared
shapes. They travel in the same record, under names that begin with ``extra/``, so that they are
checked, bounded, aggregated, hashed and stored as the rest of it.

An algorithm whose clients send no update but sums over their records declares the shapes of these
(``sum_shapes``). They are added up to the last bit, and its server part gets the totals.

Under privacy ``train`` returns the noised update and may be called once. A client part sees no
record unless its line in ``confide.config.strategies.algorithms.ALGORITHMS`` says so, and then
privacy is refused. Whatever it keeps or sends is therefore post-processing of updates that are paid
for. One that sees records need not train: its reply may be sums over them, beside an update or in
it.

Sign convention: an update is local minus global.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn, zeros_like

from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import DecodedTensors, Shapes, Tensors, split_prefix
from confide.tasks.task import Batch, Examples

# No parameter of a torch module has a slash in its name.
_EXTRA = "extra/"
FIGURE_UNIT = 1024.0
"""Unit in which single figures travel beside an update, such as a number of steps: bounds on an
update's values and its norm are meant for an update, and should not meet a figure."""
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Step:
    """An optimizer step whose gradient is known and which is not taken yet.

    Attributes:
        params: current tensors, with gradients of the mean loss, noised under privacy.
        start: the tensors that this training began with, in the same order.
        model: the model in training.
        batch: the batch's columns; None unless the algorithm declares that it reads records.
        places: which training records these are, int64 of shape [b]; None where ``batch`` is.
    """

    params: Sequence[nn.Parameter]
    start: Sequence[Tensor]
    model: nn.Module
    batch: Mapping[str, Tensor] | None = None
    places: Tensor | None = None


GradientFn = Callable[[Step], None]
"""Changes each ``param.grad`` in place."""


class TrainFn(Protocol):
    """The round's local steps."""

    def __call__(self, start: Tensors, change_gradient: GradientFn | None = None) -> Tensors:
        """Train from ``start`` and return what was added to it.

        Raises:
            PrivacyError: if it is called a second time under privacy.
        """


Memory = dict[str, Tensor]
"""What a client part finds again in a later round, if its process is still the same: it saves work,
and nothing may depend on it."""


@dataclass(frozen=True, kw_only=True)
class Records:
    """Training records, for a client part whose line says that it reads them; never under privacy.

    Attributes:
        examples: all of the institution's training records, encoded, on the device of the model.
        model: holds the round's global tensors, and is not training.
        outputs_fn: the model's outputs for a batch.
        losses_fn: (outputs, batch) -> loss of each record, shape [b], of the outputs' precision.
        features_fn: what goes into the model's last layer for a batch, float32 of shape [b, d].
        load_fn: puts tensors into the model; the next training puts others there.
        at_once: most records of a batch.
    """

    examples: Examples
    model: nn.Module
    outputs_fn: Callable[[Batch], Tensor]
    losses_fn: Callable[[Tensor, Batch], Tensor]
    features_fn: Callable[[Batch], Tensor]
    load_fn: Callable[[Tensors], object]
    at_once: int

    def batches(self) -> Iterator[Batch]:
        """Yield all records, in order, ``at_once`` at a time."""
        for places in torch.arange(len(self.examples)).split(self.at_once):
            yield self.examples.take(places)


def squared_norm(tensors: Tensors) -> Tensor:
    """Return the squared L2 norm of all values together, added up in float64: shape [1]."""
    flat = torch.cat([value.detach().double().flatten() for value in tensors.values()])
    return flat.square().sum()[None].float()


@dataclass(frozen=True, kw_only=True)
class ClientRound:
    """What a client part knows.

    Attributes:
        params: global tensors.
        extra: extra tensors that the server sends.
        kept: what this institution kept after the round before.
        steps: number of local steps K.
        taken_fn: number of steps that the last training took, where time may have ended it early;
            None: all K.
        learning_rate: of the local steps.
        momentum: of the local optimizer, which starts anew each round.
        square_fn: squared norm of an update, shape [1]; under privacy less what its noise has on
            average.
        place_fn: moves tensors to the device of the training, in the order of ``Step.params``.
        records: training records; None unless the algorithm declares that it reads them.
        server_round: number of the round, from 1.
        memory: of this institution's client part.
    """

    params: Tensors
    extra: Tensors
    kept: Tensors
    steps: int
    learning_rate: float
    place_fn: Callable[[Tensors], list[Tensor]]
    momentum: float = 0.0
    square_fn: Callable[[Tensors], Tensor] = squared_norm
    records: Records | None = None
    server_round: int = 1
    memory: Memory = field(default_factory=dict)
    taken_fn: Callable[[], int] | None = None

    @property
    def steps_taken(self) -> int:
        """Number of steps that the last training took, at most ``steps``."""
        return self.steps if self.taken_fn is None else self.taken_fn()


@dataclass(frozen=True, kw_only=True)
class ClientResult:
    """What a client part makes of a round.

    Attributes:
        update: local minus global, or the algorithm's sums; goes to the coordinator.
        extra: extra tensors that go with it.
        kept: what stays at the institution until its next round.
        steps: number of local steps in it; None: all that were to be taken.
    """

    update: Tensors
    extra: Tensors = field(default_factory=dict)
    kept: Tensors = field(default_factory=dict)
    steps: int | None = None


ClientFn = Callable[[ClientRound, TrainFn], ClientResult]


@dataclass(frozen=True, kw_only=True)
class Participation:
    """Who took part in a round.

    Attributes:
        asked: names of those who were asked.
        accepted: names of those whose updates went in, at least one.
        num_clients: enrolled institutions.
    """

    asked: Sequence[str]
    accepted: Sequence[str]
    num_clients: int

    @property
    def share(self) -> float:
        """Share of all institutions whose updates went in, in (0, 1]."""
        return len(self.accepted) / self.num_clients


@dataclass(frozen=True, kw_only=True)
class ServerRound:
    """What a server part knows.

    Attributes:
        params: global tensors that the round began with.
        update: the aggregated update; of an algorithm of sums their totals, float64 and exact.
        extra: the clients' extra tensors, aggregated by the same rule and weights.
        state: of the algorithm, after the round before.
        participation: who took part.
        cohort: declared numbers of training units of those who were asked.
        server_round: number of the round, from 1.
        plan: what institutions were asked to do; None where nobody needs to know.
        released: what they released before the run, where the algorithm rests on it.
    """

    params: Tensors
    update: Tensors
    extra: Tensors
    state: Tensors
    participation: Participation
    cohort: Sequence[int] = ()
    server_round: int = 1
    plan: TrainingPlan | None = None
    released: Tensors = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ServerResult:
    """What a server part makes of a round.

    Attributes:
        params: new global tensors.
        optimizer_state: of the server optimizer, as ``step`` returns it.
        state: of the algorithm.
    """

    params: Tensors
    optimizer_state: Tensors
    state: Tensors = field(default_factory=dict)


StepFn = Callable[[Tensors], ServerResult]
"""An update -> the server optimizer's step from the round's global tensors."""

ServerFn = Callable[[ServerRound, StepFn], ServerResult]


def local_steps(given: ClientRound, train: TrainFn) -> ClientResult:
    """Train from the global tensors: FedAvg's client part."""
    return ClientResult(update=train(given.params))


def server_step(given: ServerRound, step: StepFn) -> ServerResult:
    """Step by the aggregated update: FedAvg's server part."""
    return step(given.update)


def _nothing(tensors: Tensors) -> Tensors:
    return {}


def _no_shapes(shapes: Shapes) -> Shapes:
    return {}


def _all_shapes(shapes: Shapes) -> Shapes:
    return shapes


def _never(state: Tensors) -> bool:
    return False


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """A federated algorithm; every part that is left out is FedAvg's.

    Attributes:
        client: the client part.
        server: the server part.
        first_kept: from the global tensors, what an institution keeps before its first round; None
            if it never keeps anything.
        first_state: from the global tensors, the server part's state before the first round.
        sent_fn: from the server part's state, the extra tensors that clients are sent.
        sent_shapes: of those, from the model's shapes.
        returned_shapes: shapes of the extra tensors that clients send back.
        predict_with: from global tensors and what an institution keeps, the tensors that this
            institution scores; None for the global ones.
        finished_fn: from the server part's state, whether there is nothing left to do, so that the
            run ends before its last round.
        update_shapes: of an update, from the model's: tensors that no client changes need not be
            in it.
        averaged_fn: from what one client sends, what is averaged beside it by the same weights.
            It need not be linear, so every update has to come by itself; its names are none of the
            client's extra tensors'.
        sum_shapes: from the model's shapes, those of the sums that clients send in place of an
            update; None where they send an update. A sum's values are multiples of 2^-24, at most
            1 in size.
    """

    client: ClientFn = local_steps
    server: ServerFn = server_step
    # None and not empty: an institution without a place for tensors declines what keeps some
    first_kept: Callable[[Tensors], Tensors] | None = None
    first_state: Callable[[Tensors], Tensors] = _nothing
    sent_fn: Callable[[Tensors], Tensors] = _nothing
    sent_shapes: Callable[[Shapes], Shapes] = _no_shapes
    returned_shapes: Callable[[Shapes], Shapes] = _no_shapes
    predict_with: Callable[[Tensors, Tensors], Tensors] | None = None
    finished_fn: Callable[[Tensors], bool] = _never
    update_shapes: Callable[[Shapes], Shapes] = _all_shapes
    averaged_fn: Callable[[Tensors], Tensors] | None = None
    sum_shapes: Callable[[Shapes], Shapes] | None = None

    def request_shapes(self, shapes: Shapes) -> Shapes:
        """Return the shapes of everything that a client is sent, from the model's."""
        return shapes | prefixed(_EXTRA, self.sent_shapes(shapes))

    def reply_shapes(self, shapes: Shapes) -> Shapes:
        """Return the shapes of everything that a client sends back, from the model's."""
        sent = (self.sum_shapes or self.update_shapes)(shapes)
        return sent | prefixed(_EXTRA, self.returned_shapes(shapes))


def zeros_of(tensors: Tensors) -> Tensors:
    """Return zeros of the same names and shapes."""
    return {name: zeros_like(value) for name, value in tensors.items()}


def prefixed(prefix: str, named: Mapping[str, _T]) -> dict[str, _T]:
    """Put a prefix before every name."""
    return {prefix + name: value for name, value in named.items()}


def join_extra(tensors: Tensors, extra: Tensors) -> Tensors:
    """Put extra tensors beside the model's, as they travel."""
    return tensors | prefixed(_EXTRA, extra)


def split_extra(tensors: Tensors) -> tuple[Tensors, Tensors]:
    """Undo :func:`join_extra`."""
    return split_prefix(_EXTRA, tensors)


def split_received(received: DecodedTensors) -> tuple[Tensors, Tensors]:
    """Undo :func:`join_extra`, once for all who are sent the same; nobody changes what it gives."""
    return received.split(_EXTRA)


__all__ = [
    "FIGURE_UNIT",
    "Algorithm",
    "ClientFn",
    "ClientResult",
    "ClientRound",
    "GradientFn",
    "Memory",
    "Participation",
    "Records",
    "ServerFn",
    "ServerResult",
    "ServerRound",
    "Step",
    "StepFn",
    "TrainFn",
    "join_extra",
    "local_steps",
    "prefixed",
    "server_step",
    "split_extra",
    "split_prefix",
    "split_received",
    "squared_norm",
    "zeros_of",
]
