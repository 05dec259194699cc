"""Requests that wait for one thread, and what is refused where too many do."""

import asyncio
import threading
import time
from collections.abc import Sequence

import pandas
import pytest

from confide.serving.answering import Answer, Asked
from confide.serving.batching import Batcher
from confide.serving.refusal import RefusedError
from confide.serving.stopping import Stopping


class Model:
    """Answers each record with its own cell, once it may.

    Attributes:
        batches: cells of each batch.
        may: set while it may go on.
    """

    def __init__(self) -> None:
        self.batches: list[list[str | None]] = []
        self.may = threading.Event()

    def answer(self, asked: Sequence[Asked]) -> list[Answer]:
        cells = [one.cells["a"] for one in asked]
        self.batches.append([cell for one in cells for cell in one])
        self.may.wait(10)
        return [pandas.DataFrame({"a": one}) for one in cells]


def of(*cells: str) -> Asked:
    return Asked({"a": list(cells)})


def batcher(model: Model, *, records: int = 4, waiting: int = 100, delay_s: float = 0.0) -> Batcher:
    return Batcher(model.answer, most_records=records, most_waiting=waiting, delay_s=delay_s)


async def told(one: Batcher, *requests: Asked) -> list[list[str]]:
    frames = await asyncio.gather(*map(one.answer, requests))
    return [frame["a"].tolist() for frame in frames if isinstance(frame, pandas.DataFrame)]


async def busy(model: Model, one: Batcher) -> "asyncio.Task[Answer]":
    """Let the model begin a batch of one."""
    task = asyncio.create_task(one.answer(of("first")))
    while not model.batches:
        await asyncio.sleep(0.001)
    return task


def test_what_came_meanwhile_goes_together_in_its_order() -> None:
    model = Model()
    one = batcher(model)

    async def run() -> list[list[str]]:
        first = await busy(model, one)
        rest = asyncio.create_task(told(one, of("b"), of("c", "d"), of("e"), of("f"), of("g")))
        await asyncio.sleep(0)
        model.may.set()
        await first
        return await rest

    assert asyncio.run(run()) == [["b"], ["c", "d"], ["e"], ["f"], ["g"]]
    assert model.batches == [["first"], ["b", "c", "d", "e"], ["f", "g"]]


def test_a_request_larger_than_a_batch_goes_alone() -> None:
    model = Model()
    model.may.set()
    one = batcher(model, delay_s=0.05)
    large = of(*"abcdef")
    assert asyncio.run(told(one, of("x"), large, of("y"))) == [["x"], [*"abcdef"], ["y"]]
    assert model.batches == [["x"], [*"abcdef"], ["y"]]


def test_an_idle_model_waits_for_more_as_long_as_it_is_told() -> None:
    model = Model()
    model.may.set()
    one = batcher(model, records=3, delay_s=5.0)

    async def run() -> list[list[str]]:
        first = asyncio.create_task(told(one, of("a")))
        await asyncio.sleep(0.02)
        return [*(await told(one, of("b"), of("c"))), *(await first)]

    began = time.monotonic()
    assert asyncio.run(run()) == [["b"], ["c"], ["a"]]
    assert model.batches == [["a", "b", "c"]]  # full, before the delay was over
    assert time.monotonic() - began < 5


def test_too_many_that_wait_are_refused_and_the_others_answered() -> None:
    model = Model()
    one = batcher(model, waiting=2)

    async def run() -> list[list[str]]:
        first = await busy(model, one)
        rest = asyncio.create_task(told(one, of("b"), of("c")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        with pytest.raises(RefusedError, match="2 requests wait already") as refusal:
            await one.answer(of("d"))
        assert (refusal.value.status, refusal.value.headers["retry-after"]) == (503, "1")
        model.may.set()
        await first
        return await rest

    assert asyncio.run(run()) == [["b"], ["c"]]


def test_whoever_gave_up_is_not_computed() -> None:
    model = Model()
    one = batcher(model)

    async def run() -> list[list[str]]:
        first = await busy(model, one)
        gone = asyncio.create_task(one.answer(of("gone")))
        rest = asyncio.create_task(told(one, of("b")))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        model.may.set()
        await first
        return await rest

    assert asyncio.run(run()) == [["b"]]
    assert model.batches == [["first"], ["b"]]


def test_the_thread_goes_on_after_a_failure_and_ends_when_told() -> None:
    def fail(asked: Sequence[Asked]) -> list[Answer]:
        raise MemoryError

    one = Batcher(fail, most_records=4, most_waiting=4, delay_s=0.0)
    for _ in range(2):
        assert isinstance(asyncio.run(one.answer(of("a"))), MemoryError)
    assert one.is_alive
    one.end()
    one._thread.join(10)
    assert not one.is_alive


def test_a_stop_waits_for_what_was_taken() -> None:
    stopping, may = Stopping(), threading.Event()

    def one_request() -> None:
        with stopping.taken():
            may.wait(10)

    thread = threading.Thread(target=one_request)
    thread.start()
    while not stopping._under_way:
        time.sleep(0.001)
    stopping.stop()
    assert stopping.wait(0.01) == 1
    may.set()
    assert stopping.wait(10) == 0
    assert stopping.answered == 1
    thread.join()
