"""Institutions that answer as they are told to, grids that fail, and runs of rounds over them."""

import functools
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedMedian
from small_strategies import compose_strategy

from confide.config.composing.compose import compose
from confide.config.server import ServerConfig
from confide.protocol.messages import (
    Evaluation,
    Reply,
    Request,
    pack_reply,
    unpack_request,
)
from confide.protocol.new_plan import make_plan
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors, decode, encode, sha256
from confide.server.rounds.job import Job
from confide.server.rounds.loop import run_rounds
from confide.server.rounds.outcome import Observer, Outcome
from confide.server.rounds.state import RoundRecord, RunState
from confide.simulations.engines.inline import InlineGrid
from confide.strategies.algorithms.fedavg import fedavg
from confide.strategies.flower_adapter import FlowerStrategy
from confide.strategies.selections.uniform import SelectUniform
from confide.strategies.strategy import FederatedAlgorithm

SECRET = bytes(32)
START: Tensors = {"w": torch.zeros(2)}
Update = Callable[[Tensors, int], Tensors]
Score = Callable[[Tensors], dict[str, float]]
Answer = Reply | RecordDict | Error
Tamper = Callable[[Reply], Answer]


def halfway_to(target: float) -> Update:
    return lambda tensors, server_round: {"w": 0.5 * (target - tensors["w"])}


def one_more(tensors: Tensors, server_round: int) -> Tensors:
    return {"w": torch.ones(2)}


def honest(reply: Reply) -> Answer:
    return reply


@dataclass
class Fake:
    """An institution that answers as it is told to."""

    name: str
    num_examples: int = 1
    update: Update = one_more
    score: Score | None = None
    tamper: Tamper = honest
    tamper_query: Tamper = honest
    figures: Mapping[str, float] = field(default_factory=dict)
    epsilon_of_scores: float | None = None
    asked: list[tuple[str, Request]] = field(default_factory=list)

    def answer(self, kind: str, request: Request) -> Answer:
        self.asked.append((kind, request))
        if kind == "query":
            return self.tamper_query(Reply(institution=self.name, num_examples=self.num_examples))
        assert request.arrays is not None
        tensors = decode(request.arrays, {"w": (2,)}, max_value=1e6).tensors
        splits = ["validation"] if kind == "train" else list(request.splits)
        scores = (
            {split: {**self.score(tensors), "num_examples": 4} for split in splits}
            if self.score
            else {}
        )
        reply = Reply(institution=self.name, num_examples=self.num_examples, evaluations=scores)
        if kind == "evaluate":
            cost = self.epsilon_of_scores
            return reply if cost is None else replace(reply, figures={"epsilon": cost})
        update = encode(self.update(tensors, request.server_round))
        return self.tamper(replace(reply, arrays=update, figures=self.figures))


def make_app(fakes: Sequence[Fake]) -> ClientApp:
    app = ClientApp()

    def handler(kind: str) -> Callable[[Message, Context], Message]:
        def handle(message: Message, context: Context) -> Message:
            answer = fakes[context.node_id - 1].answer(kind, unpack_request(message.content))
            return Message(
                pack_reply(answer) if isinstance(answer, Reply) else answer, reply_to=message
            )

        return handle

    app.query()(handler("query"))
    app.train()(handler("train"))
    app.evaluate()(handler("evaluate"))
    return app


class ShuffledGrid(InlineGrid):
    """Brings all replies at once, in an order of its own."""

    def __init__(self, app: ClientApp, node_ids: Sequence[int], *, seed: int) -> None:
        super().__init__(app, node_ids)
        self._order = random.Random(seed)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        replies = [
            reply
            for one in sorted(message_ids)
            for reply in super(ShuffledGrid, self).pull_messages([one])
        ]
        self._order.shuffle(replies)
        return replies


class LossyGrid(InlineGrid):
    """Loses what is sent to one node, of one kind of message."""

    def __init__(self, app: ClientApp, node_ids: Sequence[int], *, node: int, kind: str) -> None:
        super().__init__(app, node_ids)
        self._lost = (node, kind)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        replies = super().pull_messages(message_ids)
        return [
            r for r in replies if (r.metadata.src_node_id, r.metadata.message_type) != self._lost
        ]


