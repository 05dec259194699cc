"""Rounds whose clients are drawn by more than their names."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from fake_institutions import (
    START,
    Fake,
    Listener,
    drifters,
    end,
    essence,
    halfway_to,
    make_app,
    make_job,
    nodes,
    run,
)
from flwr.app import Message
from flwr.serverapp.strategy import Strategy as FlowerBase

from confide.errors import ConfigError, RunFailedError
from confide.protocol.messages import Reply
from confide.protocol.tensors import decode, encode, sha256, shapes_of
from confide.server.app import RoundStrategy
from confide.server.rounds.checkpoint import Checkpoint
from confide.server.rounds.loop import run_rounds
from confide.server.rounds.outcome import Outcome
from confide.simulations.engines.inline import InlineGrid
from confide.strategies.aggregators import WeightedMean
from confide.strategies.algorithms.fedavg import fedavg
from confide.strategies.composed import Strategy
from confide.strategies.selections.available import SelectAvailable
from confide.strategies.selections.poisson import SelectPoisson
from confide.strategies.selections.round_robin import SelectRoundRobin
from confide.strategies.selections.uniform import SelectAll
from confide.strategies.server_optimizers import Sgd
from confide.strategies.strategy import Selection

pytestmark = pytest.mark.usefixtures("identity")

SELECTIONS: dict[str, Selection] = {
    "poisson": SelectPoisson(probability=0.4),
    "poisson, expected": SelectPoisson(probability=0.4, denominator="expected"),
    "available": SelectAvailable(clients_per_round=2),
    "round robin": SelectRoundRobin(clients_per_round=1),
}


def strategy(selection: Selection, momentum: float = 0.0) -> Strategy:
    return Strategy(
        selection=selection,
        aggregator=WeightedMean(weighting="uniform"),
        server_optimizer=Sgd(learning_rate=1.0, momentum=momentum),
    )


def outcome_of(
    selection: Selection, rounds: int = 12, momentum: float = 0.0, **parts: Any
) -> tuple[Outcome, list[Checkpoint]]:
    made: list[Checkpoint] = []
    job = make_job(algorithm=strategy(selection, momentum), **parts)
    outcome = run(drifters(), rounds=rounds, job=replace(job, commit_fn=made.append))
    return outcome, made


def test_a_round_with_nobody_counts_and_leaves_the_model_as_it_is() -> None:
    # Momentum too stands still: without an update there is no step
    outcome, made = outcome_of(SelectPoisson(probability=0.3), momentum=0.9)
    history = outcome.state.history
    empty = [record for record in history if not record.accepted]
    assert [record.server_round for record in history] == list(range(1, 13))
    assert 0 < len(empty) < 12
    after = {one.state.server_round: one.state for one in made}
    for record in empty:
        now, before = after[record.server_round], after[record.server_round - 1]
        assert sha256(now.params) == sha256(before.params)
        assert sha256(now.strategy_state) == sha256(before.strategy_state)
        assert record.bytes_down == record.bytes_up == 0
        assert not record.refused


def test_observers_hear_of_a_round_with_nobody() -> None:
    listener = Listener()
    outcome_of(SelectPoisson(probability=0.01), rounds=3, observers=[listener])
    assert [len(state.history) for state in listener.states] == [1, 2, 3]


def test_with_probability_one_it_is_everybody_to_the_last_bit() -> None:
    everybody, _ = outcome_of(SelectAll())
    for denominator in ("accepted", "expected"):
        drawn, _ = outcome_of(SelectPoisson(probability=1.0, denominator=denominator))
        assert sha256(drawn.state.params) == sha256(everybody.state.params)


def test_an_expected_denominator_by_hand() -> None:
    # Of four with probability 1/2 two are expected. Each answers half of 8 - w: of k accepted the
    # model moves by k / 2 x 4 from 0.
    fakes = [Fake(name, n, halfway_to(8.0)) for n, name in enumerate("abcd", start=1)]
    select = SelectPoisson(probability=0.5, denominator="expected")
    outcome = run(fakes, rounds=1, job=make_job(algorithm=strategy(select)))
    count = len(outcome.state.history[0].accepted)
    assert count not in (0, 2)
    assert end(outcome) == [2.0 * count, 2.0 * count]


def test_flowers_own_rounds_give_the_same_bits() -> None:
    ours, _ = outcome_of(SelectPoisson(probability=0.3), rounds=6)
    fakes, job = drifters(), make_job(algorithm=strategy(SelectPoisson(probability=0.3)))
    grid = InlineGrid(make_app(fakes), nodes(fakes))
    result = FlowerBase.start(RoundStrategy(job), grid, encode(START), num_rounds=6)
    driven = decode(result.arrays, shapes_of(START), max_value=1e6).tensors
    assert sha256(driven) == sha256(ours.state.params)


def test_fewer_than_min_clients_by_chance_do_not_end_a_run_and_long_silence_does() -> None:
    outcome, _ = outcome_of(SelectPoisson(probability=0.3), min_clients=2)
    assert {len(record.accepted) for record in outcome.state.history} >= {0, 1}

    def silent(reply: Reply) -> Reply:
        return replace(reply, refusal="policy", arrays=None)

    fakes = [replace(fake, tamper=silent) for fake in drifters()]
    job = make_job(algorithm=strategy(SelectPoisson(probability=0.3)), min_clients=2)
    made: list[Checkpoint] = []
    with pytest.raises(RunFailedError, match=r"0 institutions answered, server\.min_clients=1"):
        run(fakes, rounds=60, job=replace(job, commit_fn=made.append))
    # That a run fails when one client is drawn would tell that it was: nine such rounds go on
    assert sum(bool(record.refused) for record in made[-1].state.history) == 9


@pytest.mark.parametrize("name", SELECTIONS)
@pytest.mark.parametrize("after", [1, 4, 7])
def test_a_run_that_stopped_goes_on_with_the_same_draws(name: str, after: int) -> None:
    whole, made = outcome_of(SELECTIONS[name])
    found = next(one for one in made if one.state.server_round == after)
    resumed, _ = outcome_of(SELECTIONS[name])
    job = replace(make_job(algorithm=strategy(SELECTIONS[name])), checkpoint=found)
    resumed = run(drifters(), rounds=12, job=job)
    assert essence(resumed) == essence(whole)


def test_rounds_of_a_client_stay_apart_when_another_withdraws() -> None:
    fakes = [Fake(name) for name in "abcdefg"]
    made: list[Checkpoint] = []
    job = make_job(algorithm=fedavg(selection=SelectRoundRobin(clients_per_round=2, separation=3)))
    run(fakes, rounds=4, job=replace(job, commit_fn=made.append))
    gone = made[-1].state.history[0].accepted[0]
    again = replace(job, checkpoint=made[-1], without=frozenset({gone}))
    history = run([fake for fake in fakes if fake.name != gone], rounds=12, job=again).state.history
    assert len(history) == 12
    for number, record in enumerate(history):
        before = {name for one in history[max(0, number - 2) : number] for name in one.accepted}
        assert len(record.accepted) == 2
        assert not before & set(record.accepted)


class SomeConnected(InlineGrid):
    """Lists some of its nodes: at the n-th look those of the n-th entry, at last all of them.

    Attributes:
        looks: nodes of each look after enrolment.
    """

    def __init__(self, fakes: Sequence[Fake], looks: Sequence[Sequence[int]]) -> None:
        super().__init__(make_app(fakes), nodes(fakes))
        self.looks = [nodes(fakes), *map(list, looks)]

    def get_node_ids(self) -> list[int]:
        return self.looks.pop(0) if self.looks else [1, 2, 3]

    def push_messages(self, messages: Any) -> Any:
        self.pushed: list[Message] = list(messages)
        return super().push_messages(self.pushed)


def connected_run(looks: Sequence[Sequence[int]], **settings: Any) -> Outcome:
    job = make_job(
        algorithm=fedavg(selection=SelectAvailable(clients_per_round=2)),
        **{"num_rounds": 2, "round_timeout_s": 5.0, **settings},
    )
    return run_rounds(job, SomeConnected(drifters(), looks), START)


def test_whoever_is_not_connected_is_not_asked() -> None:
    history = connected_run([[1, 3], [2]]).state.history
    assert [record.accepted for record in history] == [("a", "c"), ("b",)]
    assert not any(record.refused for record in history)


def test_a_round_begins_once_enough_are_connected() -> None:
    history = connected_run([[], [3], [2, 3]], num_rounds=1, min_clients=2).state.history
    assert history[0].accepted == ("b", "c")


def test_too_few_connected_by_the_timeout_end_the_run_naming_who() -> None:
    with pytest.raises(
        RunFailedError, match=r"round 1: 1 institutions answered.*a \(not_connected\), c"
    ):
        connected_run([[2]] * 1000, min_clients=2, round_timeout_s=0.05)


def test_too_few_for_a_separation_end_the_run() -> None:
    job = make_job(algorithm=fedavg(selection=SelectRoundRobin(clients_per_round=2, separation=2)))
    with pytest.raises(ConfigError, match=r"separation=2\); lower one"):
        run(drifters(), rounds=2, job=job)
