"""A coordinator that sends code, lies and nonsense gets what policy and budget allow, and the
institution goes on.
"""

import dataclasses
import functools
import importlib.metadata
import io
import json
import math
import pickle
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from deployment_run import HEART, Deployment, confide
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from hostile_run import MARK, Asked, HostileCoordinator, hostile_bundle

from confide.config.composing.compose import compose
from confide.config.models.perceptrons import MlpConfig
from confide.config.models.transformer import TransformerConfig
from confide.config.tasks.tabular import TabularConfig
from confide.models.compute import make_compute
from confide.models.networks import trainable_tensors
from confide.models.workload import build_workload
from confide.protocol.messages import Reply, Request, pack_request, unpack_reply
from confide.protocol.new_plan import make_plan
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import LARGEST_FLOAT32, Tensors, decode, encode, shapes_of

NAME = "Cleveland"
ALLOWED = (
    "policy.budget.epsilon=4",
    "policy.max_epsilon=4",
    "policy.max_epochs=10",
    "policy.min_records=50",
    "policy.min_support=1",
    "policy.backbones=[any]",
    "trainer.num_threads=1",
    "data.id_column=id",
)
MOST_MEMORY_MB = 2000


@functools.cache
def plan() -> TrainingPlan:
    words = [*HEART, "job=genuine", "server.num_rounds=3", "data.public=true", "data.num_clients=1"]
    # Of plain local steps there may be any number, for a policy to deny
    words += ["client=poisson", "strategy=fedavg"]
    return make_plan(compose(words), backbone_sha256=None)


@functools.cache
def start() -> Tensors:
    compute = make_compute(compose([*HEART]).trainer)
    return trainable_tensors(
        build_workload(plan().task, plan().backbone, plan().tuning, compute=compute, seed=0).model
    )


def shifted(by: float) -> ArrayRecord:
    return encode({name: tensor + by for name, tensor in start().items()})


def question(asked: TrainingPlan | str, **request: Any) -> RecordDict:
    return pack_request(
        Request(plan=asked if isinstance(asked, str) else asked.to_json(), **request)
    )


def edited(job: str, **values: Any) -> str:
    """Write the plan of another job with some values set, by dotted key with __ for dots.

    No schema is asked.
    """
    raw = json.loads(plan().to_json()) | {"job": job}
    for key, value in values.items():
        *parts, last = key.split("__")
        functools.reduce(lambda node, part: node[part], parts, raw)[last] = value
    return json.dumps(raw)


def with_first(array: Array) -> ArrayRecord:
    record = encode(start())
    record[next(iter(record))] = array
    return record


class Garbage(ConfigRecord):
    """A record whose bytes are none."""

    def deflate(self) -> bytes:
        return b"ConfigRecord  7\0\xff\xff\xff\xff\xff\xff\xff"


def beyond_the_policy(records: Path) -> Iterator[tuple[str, str, Asked]]:
    """Yield attacks by plan: what, the code that is to come, the message."""
    task = plan().task
    assert isinstance(task, TabularConfig)
    columns = {name: column for name, column in task.columns.items() if name != "sex"}
    other = dataclasses.replace(
        task, label_column="sex", labels=["Male", "Female"], label_values={}, columns=columns
    )
    text = TransformerConfig(name="x")
    plans = {
        ("a million epochs", "plan_invalid"): edited(
            "a", client__local_epochs=10**6, client__local_steps=None
        ),
        ("ten thousand epochs", "policy_max_epochs"): edited(
            "a", client__local_epochs=10**4, client__local_steps=None
        ),
        ("epsilon 1000", "plan_invalid"): edited("b", privacy__epsilon=1e3),
        ("epsilon 50", "policy_max_epsilon"): edited("b", privacy__epsilon=50.0),
        ("delta", "policy_max_delta"): edited("b", privacy__delta=0.5),
        ("no privacy", "policy_required_unit"): edited("c", privacy__unit="none"),
        ("groups without a column", "privacy"): edited("c", privacy__unit="group"),
        ("another label", "task_not_served"): (
            dataclasses.replace(plan(), job="d", task=other).to_json()
        ),
        ("huge model", "policy_max_update_mb"): edited(
            "f", backbone=dataclasses.asdict(MlpConfig(hidden=[100_000] * 2))
        ),
        ("deep model", "plan_invalid"): edited(
            "f", backbone=dataclasses.asdict(MlpConfig(hidden=[1] * 20_000))
        ),
        ("other version", "plan_version"): edited("g", version=10**9),
        ("unknown key", "plan_invalid"): edited("g", evil=1),
        ("_target_", "plan_invalid"): edited("g", client___target_="os.system"),
        ("NaN", "plan_invalid"): plan().to_json().replace('"epsilon":3.0', '"epsilon":NaN'),
        ("nested", "plan_invalid"): "[" * 100_000 + "]" * 100_000,
        ("code", "plan_invalid"): "__import__('os').system('id')",
        ("100 MB", "too_large"): plan().to_json() + " " * 100_000_000,
    }
    for (what, code), asked in plans.items():
        yield what, code, ("query", question(asked))
    for path in ("/etc", str(records), "../../client.yaml"):
        backbone = dataclasses.asdict(dataclasses.replace(text, name=path))
        asked = edited("e", backbone=backbone, backbone_sha256="ab" * 32)
        yield f"backbone {path}", "backbone_not_here", ("query", question(asked))
    downloads = dataclasses.asdict(
        dataclasses.replace(text, name="bert-base-uncased", allow_download=True)
    )
    asked = edited("e", backbone=downloads, backbone_sha256="ab" * 32)
    yield "download", "policy_allow_download", ("query", question(asked))
    doubled = plan().to_json()[:-1] + ',"num_rounds":4}'
    yield "a key twice", "plan_changed", ("query", question(doubled))


