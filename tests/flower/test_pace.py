"""How pauses between two looks grow, by a clock of the tests."""

import pytest

from confide.flower.pace import FAR, NEAR, Pace, part_pace


class Clock:
    """Passes while somebody sleeps, and not otherwise."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def looks(pace: Pace, clock: Clock, wait_s: float) -> list[float]:
    """Return the pauses of a wait for something that comes after so many seconds."""
    pauses, end = [], clock() + wait_s
    while clock() < end:
        pauses.append(pace.pause_s)
        clock.sleep(pauses[-1])
    return pauses


@pytest.mark.parametrize("share", [NEAR, FAR])
@pytest.mark.parametrize("wait_s", [0.01, 0.3, 1.0, 2.5, 20.0, 600.0])
def test_what_comes_is_seen_within_the_shortest_pause_or_a_share_of_the_wait(
    wait_s: float, share: float
) -> None:
    clock = Clock()
    pace, began = Pace(0.2, 3.0, share=share, clock=clock), clock()
    looks(pace, clock, wait_s)
    late_s = clock() - began - wait_s
    assert 0 <= late_s <= max(0.2, share * wait_s) + 1e-6
    assert late_s <= 3.0


def test_pauses_grow_from_the_shortest_to_the_longest() -> None:
    clock = Clock()
    pauses = looks(Pace(0.2, 3.0, clock=clock), clock, 60.0)
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (0.2, 3.0)
    assert pauses.count(0.2) >= 10
    # 20 are the looks of a minute every 3 s: as many again are what a minute's quickness costs.
    assert len(pauses) <= 60


def test_a_wait_that_begins_anew_is_quick_again() -> None:
    clock = Clock()
    pace = Pace(0.2, 3.0, clock=clock)
    clock.sleep(3600)
    assert (pace.pause_s, pace.waited_s) == (3.0, 3600)
    pace.begin()
    assert (pace.pause_s, pace.waited_s) == (0.2, 0)


def test_a_part_on_its_way_is_looked_for_soon() -> None:
    clock = Clock()
    assert len(looks(part_pace(clock), clock, 5.0)) < 60
    assert part_pace(clock).pause_s == 0.02
