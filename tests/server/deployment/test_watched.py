"""What a run leaves for whoever watches it."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Error, Message

from confide.flower.messages import assign_message_id, task_identity
from confide.flower.polling import PollingGrid
from confide.protocol.messages import Reply, Request, pack_reply, pack_request
from confide.server.deployment.kit import CoordinatorKit
from confide.server.deployment.watched import (
    Asked,
    KnownRun,
    note_run,
    read_runs,
    read_under_way,
    watched,
)

NAMES = {1: "Cleveland", 2: "Hungary", 3: "<b>VA</b>"}


@pytest.fixture
def kit(tmp_path: Path) -> CoordinatorKit:
    kit = CoordinatorKit(folder=tmp_path, name="heart", hosts=("h",), port=1, institutions={})
    kit.logs.mkdir(parents=True)
    ids = {"supervisor": os.getpid(), "rounds": os.getpid()}
    (kit.logs / "processes.json").write_text(json.dumps(ids))
    return kit


class Answers(PollingGrid):
    """A grid whose nodes answer as they are told to."""

    def __init__(self, answers: dict[int, Reply | Error]) -> None:
        self.answers, self.sent = answers, {}

    def set_run(self, run: Any) -> None:
        raise AssertionError

    @property
    def run(self) -> Any:
        raise AssertionError

    def get_node_ids(self) -> list[int]:
        return [1, 2]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        new = {assign_message_id(message): message for message in messages}
        self.sent |= new
        return list(new)

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        asked = [self.sent.pop(one) for one in message_ids if one in self.sent]
        replies = []
        for message in asked:
            answer = self.answers.get(message.metadata.dst_node_id)
            if answer is not None:
                content = answer if isinstance(answer, Error) else pack_reply(answer)
                replies.append(Message(content, reply_to=message))
        return replies


def question(node: int, kind: str, server_round: int) -> Message:
    request = pack_request(Request(plan="{}"))
    return Message(request, node, kind, group_id=str(server_round))


def test_who_has_answered_and_who_is_waited_for(kit: CoordinatorKit, tmp_path: Path) -> None:
    declined = Reply(institution="Hungary", refusal="policy_hours", num_examples=0)
    grid = Answers({1: Reply(institution="Cleveland", num_examples=3), 2: declined})
    with (
        task_identity(),
        watched(grid, NAMES, kit, job="trial", run_dir=tmp_path / "run") as seen,
    ):
        list(seen.get_node_ids())
        ids = list(seen.push_messages(question(node, "train", 4) for node in NAMES))
        before = read_under_way(kit)
        assert len(list(seen.pull_messages(ids))) == 2
        after = read_under_way(kit)

    assert before is not None
    assert {one.state for one in before.asked.values()} == {"waiting"}
    assert before.connected == ["Cleveland", "Hungary"]
    assert after is not None
    assert (after.job, after.kind, after.server_round) == ("trial", "train", 4)
    told = {name: one.state for name, one in after.asked.items()}
    assert told == {"Cleveland": "answered", "Hungary": "policy_hours", "<b>VA</b>": "waiting"}
    assert read_under_way(kit) is None  # the run is over


def test_a_question_that_is_asked_again_keeps_what_came(
    kit: CoordinatorKit, tmp_path: Path
) -> None:
    grid = Answers({1: Error(code=1)})
    with task_identity(), watched(grid, NAMES, kit, job="trial", run_dir=tmp_path) as seen:
        ids = list(seen.push_messages([question(1, "query.unmask", 2)]))
        list(seen.pull_messages(ids))
        seen.push_messages([question(1, "query.unmask", 2)])
        kept = read_under_way(kit)
        seen.push_messages([question(1, "train", 3)])
        new = read_under_way(kit)

    assert kept is not None
    assert kept.asked["Cleveland"].kind == "unmask"
    assert kept.asked["Cleveland"].state == "error_reply"
    assert new is not None
    assert new.asked["Cleveland"] == Asked(kind="train", server_round=3, since=new.since)


def test_a_file_that_cannot_be_written_stops_no_run(kit: CoordinatorKit, tmp_path: Path) -> None:
    kit.under_way.mkdir()
    (kit.under_way / "in the way").touch()
    grid = Answers({})
    with task_identity(), watched(grid, NAMES, kit, job="trial", run_dir=tmp_path) as seen:
        assert list(seen.push_messages([question(1, "train", 1)]))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"job": "trial"}'])
def test_a_file_that_is_not_whole_tells_nothing(kit: CoordinatorKit, text: str) -> None:
    kit.under_way.write_text(text)
    assert read_under_way(kit) is None


def test_rounds_that_were_killed_are_not_under_way(kit: CoordinatorKit, tmp_path: Path) -> None:
    with watched(Answers({}), NAMES, kit, job="trial", run_dir=tmp_path) as seen, task_identity():
        seen.push_messages([question(1, "train", 1)])
        text = kit.under_way.read_text()
    kit.under_way.write_text(text)
    assert read_under_way(kit) is not None
    (kit.logs / "processes.json").write_text(json.dumps({"supervisor": os.getpid(), "rounds": 1}))
    assert read_under_way(kit) is None


def test_runs_are_told_newest_first_and_once(kit: CoordinatorKit) -> None:
    assert read_runs(kit) == []
    one = KnownRun(job="one", folder="/runs/1", program="server", started=1.0)
    two = KnownRun(job="two", folder="/runs/2", program="statistics", started=2.0)
    again = KnownRun(job="one", folder="/runs/1", program="server", started=3.0)
    for run in (one, two, again):
        note_run(kit, run)
    with kit.runs.open("a") as file:
        file.write('{"job": "thr')

    assert read_runs(kit) == [again, two]
