"""Stages of a work item: each reply is reported once, and an update is in one sum or lost."""

from confide.client.ledger.ledger import RoundsSpent
from confide.simulations.engines.work_states import MOST_DEATHS, Stage, TrackedItem
from confide.simulations.engines.worker import WorkItem


def tracked() -> TrackedItem:
    return TrackedItem(WorkItem(message_id="1", client="north", spent=RoundsSpent()))


def test_a_first_reply_is_news() -> None:
    item = tracked()
    assert item.report(weight=3)
    assert (item.stage, item.weight) == (Stage.REPORTED, 3)


def test_a_reply_without_an_update_is_reported_all_the_same() -> None:
    item = tracked()
    assert item.report(weight=0)
    assert item.stage is Stage.REPORTED


def test_an_item_whose_sum_died_is_done_again_and_not_reported_twice() -> None:
    item = tracked()
    item.report(weight=3)
    item.lose_sum()
    assert (item.stage, item.weight) == (Stage.REDONE, 0)
    assert not item.report(weight=3)
    assert (item.stage, item.weight) == (Stage.REPORTED, 3)


def test_an_item_done_again_without_an_update_is_lost() -> None:
    item = tracked()
    item.report(weight=3)
    item.lose_sum()
    assert not item.report(weight=0)
    assert item.stage is Stage.LOST


def test_an_item_that_no_worker_survives_fails() -> None:
    item = tracked()
    assert [item.survive_death() for _ in range(MOST_DEATHS)] == [True] * (MOST_DEATHS - 1) + [
        False
    ]
    assert item.stage is Stage.FAILED


def test_an_item_that_was_reported_and_that_no_worker_survives_is_lost() -> None:
    item = tracked()
    item.report(weight=1)
    item.lose_sum()
    for _ in range(MOST_DEATHS):
        item.survive_death()
    assert item.stage is Stage.LOST
