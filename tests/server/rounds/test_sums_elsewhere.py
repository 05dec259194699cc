"""Sums of updates made where the updates are, as worker processes do."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from fake_institutions import (
    ALGORITHMS,
    ROUNDS,
    START,
    Fake,
    drifters,
    essence,
    last,
    make_app,
    make_job,
    median,
    nodes,
    run,
)
from flwr.app import Message
from flwr.clientapp import ClientApp

from confide.errors import RunFailedError
from confide.protocol.messages import (
    pack_reply,
    unpack_reply,
)
from confide.protocol.tensors import sha256, shapes_of
from confide.server.rounds.collect import Intake, PartialSum, collect
from confide.server.rounds.exchange import Reach
from confide.server.rounds.outcome import Outcome
from confide.server.rounds.participants import accept
from confide.server.rounds.tally import Tally
from confide.simulations.engines.inline import InlineGrid
from confide.strategies.aggregators import FixedPointMean
from confide.strategies.algorithms.fedavg import fedavg
from confide.strategies.strategy import Accumulator, FederatedAlgorithm

pytestmark = pytest.mark.usefixtures("identity")


# Sums made where the updates are


class AddingGrid(InlineGrid):
    """Keeps the sum of a round itself, as worker processes do.

    Replies to train requests hold no tensors.
    """

    def __init__(self, app: ClientApp, node_ids: Sequence[int], *, loses: str = "") -> None:
        super().__init__(app, node_ids)
        self._loses = loses
        self._intake: Intake | None = None
        self._parts: list[Accumulator] = []
        self.sums = 0

    def collect(self, intake: Intake) -> Tally:
        rule = intake.under_way.rule
        if rule is None:
            return super().collect(intake)
        self._intake = intake
        self._parts = [rule.aggregator.start(shapes_of(START), rule.bounds) for _ in range(2)]
        tally = collect(intake, intake.add_unless_summed)
        self._intake = None
        self.sums += 1
        parts = [part for part in self._parts if isinstance(part, FixedPointMean)]
        partial = PartialSum(
            total=torch.stack([part.total for part in parts]).sum(0),
            total_weight=sum(part.total_weight for part in parts),
            lost={self._loses: "worker_lost"} if self._loses else {},
        )
        intake.merge(partial, tally)
        return tally

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        replies = list(super().pull_messages(message_ids))
        return [
            self._add(reply) if reply.metadata.message_type == "train" else reply
            for reply in replies
        ]

    def _add(self, message: Message) -> Message:
        if self._intake is None:
            return message
        reply = unpack_reply(message.content)
        if not reply.refusal and reply.institution != self._loses:
            update = accept(
                reply,
                reply.institution,
                declared=self._intake.declared[reply.institution],
                shapes=self._intake.shapes,
                max_value=self._intake.max_value,
            )
            self._parts[message.metadata.src_node_id % 2].add(update)
        message.content = pack_reply(replace(reply, arrays=None))
        return message


def run_adding(
    fakes: Sequence[Fake], algorithm: FederatedAlgorithm, *, loses: str = "", **settings: Any
) -> Outcome:
    grid = AddingGrid(make_app(fakes), nodes(fakes), loses=loses)
    job = replace(make_job(algorithm=algorithm, **settings), reach=Reach(collect_fn=grid.collect))
    outcome = run(fakes, rounds=ROUNDS, grid=grid, job=job)
    assert grid.sums == len(outcome.state.history)
    return outcome


@pytest.mark.parametrize("name", ALGORITHMS)
def test_sums_made_elsewhere_give_the_same_bits(name: str) -> None:
    declines = Fake("d", 9, tamper=lambda reply: replace(reply, refusal="no"))
    alone = make_job(algorithm=ALGORITHMS[name]())
    expected = run([*drifters(), declines], rounds=ROUNDS, job=alone)
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
    jobs = [make_job(algorithm=median()) for _ in range(2)]
    summing = run(fakes, grid=grid, job=replace(jobs[0], reach=Reach(collect_fn=grid.collect)))
    plain = run(fakes, job=jobs[1])
    assert grid.sums == 0
    assert essence(summing) == essence(plain)