def beyond_the_protocol() -> Iterator[tuple[str, str, Asked]]:
    """Yield attacks by tensors, rounds, heads and records.

    What, the code that is to come, the message.
    """
    first, tensor = next(iter(start().items()))
    shape, buffer = tuple(tensor.shape), io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    arrays = {
        ("pickle", "tensor_dtype"): with_first(
            Array("float32", shape, "pickle", pickle.dumps(print))
        ),
        ("objects", "tensor_dtype"): with_first(
            Array("object", (1,), "numpy.ndarray", buffer.getvalue())
        ),
        ("objects as floats", "tensor_shape"): with_first(
            Array("float32", shape, "numpy.ndarray", buffer.getvalue())
        ),
        ("shape", "tensor_shape"): encode(
            {name: value.flatten()[:1] for name, value in start().items()}
        ),
        ("NaN in a tensor", "tensor_values"): encode(
            {name: value * math.nan for name, value in start().items()}
        ),
        ("names of files", "tensor_names"): encode(
            {f"../../{name}\x1b[2J\n": value for name, value in start().items()}
        ),
        ("a thousand names", "tensor_names"): encode(
            {f"{first}-{i}": torch.ones(1) for i in range(1000)}
        ),
    }
    for (what, code), record in arrays.items():
        yield what, code, ("train", question(plan(), server_round=2, arrays=record))
    for number in (-1, 0, 4, 10**9, 2**62):
        yield (
            f"round {number}",
            "rounds_spent",
            ("train", question(plan(), server_round=number, arrays=encode(start()))),
        )
    for head in ("99:" + "ab" * 32, "-1:x", "x" * 250):
        about = {"server_round": 1, "arrays": encode(start()), "ledger_head": head}
        yield f"head {head}", "ledger", ("train", question(plan(), **about))
    odd = ConfigRecord({"plan": b"x", "server-round": "1", "splits": [1.5]})
    there = ConfigRecord({"plan": plan().to_json(), "server-round": 1, "splits": []})
    nowhere = ConfigRecord({"plan": plan().to_json(), "server-round": 1, "splits": ["../x"]})
    for record in (RecordDict(), RecordDict({"request": odd}), RecordDict({"request": nowhere})):
        yield "record", "invalid_message", ("train", record)
    yield (
        "metrics as tensors",
        "invalid_message",
        ("train", RecordDict({"request": there, "arrays": MetricRecord({"a": 1})})),
    )


class Victim:
    """What the test sees of the institution: its processes, its ledger, its disk."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment, self.kit = deployment, deployment.kit(NAME)

    def budget(self) -> Mapping[str, float]:
        """Return what its ledger says."""
        told = confide("client", "status", str(self.kit), "data.path=x", *ALLOWED, "--json").stdout
        found: Mapping[str, float] = json.loads(told)["budgets"]["everybody"]
        return found

    def processes(self) -> dict[str, int]:
        return self._deployment.process_ids()

    def most_memory_mb(self) -> dict[str, int]:
        """Return the most that each of its processes ever held."""
        statuses = {
            name: Path(f"/proc/{pid}/status").read_text() for name, pid in self.processes().items()
        }
        return {
            name: int(text.split("VmHWM:")[1].split()[0]) // 1024 for name, text in statuses.items()
        }

    def marked_files(self) -> list[str]:
        """Return files outside the coordinator's own folder that hold a line of the bundle."""
        places = [
            self._deployment.folder / "kits" / "institutions",
            self._deployment.folder / "records",
            Path.home() / ".flwr",
        ]
        found = subprocess.run(
            ["grep", "-rl", MARK, *map(str, places)], capture_output=True, text=True, check=False
        )
        return found.stdout.splitlines()


def refusal_of(message: Message, folder: Path) -> Reply:
    """Read a refusal, and check that it says a code and figures, and nothing else."""
    assert not message.has_error(), message.error
    text = repr(message.content)
    assert str(folder) not in text
    assert not re.search("Traceback|Error|Exception", text), text[:2000]
    reply = unpack_reply(message.content)
    assert reply.institution == NAME
    assert reply.arrays is None
    assert not reply.evaluations
    return reply


