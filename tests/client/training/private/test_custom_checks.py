"""A plan may name a task of somebody's own.

An institution imports it only if its own policy lists that very path.
"""

import dataclasses
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import build_institution, build_records
from small_kit import PRIVATE, TASK, make_kit

from confide.client.deployment.kit import InstitutionKit
from confide.client.deployment.served import DeployedInstitution
from confide.client.records.checked import load_checked_records
from confide.client.training.deadline import Deadline
from confide.client.training.private import gradients
from confide.client.training.private.custom_checks import check_encoding, check_losses
from confide.client.training.trainer import Trainer
from confide.config.privacy import PolicyConfig
from confide.errors import ConfigError, DeniedError, PrivacyError, ProtocolError
from confide.models.compute import Compute
from confide.models.workload import build_workload, shapes_without_weights
from confide.protocol.messages import Reply, Request
from confide.protocol.plan import TrainingPlan

MARKER = "was_imported"
MODULE = f"""
import pathlib
import torch
from confide.tasks.tabular import Tabular

pathlib.Path(__file__).with_name("{MARKER}").touch()

class Plain(Tabular):
    def __init__(self, config, *, scale=1.0):
        super().__init__(config)
        self.scale = scale
    def loss(self, outputs, batch): return self.scale * super().loss(outputs, batch)

class MixesRecords(Tabular):
    def loss(self, outputs, batch):
        losses = super().loss(outputs, batch)
        return losses * losses.mean()

class MixesLargeBatches(Tabular):
    def loss(self, outputs, batch):
        losses = super().loss(outputs, batch)
        return losses - losses.mean() if len(losses) > 8 else losses

class MeanLoss(Tabular):
    def loss(self, outputs, batch): return super().loss(outputs, batch).mean()

class Remembers(Tabular):
    seen = 0
    def loss(self, outputs, batch):
        self.seen += len(outputs)
        return super().loss(outputs, batch) * (1 + self.seen / 100)

class EqualRecords(Tabular):
    def synthetic(self, count, generator):
        examples = super().synthetic(1, generator)
        columns = examples.columns.items()
        return type(examples)({{name: torch.cat([column] * count) for name, column in columns}})

class OneRecord(Tabular):
    def synthetic(self, count, generator): return super().synthetic(1, generator)

class OneLabel(Tabular):
    def synthetic(self, count, generator):
        examples = super().synthetic(count, generator)
        return type(examples)(dict(examples.columns, labels=examples.labels * 0))

class MixesUnlikeLabels(OneLabel):
    def loss(self, outputs, batch):
        labels = batch["labels"]
        return super().loss(outputs, batch) * (1 + labels.float().mean() - labels[0])

class Centres(Tabular):
    def encode(self, records):
        examples = super().encode(records)
        features = examples.columns["features"]
        return type(examples)(dict(examples.columns, features=features - features.mean(dim=0)))

class OtherLabels(Tabular):
    def __init__(self, config):
        super().__init__(config)
        self.labels = ("a", "b", "c")
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "vetted.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("vetted", None)


def own(name: str = "vetted.Plain", **kwargs: Any) -> TrainingPlan:
    return dataclasses.replace(
        PRIVATE, task=dataclasses.replace(TASK, _target_=name, kwargs=kwargs)
    )


def build(plan: TrainingPlan) -> Any:
    compute, listed = Compute(), plan.task.custom_tasks
    return build_workload(
        plan.task, plan.backbone, plan.tuning, compute=compute, seed=0, custom_tasks=listed
    )


def ask(kit: InstitutionKit, plan: TrainingPlan) -> Reply:
    return DeployedInstitution(kit, deadline=Deadline()).handle(
        "query", Request(plan=plan.to_json())
    )


def listing(folder: Path, *tasks: str, **settings: Any) -> InstitutionKit:
    """Make a kit that pins the vetted task."""
    pinned = {"task": dataclasses.asdict(own(scale=2.0).task), **settings}
    return make_kit(folder / "kit", f"policy.tasks=[{','.join(tasks)}]", **pinned)


def imported(folder: Path) -> bool:
    return (folder / MARKER).exists() or "vetted" in sys.modules


@pytest.mark.parametrize(
    "name", ["vetted.Plain", "os.system", "vetted.Plain.loss", "subprocess.Popen", "tabular.any"]
)
def test_deployed_institution_imports_nothing_on_a_plans_word(tmp_path: Path, name: str) -> None:
    assert ask(listing(tmp_path, "tabular"), own(name)).refusal == "policy_tasks"
    assert not imported(tmp_path)


@pytest.mark.parametrize("listed", ["vetted.Plai", "vetted.plain", "other.vetted.Plain"])
def test_path_must_be_listed_to_the_letter(tmp_path: Path, listed: str) -> None:
    assert ask(listing(tmp_path, "tabular", listed), own()).refusal == "policy_tasks"
    assert not imported(tmp_path)


def test_pinned_task_leaves_no_room_for_ones_own(tmp_path: Path) -> None:
    assert (
        ask(
            listing(tmp_path, "tabular", "vetted.Plain", task=dataclasses.asdict(TASK)), own()
        ).refusal
        == "task_not_served"
    )
    assert not imported(tmp_path)


def test_listed_task_is_served(tmp_path: Path) -> None:
    reply = ask(listing(tmp_path, "vetted.Plain"), own(scale=2.0))
    assert reply.refusal is None
    assert imported(tmp_path)


def test_kit_that_would_import_anything_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"policy\.tasks=any is for simulations"):
        listing(tmp_path, "any")


def test_door_of_a_simulated_institution_denies_it_too(tmp_path: Path) -> None:
    trainer = Trainer(build(PRIVATE), private=False)
    data = build_records(trainer.workload, train=200)
    door = build_institution(own(), data, trainer=trainer, policy=PolicyConfig(), key_fn=None)
    assert door.handle("query", Request(plan=own().to_json())).refusal == "policy_tasks"
    assert not imported(tmp_path)


@pytest.mark.parametrize("allowed", [(), ("tabular",), ("any",), ("vetted",), ("vetted.*",)])
def test_nothing_is_built_that_is_not_listed_even_without_a_policy(
    tmp_path: Path, allowed: tuple[str, ...]
) -> None:
    task = own().task
    with pytest.raises(DeniedError, match="nothing is imported on a plan's word"):
        build_workload(
            task, PRIVATE.backbone, PRIVATE.tuning, compute=Compute(), seed=0, custom_tasks=allowed
        )
    with pytest.raises(DeniedError, match="nothing is imported on a plan's word"):
        shapes_without_weights(task, PRIVATE.backbone, custom_tasks=allowed)
    assert not imported(tmp_path)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"_target_": "os"}, "expected a dotted path"),
        ({"_target_": "os.system('id')"}, "expected a dotted path"),
        ({"_target_": "a." + "b" * 500}, "expected a dotted path"),
        ({"_target_": "../evil.Task"}, "expected a dotted path"),
        ({"_target_": ["os.system"]}, "task"),
        ({"_target_": "a.b", "kwargs": {"x": {"_target_": "os.system"}}}, "task"),
        ({"_target_": "a.b", "kwargs": {"x": [1]}}, "task"),
        ({"kwargs": {"x": 1}}, "no effect without _target_"),
        ({"_args_": ["id"]}, "task"),
    ],
)
def test_plan_that_names_a_task_otherwise_is_no_plan(task: dict[str, Any], words: str) -> None:
    raw = json.loads(PRIVATE.to_json())
    raw["task"] |= task
    with pytest.raises(ProtocolError, match=words) as caught:
        TrainingPlan.from_json(json.dumps(raw))
    assert caught.value.code == "plan_invalid"


def test_plan_without_ones_own_task_reads_as_ever() -> None:
    assert "_target_" not in PRIVATE.to_json()
    assert TrainingPlan.from_json(own(scale=2.0).to_json()) == own(scale=2.0)


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (
            own("vetted.OtherLabels"),
            r"labels=\['a', 'b', 'c'\], expected task.labels=\['no', 'yes'\]",
        ),
        (own(factor=3), "unexpected keyword argument 'factor'"),
        (own("json.dumps"), "json.dumps raises TypeError"),
        (own("builtins.id"), "builtins.id returns int, expected a Task; it lacks labels"),
    ],
)
def test_what_is_no_task_is_refused(plan: TrainingPlan, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build(plan)


def test_loss_that_mixes_records_is_refused_before_the_first_private_step() -> None:
    with pytest.raises(PrivacyError):
        Trainer(build(own("vetted.MixesRecords")), private=True)
    Trainer(build(own()), private=True)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("MixesLargeBatches", "in a batch of 33 is not its loss alone"),
        ("MeanLoss", r"loss of 4 records has shape \[\], expected \[4\]"),
        ("Remembers", "is not its loss alone"),
        ("EqualRecords", r"synthetic\(4\) gives 4 records, all alike"),
        ("OneRecord", r"synthetic\(4\) gives 1 records"),
        ("MixesUnlikeLabels", "in a batch of 4 is not its loss alone"),
    ],
)
def test_loss_that_small_batches_do_not_give_away_is_refused(name: str, words: str) -> None:
    with pytest.raises(PrivacyError, match=words):
        Trainer(build(own(f"vetted.{name}")), private=True)
    Trainer(build(own(f"vetted.{name}")), private=False)


def test_records_of_one_label_are_no_reason_to_refuse_a_task() -> None:
    Trainer(build(own("vetted.OneLabel")), private=True)


def test_encoding_that_reads_a_record_in_the_light_of_others_is_refused(tmp_path: Path) -> None:
    pinned = dataclasses.asdict(own("vetted.Centres").task)
    kit = listing(tmp_path, "vetted.Centres", "vetted.Plain", task=pinned)
    records = load_checked_records(kit.data, TASK).records
    check_encoding(build(own()), records)
    check_encoding(build(PRIVATE), records)
    with pytest.raises(
        PrivacyError,
        match="encode gives column features of a record other values alone than beside",
    ):
        check_encoding(build(own("vetted.Centres")), records)
    assert ask(kit, own("vetted.Centres")).refusal == "privacy"


def test_built_in_tasks_have_to_encode_records_by_themselves_too(tmp_path: Path) -> None:
    kit = listing(tmp_path, "vetted.Centres")
    records = load_checked_records(kit.data, TASK).records
    planted = replace(build(own("vetted.Centres")), custom_task=None)
    with pytest.raises(PrivacyError, match="this backbone and its tokenizer: encode gives column"):
        check_encoding(planted, records)


@pytest.mark.parametrize("name", ["MixesLargeBatches", "Remembers"])
def test_built_in_tasks_have_to_keep_losses_apart_in_larger_batches_too(
    tmp_path: Path, name: str
) -> None:
    listing(tmp_path, f"vetted.{name}")
    planted = replace(build(own(f"vetted.{name}")), custom_task=None)
    params = list(planted.model.parameters())
    with pytest.raises(PrivacyError, match="this backbone and its tokenizer: the loss of"):
        check_losses(planted, params)
    with pytest.raises(PrivacyError):
        Trainer(planted, private=True)


def test_trainer_asks_built_in_tasks_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []
    monkeypatch.setattr(
        gradients, "check_losses", lambda workload, *_: asked.append(workload.custom_task)
    )
    Trainer(build(PRIVATE), private=True)
    assert asked == [None]
