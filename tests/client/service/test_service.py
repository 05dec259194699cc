"""The trainer service over a real socket.

The same answers as at the door, and nothing for whoever is hostile.
"""

import os
import shutil
import signal
import socket as sockets
import stat
import subprocess
import sys
import tempfile
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

from confide.client.app import RequestHandler
from confide.client.ledger.file import LedgerFile
from confide.client.ledger.state import run_name
from confide.client.service import trainer_pb2 as pb
from confide.client.service.codec import WireLimits, request_parts
from confide.client.service.remembered import ReplyCache
from confide.client.service.server import RunningService, ServiceLimits, serve
from confide.client.service.stub import TrainerStub
from confide.client.service.unix_socket import bound_privately
from confide.client.training.deadline import Deadline
from confide.errors import ConfigError
from confide.protocol.messages import Reply, Request
from confide.protocol.plan import TrainingPlan
from confide.simulations.engines.preload import CONTEXT, prepare_workers

sys.path.insert(0, str(Path(__file__).parent))  # the child process imports it by name

import service_child
from service_child import LEDGER, PLAIN, PRIVATE, SOCKET, STEPS_LOG, ask, make_institution

CANARY = "patient-4711-has-gout"
METHOD = "/confide.trainer.v1.Trainer/"
LIMITS = ServiceLimits(max_upload_s=0.5, wire=WireLimits(max_bytes=10_000, max_tensors=10))
QUESTION = Request(plan=PLAIN.to_json(), server_round=1, splits=[])


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short enough for an address, which pytest's own may not be."""
    path = Path(tempfile.mkdtemp(prefix="confide-"))
    yield path
    shutil.rmtree(path)


class Door:
    """RequestHandler when told to, and remembers the questions."""

    name = "ward"

    def __init__(self, answer: Callable[[], Reply] | None = None) -> None:
        self.asked: list[str] = []
        self.begun, self.go_on = threading.Event(), threading.Event()
        self._answer = answer

    def handle(self, kind: str, request: Request) -> Reply:
        self.asked.append(kind)
        self.begun.set()
        if self._answer:
            return self._answer()
        self.go_on.wait(20)
        return Reply(institution=self.name)


class Connected:
    """A service with an honest stub and a raw channel."""

    def __init__(
        self, door: RequestHandler, folder: Path, limits: ServiceLimits | None = None
    ) -> None:
        self.deadline = Deadline()
        self.service: RunningService = serve(
            door, socket=folder / SOCKET, deadline=self.deadline, limits=limits
        )
        self.stub = TrainerStub("ward", folder / SOCKET)
        self.channel = grpc.insecure_channel(
            f"unix:{folder / SOCKET}", [("grpc.max_send_message_length", -1)]
        )

    def raw(
        self, parts: Iterator[Any], method: str = "Train", timeout: float | None = 10.0
    ) -> list[pb.ReplyPart]:
        """Send parts, or bytes, as they are."""
        call = self.channel.stream_stream(
            METHOD + method,
            request_serializer=lambda part: (
                part if isinstance(part, bytes) else part.SerializeToString()
            ),
            response_deserializer=pb.ReplyPart.FromString,
        )
        return list(call(parts, timeout=timeout))

    def __enter__(self) -> "Connected":
        return self

    def __exit__(self, *_: object) -> None:
        self.stub.close()
        self.channel.close()
        self.service.stop(0.2)


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
        TrainerStub("ward", folder / SOCKET) as stub,
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
        with TrainerStub("ward", folder / SOCKET, max_wait_s=0.3) as hasty:
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
        TrainerStub("ward", folder / SOCKET).handle("forget", QUESTION).refusal == "invalid_message"
    )


