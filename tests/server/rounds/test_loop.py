import contextlib
import functools
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedMedian

from confide.config.compose import compose
from confide.config.server import ServerConfig
from confide.errors import ConfigError, RunFailedError, StorageError
from confide.flower.messages import task_identity
from confide.protocol.messages import (
    Evaluation,
    Reply,
    Request,
    pack_reply,
    unpack_reply,
    unpack_request,
)
from confide.protocol.plan import TrainingPlan, make_plan
from confide.protocol.tensors import Tensors, decode, encode, sha256, shapes_of
from confide.server.rounds.checkpoint import Checkpoint, CheckpointStore
from confide.server.rounds.loop import RoundLoop
from confide.server.rounds.outcome import CommitFn, Observer, Outcome
from confide.server.rounds.partial_sums import CollectedSum, SumOrder
from confide.server.rounds.participants import accept
from confide.server.rounds.state import RoundRecord, RunState, mean_metric
from confide.simulations.engines.inline import InlineGrid
from confide.strategies.aggregators import FixedPointMean
from confide.strategies.fedavg import fedavg, fedavgm
from confide.strategies.feddyn import feddyn
from confide.strategies.fedopt import fedadam
from confide.strategies.flower_adapter import FlowerStrategy
from confide.strategies.selection import SelectUniform
from confide.strategies.strategy import Accumulator, FederatedAlgorithm

SECRET = bytes(32)
START: Tensors = {"w": torch.zeros(2)}
Update = Callable[[Tensors, int], Tensors]
Score = Callable[[Tensors], dict[str, float]]
Answer = Reply | RecordDict | Error
Tamper = Callable[[Reply], Answer]


@pytest.fixture(autouse=True)
def _identity() -> Iterator[None]:
    with task_identity():
        yield


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
    asked: list[tuple[str, Request]] = field(default_factory=list)

    def answer(self, kind: str, request: Request) -> Answer:
        self.asked.append((kind, request))
        if kind == "query":
            return self.tamper_query(Reply(institution=self.name, num_examples=self.num_examples))
        assert request.arrays is not None
        tensors = decode(request.arrays, {"w": (2,)}, max_value=1e6)
        splits = ["validation"] if kind == "train" else list(request.splits)
        scores = (
            {split: {**self.score(tensors), "num_examples": 4} for split in splits}
            if self.score
            else {}
        )
        reply = Reply(institution=self.name, num_examples=self.num_examples, evaluations=scores)
        if kind == "evaluate":
            return reply
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


def make_loop(
    metric: str = "log_loss", observers: Sequence[Listener] = (), **settings: Any
) -> RoundLoop:
    return RoundLoop(
        fedavg(),
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
    loop: RoundLoop | None = None,
) -> Outcome:
    loop = loop or make_loop()
    loop.start(
        grid or InlineGrid(make_app(fakes), nodes(fakes)),
        encode(START),
        num_rounds=rounds,
        timeout=timeout,
    )
    assert loop.outcome is not None
    return loop.outcome


def nodes(fakes: Sequence[Fake]) -> list[int]:
    return list(range(1, len(fakes) + 1))


def end(outcome: Outcome) -> list[float]:
    values: list[float] = outcome.state.params["w"].tolist()
    return values


def last(outcome: Outcome) -> RoundRecord:
    return outcome.state.history[-1]


# What a run computes


def test_two_rounds_of_fedavg_by_hand() -> None:
    # Round 1: updates 1 and 3, mean (1 * 1 + 3 * 3) / 4 = 2.5. Round 2: -0.25 and 1.75, mean 1.25.
    outcome = run([Fake("a", 1, halfway_to(2.0)), Fake("b", 3, halfway_to(6.0))])
    assert end(outcome) == [3.75, 3.75]
    assert outcome.state.server_round == 2
    assert outcome.clients == {"a": 1, "b": 3}
    assert [record.accepted for record in outcome.state.history] == [("a", "b"), ("a", "b")]


