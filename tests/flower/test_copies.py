"""What of a run's questions a SuperLink is told to delete."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from flower_link import SuperLink, run_node, run_superlink, wait_for
from flwr.app import ConfigRecord, Message, RecordDict

from confide.flower.copies import Copies
from confide.flower.grid import DeployedGrid, take_run
from confide.flower.messages import task_identity

NODE, TTL_S = 7, 10.0
TABLES = ("message_ins", "message_res", "objects", "object_children", "run_objects")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def copies() -> Iterator[Copies]:
    with task_identity(run_id=1, node_id=1):
        yield Copies(Clock())


def ask(node: int = NODE, *, group: str = "1", ttl: float = TTL_S) -> Message:
    content = RecordDict({"ask": ConfigRecord({"round": group})})
    return Message(content, node, "query", group_id=group, ttl=ttl)


def test_copies_of_an_answered_question_are_left_over(copies: Copies) -> None:
    for name in ("first", "second", "third"):
        copies.sent(name, ask())
    copies.sent("next round's", ask(group="2"))
    copies.sent("another's", ask(NODE + 1))
    assert copies.left_over([]) == set()
    copies.answered("second")
    assert copies.left_over(["next round's", "another's"]) == {"first", "third"}
    copies.forget("first")
    assert copies.left_over([]) == {"third"}


def test_a_copy_that_is_still_waited_for_is_not_left_over(copies: Copies) -> None:
    """Since what came for the other was an error."""
    for name in ("failed", "again"):
        copies.sent(name, ask())
    copies.answered("failed")
    assert copies.left_over(["again"]) == set()
    assert copies.left_over([]) == {"again"}


def test_a_question_that_can_be_answered_no_more_is_left_over(copies: Copies) -> None:
    copies.sent("late", ask())
    assert isinstance(copies.clock, Clock)
    copies.clock.now += TTL_S + 1
    assert copies.is_expired("late")
    assert copies.left_over([]) == {"late"}
    copies.forget("late")
    assert not copies.is_expired("late")


# --- a real SuperLink: if Flower keeps or deletes otherwise, these say so


def rows(folder: Path) -> dict[str, int]:
    """Count what a SuperLink keeps of messages."""
    with closing(sqlite3.connect(f"file:{folder / 'superlink.db'}?mode=ro", uri=True)) as database:
        counts = {
            table: database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in TABLES
        }
    return {table: count for table, count in counts.items() if count}


@pytest.fixture(scope="module")
def away(link: SuperLink) -> int:
    """A node that was there and is gone."""
    with run_node(link, link.folder, "away") as node:
        return node.node_id


def answer(grid: DeployedGrid, ids: list[str], *, within_s: float = 60.0) -> Message:
    """Look until a reply comes."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        for reply in grid.pull_messages(ids):
            return reply
        time.sleep(0.1)
    raise AssertionError("no reply")


@pytest.fixture(scope="module")
def link(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SuperLink]:
    with run_superlink(tmp_path_factory.mktemp("pruned")) as link:
        yield link


def test_answers_that_nobody_waits_for_are_deleted_by_later_rounds(link: SuperLink) -> None:
    """Each question is asked twice, as after a silence, and answered twice."""
    with run_node(link, link.folder) as node:
        link.control.start_run("rounds")
        with take_run(link.runtime(), timeout_s=30) as grid:
            for number in range(3):
                both = list(
                    grid.push_messages(
                        [ask(node.node_id, group=f"{number}", ttl=300) for _ in range(2)]
                    )
                )
                # Or else one look may bring both
                assert not answer(grid, both[:1]).has_error()
                wait_for(lambda: "message_res" in rows(link.folder), "the other answer")
            # Looks of the next round
            wait_for(lambda: not (list(grid.pull_messages([])) or rows(link.folder)), "nothing")


def test_a_question_that_nobody_fetched_is_deleted_when_its_time_is_over(
    link: SuperLink, away: int
) -> None:
    """SuperLink answers with an error in the node's place."""
    link.control.start_run("away")
    with take_run(link.runtime(), timeout_s=30) as grid:
        asked = list(grid.push_messages([ask(away, ttl=300)]))
        assert rows(link.folder)["objects"] > 0
        assert answer(grid, asked).has_error()
        wait_for(lambda: set(rows(link.folder)) <= {"message_ins"}, "its contents are deleted")


def test_the_next_run_finds_nothing_of_one_that_ended(link: SuperLink, away: int) -> None:
    link.control.start_run("first")
    with take_run(link.runtime(), timeout_s=30) as grid:
        list(grid.push_messages([ask(away, group="unanswered", ttl=300)]))
    assert rows(link.folder)["objects"] > 0
    link.control.start_run("second")
    assert rows(link.folder) == {}
