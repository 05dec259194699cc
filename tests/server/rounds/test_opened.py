"""What a cohort is shown of sums before: the newest that each was in, and what is unproved."""

from collections.abc import Sequence

from confide.protocol.masked_sums import OpenedBefore
from confide.server.rounds.state import Opened
from confide.server.rounds.sum_state import describe_opened, read_opened


def after(*sums: tuple[int, Sequence[str], bool]) -> Opened:
    opened = Opened()
    for number, survivors, is_whole in sums:
        one = OpenedBefore(digest=bytes([number]), survivors=tuple(survivors), signatures={})
        opened = opened.plus(one, is_whole=is_whole)
    return opened


def numbers(opened: Opened) -> list[int]:
    return [one.digest[0] for one in opened.sums]


def test_the_newest_that_each_was_in_is_shown() -> None:
    assert numbers(after((1, "abcd", True), (2, "abc", True))) == [1, 2]
    assert numbers(after((1, "abcd", True), (2, "abc", True), (3, "abcd", True))) == [3]
    assert numbers(after((1, "abcd", True), (2, "abc", True), (3, "abc", True))) == [1, 3]


def test_what_too_few_helped_to_open_is_shown_for_ever() -> None:
    opened = after((1, "abc", False), (2, "abc", True), (3, "abc", True))
    assert numbers(opened) == [1, 3]
    assert read_opened(describe_opened(opened)) == opened