@pytest.mark.parametrize("seed", range(5))
def test_order_of_arrival_does_not_change_a_bit(seed: int) -> None:
    def noisy(scale: float) -> Update:
        return lambda tensors, r: {
            "w": torch.tensor([math.sin(scale * r), math.cos(scale + r)]) + tensors["w"] / 3
        }

    fakes = [Fake(f"bank-{n}", n, noisy(n / 7)) for n in range(1, 6)]
    shuffled = ShuffledGrid(make_app(fakes), nodes(fakes), seed=seed)
    expected = run(fakes, rounds=3).state
    state = run(fakes, rounds=3, grid=shuffled).state
    assert sha256(state.params) == sha256(expected.params)
    assert [r.accepted for r in state.history] == [r.accepted for r in expected.history]


def test_start_returns_the_final_tensors() -> None:
    fakes = [Fake("a")]
    result = make_loop().start(InlineGrid(make_app(fakes), [1]), encode(START), num_rounds=3)
    assert result.arrays.to_numpy_ndarrays()[0].tolist() == [3.0, 3.0]


def test_everyone_is_sent_the_plan_the_round_and_the_tensors() -> None:
    fake = Fake("a")
    run([fake], rounds=2)
    kinds = [(kind, request.server_round, tuple(request.splits)) for kind, request in fake.asked]
    assert kinds == [
        ("query", 0, ()),
        ("train", 1, ()),
        ("train", 2, ()),
        ("evaluate", 0, ("validation", "test")),
    ]
    assert all(request.plan == plan().to_json() for _, request in fake.asked)


def test_only_selected_clients_are_asked() -> None:
    fakes = [Fake(name) for name in ("a", "b", "c")]
    algorithm = replace(fedavg(), selection=SelectUniform(clients_per_round=2))
    loop = RoundLoop(algorithm, plan=plan(), settings=ServerConfig(), secret=SECRET)
    outcome = run(fakes, rounds=6, loop=loop)
    trained = Counter(fake.name for fake in fakes for kind, _ in fake.asked if kind == "train")
    assert [len(record.accepted) for record in outcome.state.history] == [2] * 6
    assert sum(trained.values()) == 12
    assert trained == Counter(name for record in outcome.state.history for name in record.accepted)


def test_record_counts_bytes_and_keeps_epsilon() -> None:
    fakes = [
        Fake("a", figures={"epsilon": 1.5}),
        Fake("b", tamper=lambda reply: replace(reply, refusal="no")),
    ]
    record = last(run(fakes, rounds=1))
    assert (record.bytes_down, record.bytes_up) == (16, 8)
    assert record.epsilon == {"a": 1.5}
    assert record.server_round == 1


def test_observers_hear_of_start_rounds_and_evaluation() -> None:
    listener = Listener()
    fakes = [Fake("b", 2, score=lambda tensors: {"log_loss": 1.0}), Fake("a", 3)]
    run(fakes, rounds=2, loop=make_loop(observers=[listener]))
    assert list(listener.clients.items()) == [("a", 3), ("b", 2)]
    assert [state.server_round for state in listener.states] == [1, 2]
    assert [(split, r) for split, r, _ in listener.scores] == [("validation", 2), ("test", 2)]
    assert listener.scores[1][2] == {"b": {"log_loss": 1.0, "num_examples": 4}}


# Who is refused


def with_arrays(**tensors: torch.Tensor) -> Tamper:
    return lambda reply: replace(reply, arrays=encode(tensors))


SPOILT: dict[str, tuple[str, Tamper]] = {
    "declines": ("rounds_spent", lambda reply: replace(reply, refusal="rounds_spent", arrays=None)),
    "declines with an update": ("no", lambda reply: replace(reply, refusal="no")),
    "fails": ("error_reply", lambda reply: Error(code=1, reason="a record's text")),
    "nan": ("tensor_values", with_arrays(w=torch.tensor([math.nan, 0.0]))),
    "infinity": ("tensor_values", with_arrays(w=torch.tensor([-math.inf, 0.0]))),
    "huge": ("tensor_values", with_arrays(w=torch.tensor([0.0, -1024.5]))),
    "wrong shape": ("tensor_shape", with_arrays(w=torch.ones(3))),
    "missing tensor": ("tensor_names", with_arrays(v=torch.ones(2))),
    "extra tensor": ("tensor_names", with_arrays(w=torch.ones(2), v=torch.ones(2))),
    "no update": ("tensor_names", lambda reply: replace(reply, arrays=None)),
    "more examples": (
        "num_examples",
        lambda reply: replace(reply, num_examples=reply.num_examples + 1),
    ),
    "fewer examples": (
        "num_examples",
        lambda reply: replace(reply, num_examples=reply.num_examples - 1),
    ),
    "another name": ("institution", lambda reply: replace(reply, institution="good")),
    "no reply record": (
        "invalid_message",
        lambda reply: RecordDict({"reply": ConfigRecord({"x": 1})}),
    ),
    "empty": ("invalid_message", lambda reply: RecordDict()),
}


