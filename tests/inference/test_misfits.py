"""Records that do not fit are found one by one, also where a task tells counts alone."""

from typing import Any, cast

from datasets import Dataset

from confide.config.tasks.columns import ColumnConfig
from confide.config.tasks.tabular import TabularConfig
from confide.inference.misfits import misfits_of, told_problems
from confide.tasks.task import Task

CONFIG = TabularConfig(labels=["no", "yes"], columns={"n": ColumnConfig(minimum=0, maximum=99)})


class Even:
    """A task of somebody's own, that takes even numbers, and not too many sevens."""

    def __init__(self, *, most: int | None = None) -> None:
        self.checks, self._most = 0, most

    def check(self, records: Dataset) -> list[str]:
        self.checks += 1
        odd = sum(int(number) % 2 for number in records["n"][:])
        found = [f"Column n: {odd} of {len(records)} are odd."] if odd else []
        if self._most is not None and len(records) > self._most:
            found.append("Too many at once.")
        return found


def numbers(count: int, *odd: int) -> Dataset:
    return Dataset.from_dict({"n": [str(2 * i + (i in odd)) for i in range(count)]})


def as_task(task: Any) -> Task:
    return cast(Task, task)


def test_each_record_is_found_with_few_checks() -> None:
    task = Even()
    found = misfits_of(as_task(task), CONFIG, numbers(1000, 3, 4, 999))
    assert dict(found.reasons) == dict.fromkeys((3, 4, 999), "Column n: 1 of 1 are odd.")
    assert not found.general
    assert task.checks < 70


def test_what_no_single_record_shows_is_told_of_all() -> None:
    found = misfits_of(as_task(Even(most=4)), CONFIG, numbers(9, 2))
    assert list(found.reasons) == [2]
    assert found.general == ["Too many at once."]


def test_the_first_ten_are_named_with_their_values() -> None:
    (few,) = told_problems(as_task(Even()), CONFIG, numbers(50, 7, 30), [])
    assert few.endswith("are odd. First in record 8 ('15'), then record 31 ('61').")
    (many,) = told_problems(as_task(Even()), CONFIG, numbers(50, *range(20)), [])
    assert many.endswith("record 10 ('19') and more.")
    assert many.count("('") == 10
