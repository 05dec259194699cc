"""Asynchronous strategies by hand: the order of events, and what each answer weighs."""

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from fake_institutions import Fake, Listener, drifters, end, essence, halfway_to
from virtual_runs import at_once, strategy, taking, virtual_run

from confide.errors import RunFailedError
from confide.protocol.messages import Reply
from confide.protocol.tensors import sha256
from confide.server.rounds.checkpoint import Checkpoint, CheckpointStore
from confide.strategies.timings.fedasync import FedAsync
from confide.strategies.timings.fedbuff import FedBuff

pytestmark = pytest.mark.usefixtures("identity")

TIMES = {"a": [1.0], "b": [3.0]}


def a_and_b() -> list[Fake]:
    return [Fake("a", 1, halfway_to(2.0)), Fake("b", 1, halfway_to(6.0))]


def test_two_steps_of_fedbuff_by_hand(tmp_path: Path) -> None:
    # 1 s: a, 1.0. 2 s: a again, from the same tensors, 1.0: step to 1. 3 s: b, asked first, from
    # the tensors before, 3.0 by 1/sqrt(2); a, at the same instant, 0.5: step to (3/sqrt(2) + 0.5)/2
    # further.
    timing = FedBuff(concurrency=2, buffer_size=2)
    outcome = virtual_run(a_and_b(), strategy(timing), taking(tmp_path, TIMES), num_rounds=2)
    assert end(outcome) == pytest.approx([1.0 + (3.0 / math.sqrt(2.0) + 0.5) / 2.0] * 2, abs=1e-6)
    history = outcome.state.history
    assert [record.virtual_s for record in history] == [2.0, 3.0]
    assert [record.accepted for record in history] == [("a", "a"), ("a", "b")]
    assert [record.staleness for record in history] == [(0, 0), (1, 0)]


def test_three_steps_of_fedasync_by_hand(tmp_path: Path) -> None:
    # 1 s: half of a's 1.0: 0.5. 2 s: half of a's 0.75: 0.875. 3 s: b's model is 3, of two steps
    # ago, and weighs 0.5 / 3: 5/6 * 0.875 + 1/6 * 3.
    timing = FedAsync(concurrency=2, mixing=0.5, exponent=1.0)
    outcome = virtual_run(a_and_b(), strategy(timing), taking(tmp_path, TIMES), num_rounds=3)
    assert end(outcome) == pytest.approx([5.0 / 6.0 * 0.875 + 0.5] * 2, abs=1e-6)
    assert [record.staleness for record in outcome.state.history] == [(0,), (0,), (2,)]
    assert [record.virtual_s for record in outcome.state.history] == [1.0, 2.0, 3.0]


def test_a_client_is_asked_for_its_own_next_answer(tmp_path: Path) -> None:
    fakes = a_and_b()
    timing = FedBuff(concurrency=2, buffer_size=2)
    virtual_run(fakes, strategy(timing), taking(tmp_path, TIMES), num_rounds=4)
    for fake in fakes:
        numbers = [request.server_round for kind, request in fake.asked if kind == "train"]
        assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("weighting", ["uniform", "num_examples"])
def test_a_buffer_of_everybody_without_delays_is_fedavg(weighting: str) -> None:
    # Weights of powers of two keep the unit of the sums, so that the last bits agree too
    def fakes() -> list[Fake]:
        return [replace(fake, num_examples=4) for fake in drifters()]

    timing = FedBuff(concurrency=3, buffer_size=3)
    rounds = virtual_run(fakes(), strategy(weighting=weighting), None, num_rounds=5)
    buffers = virtual_run(fakes(), strategy(timing, weighting=weighting), at_once(), num_rounds=5)
    assert sha256(buffers.state.params) == sha256(rounds.state.params)
    assert [record.accepted for record in buffers.state.history] == [("a", "b", "c")] * 5


def test_fedasync_of_one_client_with_mixing_one_is_fedavg() -> None:
    timing = FedAsync(concurrency=1, mixing=1.0)
    alone = virtual_run(drifters()[:1], strategy(timing), at_once(), num_rounds=4)
    rounds = virtual_run(drifters()[:1], strategy(), None, num_rounds=4)
    assert sha256(alone.state.params) == sha256(rounds.state.params)