@pytest.mark.parametrize("how", SPOILT)
def test_spoilt_answer_is_refused_with_its_code_and_the_round_goes_on(how: str) -> None:
    code, tamper = SPOILT[how]
    outcome = run([Fake("good", 2), Fake("spoilt", 7, halfway_to(50.0), tamper=tamper)])
    assert [record.refused for record in outcome.state.history] == [{"spoilt": code}] * 2
    assert [record.accepted for record in outcome.state.history] == [("good",)] * 2
    assert end(outcome) == [2.0, 2.0]


def test_institution_that_is_refused_once_is_asked_again() -> None:
    spoilt = Fake(
        "b", update=lambda tensors, r: {"w": torch.full((2,), math.nan if r == 1 else 3.0)}
    )
    outcome = run([Fake("a"), spoilt])
    assert [record.refused for record in outcome.state.history] == [{"b": "tensor_values"}, {}]
    assert end(outcome) == [3.0, 3.0]  # 1, then the mean of 1 and 3


def test_text_of_an_error_goes_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    fakes = [
        Fake("good"),
        Fake("spoilt", tamper=lambda reply: Error(code=1, reason="a record's text")),
    ]
    run(fakes)
    assert "Node 2 answers with an error, code 1" in caplog.text
    assert "a record's text" not in caplog.text


def test_value_at_the_bound_is_accepted() -> None:
    fakes = [Fake("a", update=lambda tensors, r: {"w": torch.tensor([2.0, -2.0])})]
    assert end(run(fakes, rounds=1, loop=make_loop(max_update_value=2.0))) == [2.0, -2.0]


def test_scores_of_a_refused_update_are_left_out() -> None:
    nan = with_arrays(w=torch.tensor([math.nan, 0.0]))
    fakes = [
        Fake("good", score=lambda t: {"log_loss": 1.0}),
        Fake("spoilt", score=lambda t: {"log_loss": 9.0}, tamper=nan),
    ]
    assert list(last(run(fakes)).validation) == ["good"]


def test_too_few_answers_in_a_round_end_the_run_naming_who() -> None:
    fakes = [Fake("a"), Fake("b", tamper=lambda reply: replace(reply, refusal="privacy"))]
    with pytest.raises(
        RunFailedError,
        match=r"round 1: 1 institutions answered, server\.min_clients=2.*b \(privacy\)",
    ):
        run(fakes, loop=make_loop(min_clients=2))


def test_too_few_at_the_start_end_the_run_naming_who() -> None:
    fakes = [
        Fake("a"),
        Fake("b", tamper_query=lambda reply: replace(reply, refusal="plan_version")),
        Fake("c", num_examples=0),
        Fake("d", tamper_query=lambda reply: Error(code=1, reason="")),
    ]
    words = (
        r"enrol: 1 institutions take part.*node 2, b \(plan_version\), node 3, c \(no_records\),"
        r" node 4 \(error_reply\)"
    )
    with pytest.raises(RunFailedError, match=words):
        run(fakes, loop=make_loop(min_clients=2))


def test_who_declines_at_the_start_is_not_asked_to_train() -> None:
    declines = Fake("b", tamper_query=lambda reply: replace(reply, refusal="privacy"))
    outcome = run([Fake("a"), declines])
    assert outcome.clients == {"a": 1}
    assert [kind for kind, _ in declines.asked] == ["query"]


def test_two_institutions_of_one_name_end_the_run() -> None:
    with pytest.raises(RunFailedError, match="call themselves alike"):
        run([Fake("a"), Fake("a"), Fake("b")])


# Silence


