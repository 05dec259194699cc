"""Doors that open when somebody is asked: few at once, and nothing forgotten when they close."""

from collections.abc import Sequence
from dataclasses import replace

from builders import POLICY, build_plan, build_request, workload_of
from datasets import Dataset
from populations_made import Made

from confide.client.assembly import make_trainer
from confide.client.institution import Institution
from confide.client.ledger.ledger import RoundsSpent
from confide.config.data import DataConfig
from confide.config.privacy import PrivacyConfig
from confide.models.networks import trainable_tensors
from confide.protocol.messages import Reply
from confide.protocol.refusals import Refusal
from confide.simulations.institutions import InstitutionFactory, Setup
from confide.simulations.populations.doors import DoorsOnDemand, Unopened, opened_or_not
from confide.simulations.populations.on_demand import RecordsOnDemand, encoder
from confide.simulations.populations.roster import SourceRoster

SECRET = bytes(32)
PLAN = build_plan(privacy=PrivacyConfig(unit="record", epsilon=8.0), num_rounds=3)
WORKLOAD = workload_of(PLAN)
TENSORS = trainable_tensors(WORKLOAD.model)


class Counting(Made):
    """Remembers whose records were made."""

    def __init__(self, n: int, spoilt: int | None = None) -> None:
        super().__init__(n, spoilt=spoilt)
        self.made: list[int] = []

    def records(self, index: int) -> Dataset:
        self.made.append(index)
        return super().records(index)


def doors_of(source: Made, *, most: int) -> tuple[DoorsOnDemand, RecordsOnDemand]:
    config = DataConfig(path="made", partitioner="iid")
    encode = encoder(source, config, plan=PLAN, workload=WORKLOAD, secret=SECRET)
    data = RecordsOnDemand(SourceRoster(source), source, encode)
    policy = replace(POLICY, min_records=1, allow_reproducible_noise=True)
    setup = Setup(serves=PLAN, policy=policy, noise_secret=SECRET, reproducible=True)
    factory = InstitutionFactory(make_trainer(WORKLOAD, PLAN), setup)
    return DoorsOnDemand(data, factory, most=most), data


def trained(institution: Institution, server_round: int) -> Reply:
    return institution.handle("train", build_request(PLAN, server_round, tensors=TENSORS))


def names(source: Made, indices: Sequence[int]) -> list[str]:
    return [source.name(index) for index in indices]


def test_at_most_so_many_are_open_and_the_last_asked_stay() -> None:
    source = Made(1_000_000)
    doors, _ = doors_of(source, most=3)
    for name in names(source, [5, 999_999, 17, 5, 40, 41]):
        assert doors[name].name == name
    assert doors.open_now == names(source, [5, 40, 41])


def test_what_was_counted_stays_counted_when_a_door_closes() -> None:
    source = Made(1000)
    doors, _ = doors_of(source, most=1)
    one, other = names(source, [3, 4])
    before = doors[one]
    first = trained(before, 1)
    assert not first.refusal
    assert not trained(doors[other], 1).refusal
    again = doors[one]
    assert again is not before  # it was closed meanwhile
    assert again.spent(PLAN.job).count == 1
    second = trained(again, 2)
    assert second.figures["epsilon"] > first.figures["epsilon"]
    assert doors.spent(PLAN.job)[one].count == 2
    assert doors.spent(PLAN.job).keys() == {one, other}
    assert trained(doors[other], 1).figures == trained(doors[other], 1).figures
    assert doors.spent(PLAN.job)[other].count == 1  # the same question is answered, not counted


def test_rounds_run_out_whoever_was_open_in_between() -> None:
    source = Made(1000)
    doors, _ = doors_of(source, most=1)
    one, other = names(source, [3, 4])
    allowed = 0
    for server_round in range(1, 40):
        reply = trained(doors[one], server_round)
        assert doors[other].name == other
        if reply.refusal:
            assert reply.refusal == Refusal.ROUNDS_SPENT
            break
        allowed += 1
    assert PLAN.num_rounds <= allowed < 39


def test_another_plan_under_a_jobs_name_is_refused_after_a_door_closed_too() -> None:
    source = Made(1000)
    doors, _ = doors_of(source, most=1)
    one, other = names(source, [3, 4])
    assert not trained(doors[one], 1).refusal
    assert doors[other].name == other
    changed = replace(PLAN, deadline_s=61.0)
    reply = doors[one].handle("train", build_request(changed, 2, tensors=TENSORS))
    assert reply.refusal == Refusal.PLAN_CHANGED


def test_what_an_earlier_process_counted_is_taken_over_by_each_when_it_opens() -> None:
    source = Made(1000)
    doors, _ = doors_of(source, most=2)
    one, other = names(source, [3, 4])
    doors.restore_spent(PLAN.job, {one: RoundsSpent(2)})
    assert doors.spent(PLAN.job) == {one: RoundsSpent(2)}
    assert doors[one].spent(PLAN.job).count == 2
    assert doors[other].spent(PLAN.job).count == 0


def test_records_of_those_who_are_expected_are_made_together_and_once() -> None:
    source = Counting(1000)
    doors, data = doors_of(source, most=10)
    asked = names(source, [1, 2, 3, 4])
    doors.expect(asked)
    alone = {name: data[name] for name in asked}  # makes all four with the first
    assert source.made == [1, 2, 3, 4]
    source.made.clear()
    for name in asked:
        found, alike = alone[name], data[name]
        assert found.train.columns["features"].equal(alike.train.columns["features"])
        assert found.test.labels.equal(alike.test.labels)
    assert source.made == [1, 2, 3, 4]  # nothing was kept, and each was made by itself


def test_who_holds_records_that_do_not_fit_declines_alone() -> None:
    source = Counting(1000, spoilt=2)
    doors, _ = doors_of(source, most=10)
    asked = names(source, [1, 2, 3])
    doors.expect(asked)
    opened = [opened_or_not(doors, name) for name in asked]
    spoilt = opened.pop(1)
    assert isinstance(spoilt, Unopened)
    assert all(isinstance(one, Institution) for one in opened)
    reply = spoilt.handle("query", build_request(PLAN, tensors=None))
    assert (reply.institution, reply.refusal) == (asked[1], Refusal.CANNOT_COMPLY)