def test_nobody_there_is_told_in_the_end(folder: Path) -> None:
    pauses: list[float] = []
    with TrainerStub(
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
        TrainerStub("ward", folder / SOCKET, limits=WireLimits(max_bytes=100)) as stub,
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
    with TrainerStub("ward", folder / SOCKET) as stub, ThreadPoolExecutor() as pool:
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


# --- the socket


def test_the_socket_is_never_open_to_more_than_its_mode(folder: Path) -> None:
    path = folder / SOCKET
    with sockets.socket(sockets.AF_UNIX) as listener:
        with bound_privately(path, mode=0o660, group=None) as absolute:
            listener.bind(str(absolute))
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_the_socket_has_its_mode_and_goes_with_the_service(folder: Path) -> None:
    before = os.umask(0o022)
    try:
        with serve(Door(), socket=folder / SOCKET, deadline=Deadline()):
            assert stat.S_IMODE((folder / SOCKET).stat().st_mode) == 0o600
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
    assert not (folder / SOCKET).exists()


def test_the_socket_of_a_process_that_died_is_replaced(folder: Path) -> None:
    with sockets.socket(sockets.AF_UNIX) as dead:
        dead.bind(str(folder / SOCKET))
    with Connected(Door(lambda: Reply(institution="ward")), folder) as there:
        assert there.stub.handle("query", QUESTION).refusal is None


def test_a_socket_that_somebody_listens_on_is_left_alone(folder: Path) -> None:
    with Connected(Door(lambda: Reply(institution="ward")), folder) as there:
        with pytest.raises(ConfigError, match="another trainer service listens there"):
            serve(Door(), socket=folder / SOCKET, deadline=Deadline())
        assert there.stub.handle("query", QUESTION).refusal is None


def test_a_file_is_not_replaced(folder: Path) -> None:
    (folder / SOCKET).write_text("precious")
    with pytest.raises(ConfigError, match="expected a socket or nothing there"):
        serve(Door(), socket=folder / SOCKET, deadline=Deadline())
    assert (folder / SOCKET).read_text() == "precious"


def test_an_unfit_place_is_refused(folder: Path) -> None:
    for path, match in (
        (folder / "none" / SOCKET, r"mkdir -m 700"),
        (folder / ("x" * 120) / SOCKET, "at most 107 bytes"),
    ):
        with pytest.raises(ConfigError, match=match):
            serve(Door(), socket=path, deadline=Deadline())
    folder.chmod(0o702)
    with pytest.raises(ConfigError, match=r"mode=702; .*chmod go-w"):
        serve(Door(), socket=folder / SOCKET, deadline=Deadline())


def test_an_unknown_group_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="group=no-such-group"):
        serve(Door(), socket=folder / SOCKET, deadline=Deadline(), group="no-such-group")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user_may_not_connect(folder: Path) -> None:
    folder.chmod(0o755)  # the socket alone decides
    connect = f"socket.socket(socket.AF_UNIX).connect({str(folder / SOCKET)!r})"
    with Connected(Door(), folder):
        for user, allowed in ((65534, False), (0, True)):
            code = (
                f"import os, socket; os.setgroups([]); os.setgid({user}); os.setuid({user});"
                f" {connect}"
            )
            done = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=False
            )
            assert (done.returncode == 0) is allowed, done.stderr
            assert allowed or "PermissionError" in done.stderr


# --- asked again without privacy


class Counting:
    """A door that counts what it is asked."""

    def __init__(self, door: RequestHandler) -> None:
        self._door, self.name, self.count = door, door.name, 0

    def handle(self, kind: str, request: Request) -> Reply:
        self.count += 1
        return self._door.handle(kind, request)


def test_a_question_without_privacy_is_trained_once() -> None:
    counting = Counting(make_institution(PLAIN))
    door = ReplyCache(counting)
    first, again = door.handle("train", ask(PLAIN)), door.handle("train", ask(PLAIN))
    assert again == first
    assert counting.count == 1
    door.handle("train", ask(PLAIN, server_round=2))
    door.handle("train", ask(PLAIN))  # only the last is kept
    assert counting.count == 3


@pytest.mark.parametrize(
    ("kind", "request_"),
    [
        ("evaluate", ask(PLAIN, splits=("test",))),
        ("train", ask(PRIVATE)),
        ("train", Request(plan="{")),
        ("train", ask(PLAIN, server_round=99)),
    ],
    ids=["evaluation", "private", "garbage", "refused"],
)
def test_other_answers_are_not_remembered(kind: str, request_: Request) -> None:
    counting = Counting(make_institution(PRIVATE if request_.plan == PRIVATE.to_json() else PLAIN))
    door = ReplyCache(counting)
    assert door.handle(kind, request_) == door.handle(kind, request_)
    assert counting.count == 2


def test_every_part_of_a_question_counts() -> None:
    counting = Counting(Door(lambda: Reply(institution="ward")))
    door = ReplyCache(counting)
    first = ask(PLAIN)
    assert first.arrays is not None
    fewer = type(first.arrays)(dict(list(first.arrays.items())[1:]))
    changes: list[dict[str, Any]] = [
        {},
        {"plan": replace(PLAIN, num_rounds=3).to_json()},
        {"splits": ["test"]},
        {"ledger_head": "1:a"},
        {"arrays": fewer},
        {"arrays": None},
    ]
    for number, fields in enumerate(changes, start=1):
        door.handle("train", replace(first, **fields))
        assert counting.count == number


def test_a_stopped_job_is_for_the_door_to_refuse() -> None:
    counting, stopped = Counting(make_institution(PLAIN)), set[str]()
    door = ReplyCache(counting, is_stopped=stopped.__contains__)
    door.handle("train", ask(PLAIN))
    stopped.add(PLAIN.job)
    door.handle("train", ask(PLAIN))
    assert counting.count == 2


def test_memory_is_bounded() -> None:
    counting = Counting(Door(lambda: Reply(institution="ward")))
    door = ReplyCache(counting, most_jobs=2)
    requests = [ask(replace(PLAIN, job=f"job-{n}")) for n in range(3)]
    for request in [*requests, *requests[1:], requests[0]]:
        door.handle("train", request)
    assert counting.count == 4