def test_silent_institution_ends_the_round_at_the_timeout() -> None:
    fakes = [Fake("a"), Fake("b", update=halfway_to(100.0))]
    lossy = LossyGrid(make_app(fakes), nodes(fakes), node=2, kind="train")
    outcome = run(fakes, rounds=1, grid=lossy, timeout=0.2)
    assert last(outcome).refused == {"b": "no_reply"}
    assert end(outcome) == [1.0, 1.0]
    assert 0.2 <= last(outcome).seconds < 2.0


def test_round_with_all_answers_does_not_wait_for_the_timeout() -> None:
    assert last(run([Fake("a"), Fake("b")], rounds=1, timeout=600.0)).seconds < 2.0


def test_silence_of_too_many_ends_the_run_naming_who() -> None:
    fakes = [Fake("a"), Fake("b")]
    lossy = LossyGrid(make_app(fakes), nodes(fakes), node=2, kind="train")
    with pytest.raises(RunFailedError, match=r"b \(no_reply\)"):
        run(fakes, grid=lossy, timeout=0.2, loop=make_loop(min_clients=2))


def test_silence_at_the_start_is_named_by_node() -> None:
    fakes = [Fake("a"), Fake("b")]
    lossy = LossyGrid(make_app(fakes), nodes(fakes), node=2, kind="query")
    with pytest.raises(RunFailedError, match=r"node 2 \(no_reply\)"):
        run(fakes, grid=lossy, loop=make_loop(min_clients=2, enrol_timeout_s=0.2))


def test_too_few_connected_institutions_end_the_run_at_the_timeout() -> None:
    with pytest.raises(
        RunFailedError, match=r"1 institutions connected within 0\.1 s, server\.min_clients=3"
    ):
        run([Fake("a")], loop=make_loop(min_clients=3, enrol_timeout_s=0.1))


def test_silence_at_the_last_evaluation_leaves_the_rest() -> None:
    fakes = [Fake(name, score=lambda t: {"log_loss": 1.0}) for name in "ab"]
    lossy = LossyGrid(make_app(fakes), nodes(fakes), node=2, kind="evaluate")
    assert list(run(fakes, grid=lossy, timeout=0.2).test) == ["a"]


def test_second_answer_to_one_question_is_ignored() -> None:
    fakes = [Fake("a", 1), Fake("b", 3, lambda tensors, r: {"w": torch.full((2,), 5.0)})]
    outcome = run(fakes, rounds=1, grid=EchoGrid(make_app(fakes), nodes(fakes)))
    assert end(outcome) == [4.0, 4.0]
    assert last(outcome).accepted == ("a", "b")
    assert last(outcome).refused == {}


# Validation, best model, patience. Tensors are r after round r.


def loss(tensors: Tensors) -> dict[str, float]:
    return {"log_loss": (tensors["w"][0].item() - 2.0) ** 2}


def accuracy(tensors: Tensors) -> dict[str, float]:
    return {"accuracy": 1.0 - (tensors["w"][0].item() - 2.0) ** 2 / 100}


def test_validation_of_a_round_belongs_to_the_tensors_it_began_with() -> None:
    outcome = run([Fake("a", score=loss)], rounds=4)
    assert [record.validation["a"]["log_loss"] for record in outcome.state.history] == [
        4.0,
        1.0,
        0.0,
        1.0,
    ]


@pytest.mark.parametrize(
    ("metric", "score", "value"), [("log_loss", loss, 0.0), ("accuracy", accuracy, 1.0)]
)
def test_best_model_follows_the_metrics_direction(metric: str, score: Score, value: float) -> None:
    best = run([Fake("a", score=score)], rounds=5, loop=make_loop(metric)).state.best
    assert best is not None
    assert (best.server_round, best.value) == (2, value)
    assert best.params["w"].tolist() == [2.0, 2.0]


def test_last_tensors_may_be_the_best() -> None:
    best = run([Fake("a", score=loss)], rounds=2).state.best
    assert best is not None
    assert best.server_round == 2


def test_keep_best_returns_and_tests_the_best_tensors() -> None:
    fake, listener = Fake("a", score=loss), Listener()
    loop = make_loop(keep="best", observers=[listener])
    outcome = run([fake], rounds=4, loop=loop)
    assert loop.kept()["w"].tolist() == [2.0, 2.0]
    assert end(outcome) == [4.0, 4.0]
    assert outcome.test == {"a": {"log_loss": 0.0, "num_examples": 4}}
    assert [(split, r) for split, r, _ in listener.scores] == [("validation", 4), ("test", 2)]