def test_as_many_compute_at_a_time_as_may(tmp_path: Path) -> None:
    times = {name: [1.0, 2.0, 4.0] for name in "abc"}
    listener = Listener()
    timing = FedBuff(concurrency=2, buffer_size=2)
    virtual_run(
        drifters(),
        strategy(timing),
        taking(tmp_path, times),
        num_rounds=4,
        observers=[listener],
    )
    flights = [state.flight for state in listener.states]
    assert all(flight is not None and len(flight.waiting) <= 2 for flight in flights)


def test_a_lost_answer_frees_its_place(tmp_path: Path) -> None:
    timing = FedBuff(concurrency=2, buffer_size=2)
    delays = taking(tmp_path, TIMES, dropout=0.5)
    outcome = virtual_run(a_and_b(), strategy(timing), delays, num_rounds=6)
    assert outcome.state.server_round == 6
    assert any("no_reply" in record.refused.values() for record in outcome.state.history)


@pytest.mark.parametrize(("charges", "computed"), [(True, True), (False, False)])
def test_a_lost_answer_is_computed_where_it_is_charged(
    tmp_path: Path, charges: bool, computed: bool
) -> None:
    # b takes longer than anybody is waited for
    fakes = a_and_b()
    timing = FedBuff(concurrency=2, buffer_size=2)
    delays = taking(tmp_path, TIMES, deadline_s=2.0)
    virtual_run(fakes, strategy(timing), delays, charges=charges, num_rounds=2)
    assert any(kind == "train" for kind, _ in fakes[1].asked) == computed


def test_a_refusal_takes_no_place_in_a_buffer(tmp_path: Path) -> None:
    refusing = Fake("b", tamper=lambda reply: Reply(institution="b", refusal="privacy"))
    timing = FedBuff(concurrency=2, buffer_size=2)
    outcome = virtual_run(
        [Fake("a"), refusing], strategy(timing), taking(tmp_path, TIMES), num_rounds=4
    )
    accepted = Counter(name for record in outcome.state.history for name in record.accepted)
    assert accepted == {"a": 8}


def test_nobody_gives_more_answers_than_its_noise_is_calibrated_for(tmp_path: Path) -> None:
    fakes = a_and_b()
    timing = FedBuff(concurrency=2, buffer_size=2)
    outcome = virtual_run(fakes, strategy(timing), taking(tmp_path, TIMES), most=3, num_rounds=9)
    for fake in fakes:
        assert len([kind for kind, _ in fake.asked if kind == "train"]) == 3
    assert outcome.state.server_round == 3
    assert outcome.stopped_early


def test_a_first_step_that_cannot_be_filled_ends_the_run(tmp_path: Path) -> None:
    timing = FedBuff(concurrency=2, buffer_size=7)
    with pytest.raises(RunFailedError, match="round 1: 6 institutions answered"):
        virtual_run(a_and_b(), strategy(timing), taking(tmp_path, TIMES), most=3, num_rounds=9)


@pytest.mark.parametrize(
    "timing", [FedBuff(concurrency=3, buffer_size=2), FedAsync(concurrency=3, mixing=0.6)]
)
@pytest.mark.parametrize("after", [1, 4])
def test_a_resumed_run_is_the_undisturbed_one(
    tmp_path: Path, timing: FedBuff | FedAsync, after: int
) -> None:
    times = {"a": [1.0, 2.0], "b": [3.5], "c": [0.7, 9.0]}
    delays = taking(tmp_path, times, jitter=0.3, dropout=0.1)
    whole = Listener()
    expected = virtual_run(drifters(), strategy(timing), delays, num_rounds=7, observers=[whole])
    stood = CheckpointStore(tmp_path / "checkpoints", kept=1)
    stood.save(Checkpoint(state=whole.states[after - 1], clients=expected.clients))
    again = virtual_run(
        drifters(), strategy(timing), delays, num_rounds=7, checkpoint=stood.latest()
    )
    assert essence(again) == essence(expected)
    assert any(sum(record.staleness) for record in expected.state.history)
