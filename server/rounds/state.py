"""What a run is after a round, and what happened in it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from confide.config.tasks.table import known_metrics
from confide.errors import RunFailedError
from confide.metrics.metric import NOISE, noise_name
from confide.metrics.pooling import FORMS, mean_by_support, pooled_noise
from confide.protocol.masked_sums import OpenedBefore
from confide.protocol.messages import Evaluation
from confide.protocol.tensors import Shapes, Tensors
from confide.server.secure_sums.collector import MaskedSum


@dataclass(frozen=True, kw_only=True)
class RoundRecord:
    """What happened in one round.

    Attributes:
        server_round: from 1.
        accepted: names of the institutions whose updates went in.
        refused: name -> code of those whose did not.
        validation: name -> metrics of the tensors the round *started* from, which are those of
            round ``server_round - 1``; where they left in a masked sum, those of
            :data:`~confide.protocol.masked_sums.EVERYBODY` alone.
        epsilon: name -> privacy spent so far in this run.
        with_peers: name -> what of it who sees sums alone can learn, and how many honest
            institutions that counts on, by the names of these figures.
        bytes_up: size of the updates received.
        bytes_down: size of the tensors sent.
        seconds: wall time.
        set_aside: name -> share of its update that a robust rule set aside, from 0 to 1.
        virtual_s: what a simulation's virtual clock showed at the end of the round, in seconds
            since the run began; None by the real clock.
        staleness: of each accepted update, in the order of arrival, the steps that were taken since
            its client was asked; empty for rounds, in which all are fresh.
        steps: name -> number of local steps in its update, where plans allow for fewer.
        order: names of ``accepted`` in the order of arrival, where ``staleness`` is.
    """

    server_round: int
    accepted: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    validation: Mapping[str, Evaluation] = field(default_factory=dict)
    epsilon: Mapping[str, float] = field(default_factory=dict)
    with_peers: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    bytes_up: int = 0
    bytes_down: int = 0
    seconds: float = 0.0
    set_aside: Mapping[str, float] = field(default_factory=dict)
    virtual_s: float | None = None
    staleness: tuple[int, ...] = ()
    order: tuple[str, ...] = ()
    steps: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best model so far, by the primary metric on validation records.

    Attributes:
        server_round: whose tensors they are; 0 for the initial ones.
        value: the metric, support-weighted mean over institutions.
        params: the tensors.
    """

    server_round: int
    value: float
    params: Tensors


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question to one client, where clients are not asked in rounds.

    Attributes:
        client: its name.
        number: of this client's questions, from 1: the round that it is to the client itself.
        version: steps that had been taken when it was asked, and so the tensors that it was given.
        at: when it was asked, by the run's clock.
    """

    client: str
    number: int
    version: int
    at: float


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A step of which some answers have come, and not all.

    Attributes:
        record: what happened so far; its ``order`` is that of the answers in ``total``.
        asked: whom the step has asked.
        total: sum of the updates by the step's rule, int64 of shape [d]; None before the first.
        total_weight: of the updates in it.
        max_total_weight: the bound that fixes the scale of the sum.
    """

    record: RoundRecord
    asked: tuple[str, ...]
    total: Tensor | None
    total_weight: int
    max_total_weight: int


@dataclass(frozen=True, kw_only=True)
class Flight:
    """Questions that are not answered yet, between two steps.

    Attributes:
        asked: client -> number of questions so far.
        waiting: those without an answer, in the order of asking.
        versions: tensors that they were given, but for those of the last step.
        begun: the next step, where some of its answers have come already.
    """

    asked: Mapping[str, int] = field(default_factory=dict)
    waiting: tuple[Asked, ...] = ()
    versions: Mapping[int, Tensors] = field(default_factory=dict)
    begun: Begun | None = None


@dataclass(frozen=True, kw_only=True)
class Opened:
    """Masked sums that were opened, as far as the next cohort has to be shown them.

    Attributes:
        sums: the newest last.
        unproved: digests of those that too few helped to open.
    """

    sums: tuple[OpenedBefore, ...] = ()
    unproved: frozenset[bytes] = frozenset()

    def plus(self, one: OpenedBefore, *, is_whole: bool) -> "Opened":
        """Return these with one more.

        Args:
            one: the sum.
            is_whole: whether so many gave shares that it was opened.
        """
        unproved = self.unproved if is_whole else self.unproved | {one.digest}
        kept: list[OpenedBefore] = []
        later: set[str] = set()
        # Each institution has to see the newest that it was in, and what it never saw proved
        for known in reversed([*self.sums, one]):
            if known.digest in unproved or not later.issuperset(known.survivors):
                kept.append(known)
            later |= set(known.survivors)
        return Opened(sums=tuple(reversed(kept)), unproved=unproved)


@dataclass(frozen=True, kw_only=True)
class SumUnderWay:
    """A masked sum whose vectors are in, and which is not opened yet.

    Attributes:
        masked: the sum, closed.
        kind: train or evaluate.
        splits: of whose records there are scores in it.
        shapes: of the updates in it; empty where there are none.
        record: what happened so far.
        asked: names of those who were asked.
        num_bytes: size of the tensors sent.
    """

    masked: MaskedSum
    kind: str
    splits: tuple[str, ...]
    shapes: Shapes
    record: RoundRecord
    asked: tuple[str, ...]
    num_bytes: int