class EchoGrid(InlineGrid):
    """Brings every reply twice."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [reply for reply in super().pull_messages(message_ids) for _ in range(2)]


@dataclass
class Listener:
    """An observer that remembers."""

    clients: Mapping[str, int] = field(default_factory=dict)
    states: list[RunState] = field(default_factory=list)
    scores: list[tuple[str, int, Mapping[str, Evaluation]]] = field(default_factory=list)

    def started(self, clients: Mapping[str, int]) -> None:
        self.clients = dict(clients)

    def resumed(self, state: RunState) -> None:
        self.states.append(state)

    def round_done(self, state: RunState) -> None:
        self.states.append(state)

    def evaluated(
        self, split: str, server_round: int, evaluations: Mapping[str, Evaluation]
    ) -> None:
        self.scores.append((split, server_round, evaluations))


@functools.cache
def plan(metric: str = "log_loss") -> TrainingPlan:
    return make_plan(
        compose(["experiment=heart_disease", f"task.primary_metric={metric}"]), backbone_sha256=None
    )


def make_job(
    metric: str = "log_loss",
    algorithm: FederatedAlgorithm | None = None,
    observers: Sequence[Observer] = (),
    **settings: Any,
) -> Job:
    return Job(
        algorithm=algorithm or fedavg(),
        plan=plan(metric),
        settings=ServerConfig(**settings),
        secret=SECRET,
        observers=observers,
    )


def run(
    fakes: Sequence[Fake],
    *,
    rounds: int = 2,
    grid: InlineGrid | None = None,
    timeout: float = 5.0,
    job: Job | None = None,
) -> Outcome:
    job = job or make_job()
    settings = replace(job.settings, num_rounds=rounds, round_timeout_s=timeout)
    return run_rounds(
        replace(job, settings=settings),
        grid or InlineGrid(make_app(fakes), nodes(fakes)),
        START,
    )


def nodes(fakes: Sequence[Fake]) -> list[int]:
    return list(range(1, len(fakes) + 1))


def end(outcome: Outcome) -> list[float]:
    values: list[float] = outcome.state.params["w"].tolist()
    return values


def last(outcome: Outcome) -> RoundRecord:
    return outcome.state.history[-1]


# Validation, best model, patience. Tensors are r after round r.


def loss(tensors: Tensors) -> dict[str, float]:
    return {"log_loss": (tensors["w"][0].item() - 2.0) ** 2}


def accuracy(tensors: Tensors) -> dict[str, float]:
    return {"accuracy": 1.0 - (tensors["w"][0].item() - 2.0) ** 2 / 100}


# Going on from a checkpoint

ALGORITHMS: dict[str, Callable[[], FederatedAlgorithm]] = {
    "fedavg": fedavg,
    "fedavgm": lambda: compose_strategy("strategy=fedavgm"),
    "fedadam": lambda: compose_strategy("strategy=fedadam"),
    "feddyn": lambda: compose_strategy("strategy=feddyn"),
    "two of three": lambda: fedavg(selection=SelectUniform(clients_per_round=2)),
}
ROUNDS = 5


def median() -> FederatedAlgorithm:
    return FlowerStrategy(FedMedian())


def drifting(scale: float) -> Update:
    return lambda tensors, r: {
        "w": torch.tensor([1.0, 0.5]) + (math.sin(scale * r) - tensors["w"]) / 30
    }


def drifters() -> list[Fake]:
    return [
        Fake(name, n, drifting(n / 7), score=loss, figures={"epsilon": n / 3})
        for n, name in enumerate("abc", start=1)
    ]


def essence(outcome: Outcome) -> tuple[object, ...]:
    """Everything but how long it took."""
    state, best = outcome.state, outcome.state.best
    return (
        sha256(state.params),
        sha256(state.strategy_state),
        best and (best.server_round, best.value, sha256(best.params)),
        state.stale_rounds,
        [replace(record, seconds=0.0) for record in state.history],
        outcome.clients,
        outcome.test,
        outcome.stopped_early,
    )