def test_keep_last_returns_and_tests_the_last_tensors() -> None:
    loop = make_loop(keep="last")
    outcome = run([Fake("a", score=loss)], rounds=4, loop=loop)
    assert loop.kept()["w"].tolist() == [4.0, 4.0]
    assert outcome.test == {"a": {"log_loss": 4.0, "num_examples": 4}}


def test_keep_best_without_validation_keeps_the_last() -> None:
    loop = make_loop(keep="best")
    run([Fake("a")], rounds=3, loop=loop)
    assert loop.kept()["w"].tolist() == [3.0, 3.0]


@pytest.mark.parametrize(("patience", "rounds"), [(1, 4), (2, 5)])
def test_run_stops_when_patience_runs_out(patience: int, rounds: int) -> None:
    # Round 3 finds the best, those of round 2; rounds 4 and 5 find worse.
    outcome = run([Fake("a", score=loss)], rounds=10, loop=make_loop(patience=patience))
    assert outcome.stopped_early
    assert outcome.state.server_round == rounds
    assert outcome.state.best is not None
    assert outcome.state.best.server_round == 2


def test_better_score_renews_patience() -> None:
    scores = [5.0, 6.0, 4.0, 5.0, 6.0, 7.0]
    fake = Fake("a", score=lambda tensors: {"log_loss": scores[int(tensors["w"][0])]})
    assert run([fake], rounds=10, loop=make_loop(patience=2)).state.server_round == 5


def test_run_without_patience_goes_on_to_the_end() -> None:
    outcome = run([Fake("a", score=loss)], rounds=10)
    assert not outcome.stopped_early
    assert outcome.state.server_round == 10


def test_nan_is_never_best_and_uses_up_patience() -> None:
    outcome = run(
        [Fake("a", score=lambda t: {"log_loss": math.nan})], rounds=10, loop=make_loop(patience=3)
    )
    assert outcome.state.best is None
    assert outcome.state.server_round == 3


def test_mean_metric_is_weighted_by_support() -> None:
    scores = {
        "b": {"auc": 0.5, "num_examples": 1},
        "a": {"auc": 0.9, "num_examples": 3},
        "c": {"num_examples": 100},
    }
    assert mean_metric(scores, "auc") == pytest.approx(0.8)
    assert mean_metric(scores, "accuracy") is None
    assert mean_metric({"a": {"auc": 0.9, "num_examples": 0}}, "auc") is None


# For those who drive rounds themselves


def test_rounds_can_be_driven_by_flowers_own_methods() -> None:
    fakes, loop = [Fake("a", 1), Fake("b", 3, halfway_to(8.0))], make_loop()
    grid = InlineGrid(make_app(fakes), nodes(fakes))
    loop.start(grid, encode(START), num_rounds=0)
    messages = loop.configure_train(1, encode(START), ConfigRecord(), grid)
    arrays, _ = loop.aggregate_train(1, grid.send_and_receive(messages))
    assert arrays is not None
    assert arrays.to_numpy_ndarrays()[0].tolist() == [3.25, 3.25]
    assert loop.configure_evaluate(1, arrays, ConfigRecord(), grid) == []


# Bugs


def strip_support(reply: Reply) -> Reply:
    return replace(reply, evaluations={"validation": {"log_loss": 1.0}})


def test_score_without_its_support_does_not_end_the_run() -> None:
    outcome = run([Fake("good", score=loss), Fake("spoilt", score=loss, tamper=strip_support)])
    assert "good" in last(outcome).accepted


def test_who_declines_at_the_start_is_named_while_the_run_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    declines = Fake("bank-2", tamper_query=lambda reply: replace(reply, refusal="privacy"))
    outcome = run([Fake("bank-1"), declines])
    assert "bank-2" in caplog.text or any(
        "bank-2" in record.refused for record in outcome.state.history
    )