@pytest.mark.slow
@pytest.mark.timeout(480)
@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")
def test_hostile_coordinator_gets_what_policy_and_budget_allow_and_no_more() -> None:
    with Deployment(institutions=(NAME,), client_overrides=ALLOWED) as deployment:
        deployment.start_clients()
        records, victim = deployment.folder / "records" / f"{NAME}.csv", Victim(deployment)
        place = deployment.folder / "place"
        bundle = hostile_bundle(place, [str(records), str(victim.kit / "client.yaml")])
        coordinator = HostileCoordinator(deployment.coordinator_kit)
        with coordinator.running(bundle, {"job": "__import__('os')", "partition-id": 10**6}):
            processes = victim.processes()
            _takes_its_rounds_and_no_more(coordinator, victim)
            _is_refused(
                coordinator,
                [*beyond_the_policy(records), *beyond_the_protocol()],
                deployment.folder,
            )
            _gets_no_training_metrics(coordinator)
            _gets_errors_without_text(coordinator)
            again = coordinator.ask(
                NAME, "train", question(plan(), server_round=1, arrays=shifted(0))
            )
            assert again.arrays is not None, again.refusal
            assert victim.budget()["committed"] == pytest.approx(3.0, abs=0.01)
            assert victim.processes() == processes, "a process was started again"
            assert max(victim.most_memory_mb().values()) < MOST_MEMORY_MB, victim.most_memory_mb()
        assert not place.exists(), sorted(place.rglob("*"))
        assert victim.marked_files() == []
        assert not any(found.name == "pyjokes" for found in importlib.metadata.distributions())


def _takes_its_rounds_and_no_more(coordinator: HostileCoordinator, victim: Victim) -> None:
    """Ask for one round with other tensors again and again.

    Each is a round of the schedule, with noise of its own.
    """
    assert coordinator.ask(NAME, "query", question(plan())).refusal is None
    asked = [
        ("train", question(plan(), server_round=1, arrays=shifted(by)))
        for by in (0.0, 1e-7, 0.0, 2e-7, 3e-7)
    ]
    replies = []
    for one in asked:  # one after the other: the first that comes takes the schedule's next round
        replies.append(coordinator.ask(NAME, *one))
    assert [reply.refusal for reply in replies] == [None, None, None, None, "rounds_spent"]
    shapes = shapes_of(start())
    updates = [
        decode(r.arrays, shapes, max_value=LARGEST_FLOAT32).tensors
        for r in replies[:4]
        if r.arrays is not None
    ]
    assert all(torch.equal(updates[0][name], updates[2][name]) for name in shapes)
    for other in (updates[1], updates[3]):  # equal noise would cancel, and leave the records
        assert max(float((updates[0][name] - other[name]).abs().max()) for name in shapes) > 1e-3

    budget = victim.budget()
    assert budget["committed"] == pytest.approx(3.0, abs=0.01)
    assert budget["spent"] == pytest.approx(replies[3].figures["epsilon"], abs=0.05)
    more = dataclasses.replace(plan(), job="another")
    assert (
        coordinator.ask(NAME, "train", question(more, server_round=1, arrays=shifted(0))).refusal
        == "budget_exhausted"
    )


def _is_refused(
    coordinator: HostileCoordinator, attacks: list[tuple[str, str, Asked]], folder: Path
) -> None:
    replies = coordinator.send_all(NAME, [asked for _, _, asked in attacks], timeout_s=200)
    told = {
        what: refusal_of(reply, folder).refusal
        for (what, _, _), reply in zip(attacks, replies, strict=True)
    }
    assert told == {what: code for what, code, _ in attacks}


def _gets_no_training_metrics(coordinator: HostileCoordinator) -> None:
    for splits, scored in (
        (["train"], set()),
        (["train", "validation", "test"], {"validation", "test"}),
    ):
        reply = coordinator.ask(
            NAME, "evaluate", question(plan(), arrays=encode(start()), splits=splits)
        )
        assert reply.refusal is None
        assert set(reply.evaluations) == scored
    asked = [question(plan(), arrays=shifted(by), splits=["test"]) for by in (0.1, 0.2, 0.3, 0.4)]
    refusals = [
        coordinator.ask(NAME, "evaluate", one).refusal for one in asked
    ]  # scores of many would tell a label: the plan declares one release of test scores
    assert refusals == ["scores_spent"] * 4


def _gets_errors_without_text(coordinator: HostileCoordinator) -> None:
    """Send what is no question at all."""
    genuine = question(plan(), server_round=1, arrays=encode(start()))
    kinds: list[Asked] = [(kind, genuine) for kind in ("train.other", "evaluate.x", "query.y")]
    *replies, unread = coordinator.send_all(
        NAME, [*kinds, ("train", RecordDict({"request": Garbage()}))], timeout_s=120
    )
    assert unpack_reply(unread.content).refusal == "invalid_message"
    for reply in replies:
        assert reply.has_error()
        assert reply.error.reason in (None, "", "ClientApp stopped responding."), reply.error