@dataclass(frozen=True, kw_only=True)
class RunState:
    """Everything the next round depends on.

    Attributes:
        server_round: rounds done.
        params: global tensors.
        strategy_state: of the server optimizer.
        best: None until something was validated.
        stale_rounds: validated rounds since the best one.
        history: one record a round.
        flight: questions on their way; None where clients are asked in rounds.
        sum: a masked sum that is not opened yet.
        opened: masked sums that were opened before.
        lost_rounds: rounds, of those done, whose masked sum could not be opened.
    """

    server_round: int
    params: Tensors
    strategy_state: Tensors
    best: Best | None = None
    stale_rounds: int = 0
    history: tuple[RoundRecord, ...] = ()
    flight: Flight | None = None
    sum: SumUnderWay | None = None
    opened: Opened = field(default_factory=Opened)
    lost_rounds: int = 0


def mean_metric(evaluations: Mapping[str, Evaluation], name: str) -> float | None:
    """Put one metric of institutions together, in the order of their names.

    By the metric's own rule; a name that no task knows is averaged by support.

    Returns:
        None where no institution reports it.
    """
    known = _weighed(evaluations, name)
    if not known:
        return None
    metric = known_metrics().get(name)
    return mean_by_support(known) if metric is None else metric.pool_fn(known)


def _weighed(
    evaluations: Mapping[str, Evaluation], name: str, part: str | None = None
) -> list[tuple[float, float]]:
    """Return a figure of each institution that reports a metric, and the metric's weight there.

    Args:
        evaluations: institution -> metrics.
        name: of the metric.
        part: name of the figure, 0 where there is none; None: the metric itself.
    """
    # Summed in the order of names: the order of arrival would change the last bits.
    told = [metrics for _, metrics in sorted(evaluations.items()) if name in metrics]
    metric = known_metrics().get(name)
    weight = "num_examples" if metric is None else metric.weighed_by or "num_examples"
    # All by one weight: records and pairs, say, are of different sizes
    if not all(weight in metrics for metrics in told):
        weight = "num_examples"
    figure = name if part is None else part
    return [(metrics.get(figure, 0.0), metrics[weight]) for metrics in told if metrics[weight] > 0]


def mean_noise(evaluations: Mapping[str, Evaluation], name: str) -> float | None:
    """Return how much noise there is in :func:`mean_metric`: its standard deviation.

    Noise of institutions is independent.

    Returns:
        None where nobody's value has any.
    """
    if not any(noise_name(name) in metrics for metrics in evaluations.values()):
        return None
    known = _weighed(evaluations, name, noise_name(name))
    if not known:
        return None
    metric, pooled = known_metrics().get(name), mean_metric(evaluations, name)
    if metric is None or metric.pool_fn is mean_by_support:
        return pooled_noise(known)
    form = FORMS.get(metric.pool_fn)
    if form is None or pooled is None:  # how another rule passes noise on is not known
        return max(noise for noise, _ in known)
    if form.is_total:
        return math.hypot(*(noise for noise, _ in known))
    values = _weighed(evaluations, name)
    spreads = [
        (form.spread(value, noise), weight)
        for (value, weight), (noise, _) in zip(values, known, strict=True)
    ]
    return form.noise(pooled, pooled_noise(spreads))


def mean_metrics(evaluations: Mapping[str, Evaluation]) -> dict[str, float]:
    """Average every metric over institutions, weighted by support.

    ``num_examples`` is the support of all.
    """
    names = sorted(
        {name for metrics in evaluations.values() for name in metrics} - {"num_examples"}
    )
    means = {
        name: mean_noise(evaluations, name.removesuffix(NOISE))
        if name.endswith(NOISE)
        else mean_metric(evaluations, name)
        for name in names
    }
    total = sum(metrics["num_examples"] for metrics in evaluations.values())
    return {
        **{name: value for name, value in means.items() if value is not None},
        "num_examples": total,
    }


def lacks(validation: Mapping[str, Evaluation], metric: str) -> bool:
    """Tell whether institutions report other metrics, and none of them this one.

    So it is where no institution's validation records have what the metric needs, such as both
    classes for an AUC.
    """
    told = {name for scores in validation.values() for name in scores} - {"num_examples"}
    return bool(told) and metric not in told


def update_best(
    state: RunState, server_round: int, validation: Mapping[str, Evaluation], *, metric: str
) -> RunState:
    """Update best model and patience.

    Args:
        state: with the tensors that were scored.
        server_round: whose tensors they are.
        validation: name -> metrics.
        metric: the primary one.
    """
    value = mean_metric(validation, metric)
    if value is None and lacks(validation, metric):
        return state
    if value is None:  # nobody validates, or the model has diverged and its metrics are undefined
        return replace(state, stale_rounds=state.stale_rounds + 1) if validation else state
    best = state.best.value if state.best else None
    if known_metrics()[metric].is_better(value, best):
        return replace(
            state,
            best=Best(server_round=server_round, value=value, params=state.params),
            stale_rounds=0,
        )
    return replace(state, stale_rounds=state.stale_rounds + 1)


def check_finite(params: Tensors, server_round: int) -> None:
    """Refuse a model that is none, before it becomes the one that a run goes on from.

    Raises:
        RunFailedError: if a value is not finite.
    """
    wrong = [name for name, value in params.items() if not bool(value.isfinite().all())]
    if wrong:
        raise RunFailedError(
            f"The step of round {server_round} made values of {wrong[0]} that are not finite; the"
            " model before it is kept. Lower the learning rate, or go on without the institution"
            " whose update was wrong (--without NAME).",
            when=f"round {server_round}",
        )


__all__ = [
    "Asked",
    "Begun",
    "Best",
    "Flight",
    "Opened",
    "RoundRecord",
    "RunState",
    "SumUnderWay",
    "check_finite",
    "lacks",
    "mean_metric",
    "mean_metrics",
    "mean_noise",
    "update_best",
]
