"""A deadline between steps: what it ends, and that a round it ended counts once and is replayed."""

import threading
from pathlib import Path

import pytest
from service_child import PLAIN, PRIVATE, STEPS, ask, make_institution

from confide.client.institution import Institution
from confide.client.training.deadline import Deadline
from confide.errors import ProtocolError
from confide.protocol.messages import Reply


class Clock:
    """Moves as told, and by ``each`` whenever it is read."""

    def __init__(self, each: float = 0.0) -> None:
        self.now, self.each = 100.0, each

    def __call__(self) -> float:
        self.now += self.each
        return self.now


def code_of(deadline: Deadline) -> str:
    with pytest.raises(ProtocolError) as caught:
        deadline.check()
    return caught.value.code


def test_nothing_is_due_before_it_begins() -> None:
    deadline = Deadline(Clock())
    deadline.check()
    assert not deadline.expired()


def test_it_expires_when_its_seconds_are_over() -> None:
    clock = Clock()
    deadline = Deadline(clock)
    deadline.start(5.0, "job")
    clock.now += 4.9
    deadline.check()
    clock.now += 0.1
    assert deadline.expired()
    assert code_of(deadline) == "deadline"


def test_it_is_cancelled_by_its_own_job_alone() -> None:
    deadline = Deadline(Clock())
    deadline.start(5.0, "job")
    assert not deadline.cancel("other")
    deadline.check()
    assert deadline.cancel("job")
    assert deadline.expired()
    assert code_of(deadline) == "cancelled"


def test_a_cancelled_job_says_nothing_of_the_next() -> None:
    deadline = Deadline(Clock())
    deadline.start(5.0, "job")
    deadline.cancel("job")
    deadline.finish()
    assert not deadline.cancel("job")
    deadline.start(5.0, "job")
    deadline.check()


def test_two_at_once_are_a_mistake() -> None:
    deadline = Deadline(Clock())
    deadline.start(5.0, "job")
    with pytest.raises(ValueError, match="job=job was not finished"):
        deadline.start(5.0, "other")


def test_no_time_is_expired_at_once() -> None:
    deadline = Deadline(Clock())
    deadline.start(0.0, "job")
    assert code_of(deadline) == "deadline"


def test_another_thread_cancels() -> None:
    deadline = Deadline()
    deadline.start(60.0, "job")
    threading.Thread(target=deadline.cancel, args=("job",)).start()
    while not deadline.expired():
        pass
    assert code_of(deadline) == "cancelled"


def train(institution: Institution, deadline: Deadline, seconds: float) -> Reply:
    deadline.start(seconds, "socket")
    try:
        return institution.handle("train", ask(PRIVATE))
    finally:
        deadline.finish()


def content(reply: Reply) -> list[bytes]:
    assert reply.refusal is None
    assert reply.arrays is not None
    return [array.data for array in reply.arrays.values()]


def test_a_round_that_the_deadline_ends_counts_once_and_is_replayed(tmp_path: Path) -> None:
    undisturbed = make_institution(PRIVATE, tmp_path / "undisturbed.ledger").handle(
        "train", ask(PRIVATE)
    )
    deadline = Deadline(Clock(each=1.0))
    institution = make_institution(PRIVATE, tmp_path / "ward.ledger", deadline.check)
    # One reading begins, one is for the validation records, and the second step of five is late.
    cut_off = train(institution, deadline, seconds=4.0)
    assert (cut_off.refusal, cut_off.arrays) == ("deadline", None)
    assert institution.spent("socket").count == 1
    again = train(institution, deadline, seconds=60.0)
    assert content(again) == content(undisturbed)
    assert again.figures == undisturbed.figures
    assert institution.spent("socket").count == 1


def test_a_round_that_is_late_before_its_first_step_costs_nothing(tmp_path: Path) -> None:
    deadline = Deadline(Clock(each=1.0))
    institution = make_institution(PRIVATE, tmp_path / "ward.ledger", deadline.check)
    assert train(institution, deadline, seconds=0.5).refusal == "deadline"
    assert institution.spent("socket").count == 0


@pytest.mark.parametrize("plan", [PRIVATE, PLAIN], ids=["private", "plain"])
def test_the_check_comes_before_every_step_and_pass_and_changes_nothing(plan: object) -> None:
    calls: list[None] = []
    chosen = PRIVATE if plan is PRIVATE else PLAIN
    checked = make_institution(chosen, check_fn=lambda: calls.append(None)).handle(
        "train", ask(chosen)
    )
    # Under privacy each step is checked, whose sample may be empty, and its one pass; and one batch
    # of validation records, where noise may cover their scores
    assert len(calls) == (2 * STEPS + 1 if plan is PRIVATE else STEPS)
    assert content(checked) == content(make_institution(chosen).handle("train", ask(chosen)))
