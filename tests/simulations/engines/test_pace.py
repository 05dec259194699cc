"""How many items go into a message, and how many messages wait at a worker."""

import pytest

from confide.simulations.engines.pace import Ahead, Pace

PIPE = Ahead(seconds=0.02, most_batches=8, most_items=1)
CALL = Ahead(seconds=0.5, most_batches=2, most_items=256)


def pace_of(ahead: Ahead, seconds: float | None) -> Pace:
    pace = Pace(ahead)
    if seconds is not None:
        pace.note("train", seconds)
    return pace


@pytest.mark.parametrize(
    ("ahead", "seconds", "waiting", "items", "messages"),
    [
        (PIPE, None, 100, 1, 1),
        (PIPE, 0.005, 100, 1, 4),
        (PIPE, 0.0, 100, 1, 8),
        (PIPE, 1.0, 100, 1, 1),
        (CALL, None, 100, 1, 2),
        (CALL, 0.005, 1000, 50, 2),
        (CALL, 0.005, 40, 10, 2),  # the last ones are spread evenly
        (CALL, 0.0, 10_000, 256, 2),
        (CALL, 1.0, 1000, 1, 1),
    ],
)
def test_work_is_handed_out_ahead_but_not_far(
    ahead: Ahead, seconds: float | None, waiting: int, items: int, messages: int
) -> None:
    pace = pace_of(ahead, seconds)
    assert pace.batch("train", waiting=waiting, workers=2) == items
    assert pace.most_batches("train") == messages


def test_patience_follows_the_items_of_a_message_up_to_a_share_of_the_deadline() -> None:
    pace = pace_of(CALL, 0.1)
    waits = [pace.patience_s("train", items=items, deadline_s=100) for items in (1, 3, 30)]
    assert waits == [pytest.approx(5), pytest.approx(15), 25]
