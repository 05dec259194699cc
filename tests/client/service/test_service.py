"""The trainer service: the same answers as at the door, one at a time, before hostile executors."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import grpc
import pytest
import service_child
from connected import CANARY, LIMITS, QUESTION, Connected, Door
from service_child import LEDGER, PLAIN, PRIVATE, SOCKET, STEPS_LOG, ask, make_institution

from confide.client.ledger.file import LedgerFile
from confide.client.ledger.runs import run_name
from confide.client.service import trainer_pb2 as pb
from confide.client.service.chunks import WireLimits
from confide.client.service.codec import request_parts
from confide.client.service.server import serve
from confide.client.service.stub import TrainerServiceClient
from confide.client.training.deadline import Deadline
from confide.protocol.messages import Reply, Request
from confide.protocol.plan import TrainingPlan
from confide.simulations.engines.preload import CONTEXT, prepare_workers

# --- the same as at the door


@pytest.mark.parametrize("plan", [PRIVATE, PLAIN], ids=["private", "plain"])
def test_replies_are_those_of_the_door_bit_for_bit(plan: TrainingPlan, folder: Path) -> None:
    questions = [
        ("query", Request(plan=plan.to_json())),
        ("train", ask(plan)),
        ("train", ask(plan)),
        ("evaluate", ask(plan, splits=("validation", "test"))),
        ("train", ask(plan, server_round=9)),
        ("train", Request(plan=plan.to_json(), server_round=1)),
        ("train", Request(plan="{")),
    ]
    direct, served = (
        make_institution(plan, folder / f"{n}.ledger" if plan.private else None) for n in (1, 2)
    )
    expected = [direct.handle(*question) for question in questions]
    with Connected(served, folder) as there:
        replies = [there.stub.handle(*question) for question in questions]
    assert [replace(reply, ledger_head="") for reply in replies] == [
        replace(reply, ledger_head="") for reply in expected
    ]
    assert [bool(reply.ledger_head) for reply in replies] == [
        bool(reply.ledger_head) for reply in expected
    ]
    assert [reply.refusal for reply in replies][:4] == [None] * 4


def test_a_deadline_that_passes_is_told(folder: Path) -> None:
    deadline = Deadline()
    institution = make_institution(PLAIN, check_fn=lambda: (time.sleep(0.05), deadline.check())[1])
    with (
        serve(institution, socket=folder / SOCKET, deadline=deadline),
        TrainerServiceClient("ward", folder / SOCKET) as stub,
    ):
        assert stub.handle("train", ask(replace(PLAIN, deadline_s=0.1))).refusal == "deadline"
        assert (
            stub.handle("train", ask(PLAIN, server_round=1)).refusal == "plan_changed"
        )  # it goes on


# --- one at a time


def test_health_status_and_cancel_answer_while_something_is_computed(folder: Path) -> None:
    door = Door()
    with Connected(door, folder) as there, ThreadPoolExecutor() as pool:
        assert there.stub.is_serving()
        answers = [pool.submit(there.stub.handle, "train", QUESTION) for _ in range(3)]
        door.begun.wait(5)
        status = there.stub.status()
        assert status is not None
        assert (status.institution, status.job, status.what, status.server_round) == (
            "ward",
            "socket",
            "train",
            1,
        )
        assert status.jobs == ("socket",)
        assert there.stub.is_serving()
        assert not there.stub.cancel("other")
        assert there.stub.cancel("socket")
        assert there.deadline.expired()
        assert door.asked == ["train"]  # the others wait
        door.go_on.set()
        assert [answer.result().refusal for answer in answers] == [None] * 3
        idle = there.stub.status()
        assert idle is not None
        assert idle.job is None


def test_waiting_has_an_end(folder: Path) -> None:
    door = Door()
    with Connected(door, folder) as there, ThreadPoolExecutor() as pool:
        first = pool.submit(there.stub.handle, "train", QUESTION)
        door.begun.wait(5)
        with pytest.raises(grpc.RpcError) as caught:
            there.raw(request_parts(QUESTION), timeout=0.3)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        with TrainerServiceClient("ward", folder / SOCKET, max_wait_s=0.3) as hasty:
            assert hasty.handle("train", QUESTION).refusal == "deadline"
        door.go_on.set()
        assert first.result().refusal is None
        assert door.asked == ["train"]


def test_more_than_there_is_room_for_are_sent_away(folder: Path) -> None:
    door = Door()
    with Connected(door, folder) as there, ThreadPoolExecutor() as pool:
        waiting = [pool.submit(there.stub.handle, "train", QUESTION) for _ in range(3)]
        door.begun.wait(5)
        time.sleep(0.3)
        with pytest.raises(grpc.RpcError) as caught:
            there.raw(request_parts(QUESTION))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        later = pool.submit(there.stub.handle, "train", QUESTION)
        time.sleep(0.2)
        door.go_on.set()
        assert [answer.result().refusal for answer in [*waiting, later]] == [None] * 4


# --- hostile executors


def header(**arrays: Any) -> pb.RequestPart:
    return pb.RequestPart(
        header=pb.RequestHeader(plan=QUESTION.plan, arrays=pb.Signatures(**arrays))
    )


TENSOR = pb.Signature(name="a", shape=[2], num_bytes=136)
HOSTILE: dict[str, tuple[Callable[[], list[Any]], str]] = {
    "nothing": (lambda: [], "invalid_message"),
    "no header": (lambda: [pb.RequestPart(chunk=pb.Chunk(data=b"x"))], "invalid_message"),
    "truncated": (lambda: [header(tensors=[TENSOR], num_bytes=136)], "invalid_message"),
    "a lie about the sum": (lambda: [header(tensors=[TENSOR], num_bytes=5)], "invalid_message"),
    "too large": (lambda: [header(tensors=[TENSOR], num_bytes=10_001)], "too_large"),
    "many names": (lambda: [header(tensors=[TENSOR] * 11, num_bytes=11 * 136)], "tensor_names"),
    "after the end": (
        lambda: [*request_parts(QUESTION), *request_parts(QUESTION)],
        "invalid_message",
    ),
    "a long plan": (
        lambda: [pb.RequestPart(header=pb.RequestHeader(plan="x" * (2**20 + 1)))],
        "too_large",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_request_never_reaches_the_door(case: str, folder: Path) -> None:
    make, code = HOSTILE[case]
    door = Door()
    with Connected(door, folder, LIMITS) as there:
        [part] = there.raw(iter(make()))
        assert (part.header.institution, part.header.refusal) == ("ward", code)
        assert not door.asked


@pytest.mark.parametrize(
    ("method", "parts"),
    [
        ("Forget", []),
        ("Train", [b"\xff\xff\xff"]),
        ("Train", [b"\x0a\x04\x0a\x02\xff\xfe"]),  # a plan that is not UTF-8
        ("Train", [header(tensors=[pb.Signature(name=str(n), num_bytes=9) for n in range(10**6)])]),
    ],
    ids=["unknown", "garbage", "not UTF-8", "a million names"],
)
def test_what_is_no_message_ends_with_a_status(method: str, parts: list[Any], folder: Path) -> None:
    door = Door()
    with Connected(door, folder) as there:
        with pytest.raises(grpc.RpcError):
            there.raw(iter(parts), method)
        assert not door.asked
        assert there.stub.is_serving()


def test_a_sender_that_stalls_is_cut_off(folder: Path) -> None:
    def stalling() -> Iterator[Any]:
        yield header(tensors=[TENSOR], num_bytes=136)
        over.wait(20)

    door, over = Door(lambda: Reply(institution="ward")), threading.Event()
    with Connected(door, folder, LIMITS) as there:
        began = time.monotonic()
        with pytest.raises(grpc.RpcError):
            there.raw(stalling(), timeout=None)
        assert time.monotonic() - began < 5
        over.set()
        assert there.stub.handle("train", QUESTION).refusal is None


def test_the_text_of_an_exception_stays_in_the_log(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> Reply:
        raise RuntimeError(CANARY)

    with Connected(Door(fail), folder) as there:
        parts = there.raw(request_parts(QUESTION))
    assert parts[0].header.refusal == "internal_error"
    assert CANARY not in str(parts)
    assert CANARY in caplog.text


@pytest.mark.parametrize(
    "reply", ["not a reply", Reply(institution=CANARY, num_examples=2**70)], ids=["type", "number"]
)
def test_a_reply_that_cannot_be_written_tells_nothing(
    reply: Any, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Connected(Door(lambda: reply), folder) as there:
        with pytest.raises(grpc.RpcError) as caught:
            there.raw(request_parts(QUESTION))
        assert caught.value.details() == "internal error"
        assert there.stub.handle("train", QUESTION).refusal == "trainer_unavailable"


# --- the executor's end


def test_an_unknown_kind_is_refused_before_it_is_sent(folder: Path) -> None:
    assert (
        TrainerServiceClient("ward", folder / SOCKET).handle("forget", QUESTION).refusal
        == "invalid_message"
    )


def test_nobody_there_is_told_in_the_end(folder: Path) -> None:
    pauses: list[float] = []
    with TrainerServiceClient(
        "ward",
        folder / SOCKET,
        max_wait_s=0.8,
        sleep=lambda s: (pauses.append(s), time.sleep(s))[1],
    ) as stub:
        assert stub.handle("train", QUESTION) == Reply(
            institution="ward", refusal="trainer_unavailable"
        )
        assert stub.status() is None
        assert not stub.cancel("socket")
        assert not stub.is_serving(timeout_s=0.2)
    assert pauses[:2] == [0.1, 0.2]
    assert sum(pauses) < 0.8


def test_a_reply_that_is_too_large_is_not_passed_on(folder: Path) -> None:
    large = Reply(institution="ward", arrays=ask(PLAIN).arrays)
    with (
        serve(Door(lambda: large), socket=folder / SOCKET, deadline=Deadline()),
        TrainerServiceClient("ward", folder / SOCKET, limits=WireLimits(max_bytes=100)) as stub,
    ):
        assert stub.handle("train", QUESTION).refusal == "trainer_unavailable"


def test_the_executors_end_imports_no_torch() -> None:
    code = (
        "import sys, confide.client.app, confide.client.service.stub; assert 'torch' not in"
        " sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])


# --- restarts


class Child:
    """A service in a process of its own, again and again over one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        prepare_workers()
        self.start()

    def start(self) -> None:
        self.process: ForkServerProcess = CONTEXT.Process(
            target=service_child.run, args=(self.folder,)
        )
        self.process.start()

    def wait_for_step(self, number: int) -> None:
        log, end = self.folder / STEPS_LOG, time.monotonic() + 30
        while not log.exists() or len(log.read_text().splitlines()) < number:
            assert time.monotonic() < end
            time.sleep(0.02)

    def end(self) -> None:
        self.process.terminate()
        self.process.join(30)


@pytest.mark.parametrize(
    "how", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_trainer_that_is_restarted_answers_the_question_that_waits(
    how: signal.Signals, folder: Path
) -> None:
    expected = make_institution(PRIVATE, folder / "undisturbed.ledger").handle(
        "train", ask(PRIVATE)
    )
    child = Child(folder)
    with TrainerServiceClient("ward", folder / SOCKET) as stub, ThreadPoolExecutor() as pool:
        answer = pool.submit(stub.handle, "train", ask(PRIVATE))
        child.wait_for_step(3)
        assert child.process.pid is not None
        os.kill(child.process.pid, how)
        began = time.monotonic()
        child.process.join(10)
        assert time.monotonic() - began < 3
        assert child.process.exitcode == (-how if how == signal.SIGKILL else 0)
        child.start()
        reply = answer.result(60)
    child.end()
    assert (reply.refusal, reply.arrays, reply.figures) == (None, expected.arrays, expected.figures)
    steps = (folder / STEPS_LOG).read_text().splitlines()
    assert len(set(steps)) == 2  # both processes trained
    run = LedgerFile(folder / LEDGER).state.populations["ward"].runs[run_name("ward", "socket")]
    assert len(run.rounds) == 1