def test_institution_cannot_be_shut_out_by_a_namesake_that_declines() -> None:
    namesake = Fake("a", tamper_query=lambda reply: replace(reply, refusal="no"))
    with contextlib.suppress(RunFailedError):  # as where both take part
        assert "a" in run([Fake("a"), Fake("b"), namesake]).clients


def test_score_that_is_not_finite_of_one_does_not_hide_the_others() -> None:
    fakes = [Fake("good", score=loss), Fake("spoilt", score=lambda t: {"log_loss": math.nan})]
    best = run(fakes, rounds=3).state.best
    assert best is not None
    assert best.server_round == 2


# Going on from a checkpoint

ALGORITHMS: dict[str, Callable[[], FederatedAlgorithm]] = {
    "fedavg": fedavg,
    "fedavgm": fedavgm,
    "fedadam": fedadam,
    "feddyn": feddyn,
    "two of three": lambda: fedavg(selection=SelectUniform(clients_per_round=2)),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "last": {},
    "best": {"keep": "best"},
    "patience": {"keep": "best", "patience": 1},
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


def resume(
    checkpoint: Checkpoint | None,
    *,
    algorithm: FederatedAlgorithm | None = None,
    fakes: Sequence[Fake] | None = None,
    observers: Sequence[Observer] = (),
    commit_fn: CommitFn | None = None,
    **settings: Any,
) -> Outcome:
    loop = RoundLoop(
        algorithm or fedavg(),
        plan=plan(),
        settings=ServerConfig(**settings),
        secret=SECRET,
        observers=observers,
        commit_fn=commit_fn,
        checkpoint=checkpoint,
    )
    return run(drifters() if fakes is None else fakes, rounds=ROUNDS, loop=loop)


def checkpoints_of(**arguments: Any) -> tuple[Outcome, list[Checkpoint]]:
    made: list[Checkpoint] = []
    return resume(None, commit_fn=made.append, **arguments), made


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


@pytest.mark.parametrize("how", SETTINGS)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_run_resumed_after_any_round_ends_as_the_undisturbed_one(name: str, how: str) -> None:
    undisturbed, made = checkpoints_of(algorithm=ALGORITHMS[name](), **SETTINGS[how])
    assert [checkpoint.state.server_round for checkpoint in made] == list(
        range(len(undisturbed.state.history) + 1)
    )
    for checkpoint in made:
        resumed = resume(checkpoint, algorithm=ALGORITHMS[name](), **SETTINGS[how])
        assert essence(resumed) == essence(undisturbed)


def test_patience_ends_a_resumed_run_where_it_ended_the_undisturbed_one() -> None:
    undisturbed, made = checkpoints_of(patience=1)
    fakes = drifters()
    assert undisturbed.state.server_round < ROUNDS
    assert essence(resume(made[-1], fakes=fakes, patience=1)) == essence(undisturbed)
    assert "train" not in {kind for fake in fakes for kind, _ in fake.asked}


def test_run_resumed_from_the_disk_ends_as_the_undisturbed_one(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, kept=ROUNDS)
    undisturbed = resume(None, algorithm=fedadam(), commit_fn=store.save, keep="best")
    (tmp_path / f"round-{ROUNDS:05}.safetensors").unlink()
    checkpoint = store.latest()
    assert checkpoint is not None
    assert checkpoint.state.server_round == ROUNDS - 1
    assert essence(resume(checkpoint, algorithm=fedadam(), keep="best")) == essence(undisturbed)


def test_resumed_run_asks_for_the_rounds_that_are_left() -> None:
    _, made = checkpoints_of()
    fakes = drifters()
    resume(made[3], fakes=fakes)
    assert [request.server_round for kind, request in fakes[0].asked if kind == "train"] == [4, 5]


def test_institutions_that_declare_other_numbers_than_before_are_named() -> None:
    _, made = checkpoints_of()
    changed = [
        replace(fake, num_examples=fake.num_examples + (fake.name != "b")) for fake in drifters()
    ]
    with pytest.raises(
        RunFailedError, match=r"other numbers.*\(a: 1 then, 2 now; c: 3 then, 4 now\)"
    ):
        resume(made[2], fakes=changed)
    assert "train" not in {kind for fake in changed for kind, _ in fake.asked}


def test_institution_that_is_new_may_join_a_resumed_run() -> None:
    _, made = checkpoints_of()
    outcome = resume(made[2], fakes=[*drifters(), Fake("new", 9)])
    assert outcome.clients["new"] == 9
    assert "new" in last(outcome).accepted


def test_checkpoint_of_another_model_is_refused() -> None:
    _, made = checkpoints_of()
    other = replace(made[2], state=replace(made[2].state, params={"w": torch.zeros(3)}))
    with pytest.raises(StorageError, match="tensors of another model; start the run anew"):
        resume(other)


def test_run_of_one_of_flowers_strategies_cannot_be_resumed() -> None:
    _, made = checkpoints_of()
    fakes = drifters()
    with pytest.raises(
        ConfigError, match="hidden inside Flower's own class, so its run cannot be resumed"
    ):
        resume(made[2], algorithm=median(), fakes=fakes)
    assert [fake.asked for fake in fakes] == [[], [], []]


@dataclass
class Diary:
    """An observer, and a commit, that write what they hear into one list."""

    entries: list[tuple[str, int]] = field(default_factory=list)

    def commit(self, checkpoint: Checkpoint) -> None:
        self.entries.append(("commit", checkpoint.state.server_round))

    def commit_until_full(self, checkpoint: Checkpoint) -> None:
        if checkpoint.state.server_round == 2:
            raise StorageError("The disk is full.")
        self.commit(checkpoint)

    def started(self, clients: Mapping[str, int]) -> None:
        self.entries.append(("started", len(clients)))

    def resumed(self, state: RunState) -> None:
        self.entries.append(("resumed", state.server_round))

    def round_done(self, state: RunState) -> None:
        self.entries.append(("round", state.server_round))

    def evaluated(
        self, split: str, server_round: int, evaluations: Mapping[str, Evaluation]
    ) -> None:
        self.entries.append((split, server_round))


def test_round_is_made_durable_before_anybody_hears_of_it() -> None:
    diary = Diary()
    resume(None, observers=[diary], commit_fn=diary.commit)
    rounds = [(kind, r) for r in range(1, ROUNDS + 1) for kind in ("commit", "round")]
    assert diary.entries == [("started", 3), ("commit", 0), *rounds, ("validation", 5), ("test", 5)]


def test_nobody_hears_of_a_round_that_could_not_be_made_durable() -> None:
    diary = Diary()
    with pytest.raises(StorageError, match="The disk is full"):
        resume(None, observers=[diary], commit_fn=diary.commit_until_full)
    assert diary.entries == [("started", 3), ("commit", 0), ("commit", 1), ("round", 1)]


def test_observers_hear_once_that_a_run_is_resumed() -> None:
    _, made = checkpoints_of()
    diary, listener = Diary(), Listener()
    resume(made[3], observers=[diary, listener])
    assert diary.entries[:3] == [("started", 3), ("resumed", 3), ("round", 4)]
    assert listener.states[0] is made[3].state


def test_run_resumed_before_its_first_round_is_a_new_run_to_observers() -> None:
    _, made = checkpoints_of()
    diary = Diary()
    resume(made[0], observers=[diary])
    assert "resumed" not in dict(diary.entries)


def test_strategy_hears_what_share_of_the_institutions_took_part() -> None:
    # FedDyn's h is a third of the one update that went in, and w that update plus h.
    refuses: Tamper = lambda reply: replace(reply, refusal="no")  # noqa: E731 - typed
    fakes = [Fake("a"), Fake("b", tamper=refuses), Fake("c", tamper=refuses)]
    loop = RoundLoop(feddyn(), plan=plan(), settings=ServerConfig(), secret=SECRET)
    assert end(run(fakes, rounds=1, loop=loop)) == pytest.approx([4 / 3, 4 / 3])


@pytest.mark.parametrize("when", ["enrol", "round 1"])
def test_error_of_too_few_says_when_and_who(when: str) -> None:
    declines: Tamper = lambda reply: replace(reply, refusal="privacy")  # noqa: E731 - typed
    spoilt = Fake("b", tamper_query=declines) if when == "enrol" else Fake("b", tamper=declines)
    with pytest.raises(RunFailedError) as caught:
        run([Fake("a"), spoilt], loop=make_loop(min_clients=2))
    assert caught.value.when == when
    assert caught.value.missing == {"node 2, b" if when == "enrol" else "b": "privacy"}


# Sums made where the updates are


class AddingGrid(InlineGrid):
    """Keeps the sum of a round itself, as worker processes do.

    Replies to train requests hold no tensors.
    """

    def __init__(self, app: ClientApp, node_ids: Sequence[int], *, loses: str = "") -> None:
        super().__init__(app, node_ids)
        self._loses = loses
        self._order: SumOrder | None = None
        self._parts: list[Accumulator] = []
        self.sums = 0

    def begin_sum(self, order: SumOrder) -> None:
        self._order = order
        self._parts = [
            order.rule.aggregator.start(shapes_of(START), order.rule.bounds) for _ in range(2)
        ]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        replies = list(super().pull_messages(message_ids))
        return [
            self._add(reply) if reply.metadata.message_type == "train" else reply
            for reply in replies
        ]

    def _add(self, message: Message) -> Message:
        if self._order is None:
            return message
        reply = unpack_reply(message.content)
        if not reply.refusal and reply.institution != self._loses:
            declared, most = self._order.declared[reply.institution], self._order.max_value
            update = accept(
                reply, reply.institution, declared=declared, shapes=shapes_of(START), max_value=most
            )
            self._parts[message.metadata.src_node_id % 2].add(update)
        message.content = pack_reply(replace(reply, arrays=None))
        return message

    def collect_sum(self, timeout: float) -> CollectedSum:
        self._order = None
        self.sums += 1
        parts = [part for part in self._parts if isinstance(part, FixedPointMean)]
        return CollectedSum(
            total=torch.stack([part.total for part in parts]).sum(0),
            total_weight=sum(part.total_weight for part in parts),
            lost={self._loses: "worker_lost"} if self._loses else {},
        )


def run_adding(
    fakes: Sequence[Fake], algorithm: FederatedAlgorithm, *, loses: str = "", **settings: Any
) -> Outcome:
    grid = AddingGrid(make_app(fakes), nodes(fakes), loses=loses)
    loop = RoundLoop(algorithm, plan=plan(), settings=ServerConfig(**settings), secret=SECRET)
    outcome = run(fakes, rounds=ROUNDS, grid=grid, loop=loop)
    assert grid.sums == len(outcome.state.history)
    return outcome


@pytest.mark.parametrize("name", ALGORITHMS)
def test_sums_made_elsewhere_give_the_same_bits(name: str) -> None:
    declines = Fake("d", 9, tamper=lambda reply: replace(reply, refusal="no"))
    alone = RoundLoop(ALGORITHMS[name](), plan=plan(), settings=ServerConfig(), secret=SECRET)
    expected = run([*drifters(), declines], rounds=ROUNDS, loop=alone)
    assert essence(run_adding([*drifters(), declines], ALGORITHMS[name]())) == essence(expected)


def test_client_lost_with_its_sum_is_refused_by_name() -> None:
    outcome = run_adding(drifters(), fedavg(), loses="b")
    without = run_adding([fake for fake in drifters() if fake.name != "b"], fedavg())
    assert [record.accepted for record in outcome.state.history] == [("a", "c")] * ROUNDS
    assert [record.refused for record in outcome.state.history] == [{"b": "worker_lost"}] * ROUNDS
    assert sha256(outcome.state.params) == sha256(without.state.params)
    assert last(outcome).bytes_up == 2 * 8
    assert last(outcome).epsilon["b"] == 2 / 3  # spent all the same


def test_client_lost_with_its_sum_counts_as_missing() -> None:
    with pytest.raises(
        RunFailedError, match=r"round 1: 2 institutions answered.*b \(worker_lost\)"
    ):
        run_adding(drifters(), fedavg(), loses="b", min_clients=3)


def test_strategy_that_needs_every_update_is_not_given_a_sum() -> None:
    fakes = drifters()
    grid = AddingGrid(make_app(fakes), nodes(fakes))
    loops = [
        RoundLoop(median(), plan=plan(), settings=ServerConfig(), secret=SECRET) for _ in range(2)
    ]
    summing, plain = run(fakes, grid=grid, loop=loops[0]), run(fakes, loop=loops[1])
    assert grid.sums == 0
    assert essence(summing) == essence(plain)
