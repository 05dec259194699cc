"""Rounds: what they compute, who is asked, and which answers are refused."""

import contextlib
import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from fake_institutions import (
    START,
    EchoGrid,
    Fake,
    Listener,
    LossyGrid,
    ShuffledGrid,
    Tamper,
    Update,
    drifters,
    end,
    halfway_to,
    last,
    loss,
    make_app,
    make_job,
    nodes,
    plan,
    run,
)
from flwr.app import ConfigRecord, Error, RecordDict
from flwr.serverapp.strategy import Strategy as FlowerBase
from small_strategies import compose_strategy

from confide.errors import RunFailedError
from confide.protocol.messages import (
    Reply,
)
from confide.protocol.tensors import decode, encode, sha256, shapes_of
from confide.server.app import RoundStrategy
from confide.server.rounds.enrolment import too_few
from confide.simulations.engines.inline import InlineGrid
from confide.strategies.algorithms.fedavg import fedavg
from confide.strategies.selections.uniform import SelectUniform

pytestmark = pytest.mark.usefixtures("identity")


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
    result = RoundStrategy(make_job()).start(
        InlineGrid(make_app(fakes), [1]), encode(START), num_rounds=3
    )
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
    job = make_job(algorithm=algorithm)
    outcome = run(fakes, rounds=6, job=job)
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
    run(fakes, rounds=2, job=make_job(observers=[listener]))
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
    assert end(run(fakes, rounds=1, job=make_job(max_update_value=2.0))) == [2.0, -2.0]


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
        run(fakes, job=make_job(min_clients=2))


def test_of_many_who_are_missing_some_are_named() -> None:
    missing = {f"site-{number:03}": "no_reply" for number in range(1000)}
    with pytest.raises(RunFailedError) as caught:
        too_few("round 3", got=0, least=1, missing=missing)
    text = str(caught.value)
    assert "site-000 (no_reply)" in text
    assert "and 980 more" in text
    assert len(text) < 1000


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
        run(fakes, job=make_job(min_clients=2))


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
        run(fakes, grid=lossy, timeout=0.2, job=make_job(min_clients=2))


def test_silence_at_the_start_is_named_by_node() -> None:
    fakes = [Fake("a"), Fake("b")]
    lossy = LossyGrid(make_app(fakes), nodes(fakes), node=2, kind="query")
    with pytest.raises(RunFailedError, match=r"node 2 \(no_reply\)"):
        run(fakes, grid=lossy, job=make_job(min_clients=2, enrol_timeout_s=0.2))


def test_too_few_connected_institutions_end_the_run_at_the_timeout() -> None:
    with pytest.raises(
        RunFailedError, match=r"1 institutions connected within 0\.1 s, server\.min_clients=3"
    ):
        run([Fake("a")], job=make_job(min_clients=3, enrol_timeout_s=0.1))


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


# For those who drive rounds themselves


def test_rounds_can_be_driven_by_flowers_own_methods() -> None:
    fakes, strategy = [Fake("a", 1), Fake("b", 3, halfway_to(8.0))], RoundStrategy(make_job())
    grid = InlineGrid(make_app(fakes), nodes(fakes))
    messages = strategy.configure_train(1, encode(START), ConfigRecord(), grid)
    arrays, _ = strategy.aggregate_train(1, grid.send_and_receive(messages))
    assert arrays is not None
    assert arrays.to_numpy_ndarrays()[0].tolist() == [3.25, 3.25]
    assert strategy.configure_evaluate(1, arrays, ConfigRecord(), grid) == []


def test_flowers_own_start_gives_the_same_bits() -> None:
    fakes = drifters()
    grid = InlineGrid(make_app(fakes), nodes(fakes))
    strategy = RoundStrategy(make_job(algorithm=compose_strategy("strategy=fedadam")))
    result = FlowerBase.start(strategy, grid, encode(START), num_rounds=3)
    ours = run(drifters(), rounds=3, job=make_job(algorithm=compose_strategy("strategy=fedadam")))
    driven = decode(result.arrays, shapes_of(START), max_value=1e6).tensors
    assert sha256(driven) == sha256(ours.state.params)


def test_aggregating_before_anybody_was_asked_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="Expected configure_train before"):
        RoundStrategy(make_job()).aggregate_train(1, [])


# One institution cannot hide the others


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


def test_strategy_hears_what_share_of_the_institutions_took_part() -> None:
    # FedDyn's h is a third of the one update that went in, and w that update plus h.
    refuses: Tamper = lambda reply: replace(reply, refusal="no")  # noqa: E731 - typed
    fakes = [Fake("a"), Fake("b", tamper=refuses), Fake("c", tamper=refuses)]
    job = make_job(algorithm=compose_strategy("strategy=feddyn"))
    assert end(run(fakes, rounds=1, job=job)) == pytest.approx([4 / 3, 4 / 3])


@pytest.mark.parametrize("when", ["enrol", "round 1"])
def test_error_of_too_few_says_when_and_who(when: str) -> None:
    declines: Tamper = lambda reply: replace(reply, refusal="privacy")  # noqa: E731 - typed
    spoilt = Fake("b", tamper_query=declines) if when == "enrol" else Fake("b", tamper=declines)
    with pytest.raises(RunFailedError) as caught:
        run([Fake("a"), spoilt], job=make_job(min_clients=2))
    assert caught.value.when == when
    assert caught.value.missing == {"node 2, b" if when == "enrol" else "b": "privacy"}
