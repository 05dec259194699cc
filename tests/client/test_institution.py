"""One door: what it answers, what it refuses, and that a refusal gives nothing away."""

import functools
import json
import math
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from builders import (
    build_institution,
    build_plan,
    build_records,
    build_request,
    key_of,
    workload_of,
)
from company import ALONE, TOGETHER
from torch import Tensor

from confide.client.institution import Institution
from confide.client.records.encoded import InstitutionData
from confide.client.reservation import KeyFn
from confide.client.training.trainer import Trainer
from confide.config.client import ClientConfig
from confide.config.models.perceptrons import MlpConfig
from confide.config.privacy import PrivacyConfig
from confide.config.tunings.lora import LoraConfig
from confide.errors import ConfigError, DataError, ModelError, PrivacyError, ProtocolError
from confide.models.networks import trainable_tensors
from confide.models.workload import Workload
from confide.privacy.randomness import derive_key
from confide.protocol.messages import Reply, Request, pack_reply
from confide.protocol.plan import PLAN_VERSION, TrainingPlan
from confide.protocol.tensors import Shapes, Tensors, decode
from confide.tasks.task import Examples

CANARY = "patient-4711-has-gout"
TRAIN, VALIDATION, TEST = 40, 6, 5
NUM_ROUNDS, SPARE = 2, 1
EPSILON, DELTA = 4.0, 1e-3
PLAN = build_plan(
    job="door",
    client=ClientConfig(batch_size=8, local_steps=3),
    privacy=PrivacyConfig(unit="record", epsilon=EPSILON, delta=DELTA, spare_rounds=SPARE),
    num_rounds=NUM_ROUNDS,
)
PLAIN = replace(PLAN, privacy=PrivacyConfig())
WRONG_VALUES = {
    "nan": lambda t: t.fill_(math.nan),
    "infinity": lambda t: t.fill_(math.inf),
    "minus infinity": lambda t: t.fill_(-math.inf),
}


def make_workload() -> Workload:
    return workload_of(PLAN)


START: Tensors = trainable_tensors(make_workload().model)


def make_data(**sizes: int) -> InstitutionData:
    return build_records(
        make_workload(), **{"train": TRAIN, "validation": VALIDATION, "test": TEST, **sizes}
    )


_TRAINERS = {private: Trainer(make_workload(), private=private) for private in (False, True)}


def make_institution(
    *,
    private: bool = True,
    data: InstitutionData | None = None,
    trainer: Any = None,
    key_fn: KeyFn = key_of,
) -> Institution:
    plan = PLAN if private else PLAIN
    return build_institution(
        plan, data or make_data(), trainer=trainer or _TRAINERS[private], key_fn=key_fn
    )


def ask(
    plan: TrainingPlan = PLAN, server_round: int = 1, tensors: Tensors | None = START, **fields: Any
) -> Request:
    return build_request(plan, server_round, tensors=tensors, **fields)


def update_of(reply: Reply) -> Tensor:
    assert reply.refusal is None
    assert reply.arrays is not None
    tensors = decode(reply.arrays, _TRAINERS[True].shapes, max_value=1e9).tensors
    return torch.cat([tensor.flatten() for tensor in tensors.values()])


# --- answers


def test_query_describes_records_and_noise() -> None:
    reply = make_institution().handle("query", ask(tensors=None))
    assert (reply.institution, reply.refusal, reply.num_examples, reply.arrays) == (
        "ward",
        None,
        TRAIN,
        None,
    )
    assert reply.figures["sampling_rate"] == 8 / TRAIN
    assert reply.figures["noise_multiplier"] > 0
    assert 0.99 * EPSILON < reply.figures["epsilon_planned"] <= EPSILON


def test_query_without_privacy_promises_nothing() -> None:
    reply = make_institution(private=False).handle("query", ask(PLAIN, tensors=None))
    assert (reply.num_examples, reply.figures) == (TRAIN, {})


def test_train_answers_with_an_update_and_what_it_cost() -> None:
    reply = make_institution().handle("train", ask())
    assert update_of(reply).abs().sum() > 0
    assert reply.num_examples == TRAIN
    assert 0 < reply.figures["epsilon"] < EPSILON


def test_train_evaluates_the_tensors_it_was_sent_on_validation_alone() -> None:
    institution = make_institution()
    trained, evaluated = (
        institution.handle("train", ask()),
        institution.handle("evaluate", ask(splits=["validation"])),
    )
    assert list(trained.evaluations) == ["validation"]
    assert trained.evaluations == evaluated.evaluations


def test_evaluate_scores_the_splits_asked_for() -> None:
    reply = make_institution().handle("evaluate", ask(splits=["validation", "test"]))
    assert {split: metrics["num_examples"] for split, metrics in reply.evaluations.items()} == {
        "validation": VALIDATION,
        "test": TEST,
    }
    assert "accuracy" in reply.evaluations["test"]
    assert reply.arrays is None


def test_train_split_is_never_evaluated() -> None:
    reply = make_institution().handle("evaluate", ask(splits=["train", "test"]))
    assert list(reply.evaluations) == ["test"]


def test_metrics_of_empty_splits_are_left_out() -> None:
    institution = make_institution(data=make_data(validation=0))
    assert institution.handle("train", ask()).evaluations == {}
    assert list(institution.handle("evaluate", ask(splits=["validation", "test"])).evaluations) == [
        "test"
    ]


@pytest.mark.parametrize("private", [False, True])
def test_own_key_decides_under_privacy_and_the_plan_seed_without(private: bool) -> None:
    plan, updates = PLAN if private else PLAIN, []
    for secret in (bytes(32), bytes([1]) * 32):
        key_fn = functools.partial(derive_key, secret)
        institution = make_institution(private=private, key_fn=key_fn)
        updates.append(update_of(institution.handle("train", ask(plan))))
    assert updates[0].equal(updates[1]) != private


def test_plan_seed_orders_batches_without_privacy() -> None:
    one, other = (
        update_of(make_institution(private=False).handle("train", ask(replace(PLAIN, seed=s))))
        for s in (1, 2)
    )
    assert not one.equal(other)


# --- refusals


def refusal(institution: Institution, request: Request, kind: str = "train") -> str | None:
    reply = institution.handle(kind, request)
    assert reply.arrays is None or reply.refusal is None
    return reply.refusal


@pytest.mark.parametrize("kind", ["query", "train", "evaluate"])
@pytest.mark.parametrize("version", [PLAN_VERSION + 1, None, "1"])
def test_plan_of_another_version_is_refused(kind: str, version: object) -> None:
    newer = json.dumps({**json.loads(PLAN.to_json()), "version": version, "new-key": 1})
    assert refusal(make_institution(), Request(plan=newer), kind) == "plan_version"


@pytest.mark.parametrize(
    "text", ["", "{", "not json", '{"version": 1}', '{"version": 1, "job": 3}']
)
def test_plan_that_is_no_plan_is_refused(text: str) -> None:
    assert refusal(make_institution(), Request(plan=text)) == "plan_invalid"


@pytest.mark.parametrize(
    "change",
    [
        {"unheard": 1},
        {"num_rounds": 0},
        {"num_rounds": "2"},
        {"relation": "add-remove"},
        {"seed": 1.5},
    ],
)
def test_plan_outside_its_schema_is_refused(change: dict[str, object]) -> None:
    text = json.dumps({**json.loads(PLAN.to_json()), **change})
    assert refusal(make_institution(), Request(plan=text), "query") == "plan_invalid"


@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_missing_tensors_are_refused(kind: str) -> None:
    name = next(iter(START))
    fewer = {key: tensor for key, tensor in START.items() if key != name}
    assert refusal(make_institution(), ask(tensors=fewer), kind) == "tensor_names"
    assert refusal(make_institution(), ask(tensors=None), kind) == "tensor_names"


@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_extra_tensor_is_refused(kind: str) -> None:
    assert (
        refusal(make_institution(), ask(tensors={**START, "extra": torch.zeros(1)}), kind)
        == "tensor_names"
    )


def test_tensor_of_another_shape_is_refused() -> None:
    wrong = {name: torch.zeros((*tensor.shape, 1)) for name, tensor in START.items()}
    assert refusal(make_institution(), ask(tensors=wrong)) == "tensor_shape"


@pytest.mark.parametrize("kind", ["train", "evaluate"])
@pytest.mark.parametrize("value", WRONG_VALUES)
def test_values_that_are_not_finite_are_refused(value: str, kind: str) -> None:
    wrong = {name: tensor.clone() for name, tensor in START.items()}
    WRONG_VALUES[value](wrong[next(iter(START))][:1])
    assert refusal(make_institution(), ask(tensors=wrong), kind) == "tensor_values"


def test_delta_that_protects_nobody_is_refused() -> None:
    weak = replace(PLAN, privacy=replace(PLAN.privacy, delta=1 / TRAIN))
    assert refusal(make_institution(), ask(weak)) == "privacy"


@pytest.mark.parametrize("kind", ["query", "train", "evaluate"])
@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"task": replace(PLAN.task, labels=["yes", "no"])}, "plan_not_served"),
        ({"backbone": MlpConfig()}, "plan_not_served"),
        ({"backbone_sha256": "0" * 64}, "plan_not_served"),
        ({"tuning": LoraConfig()}, "plan_not_served"),
        ({"privacy": PrivacyConfig()}, "privacy"),
    ],
    ids=["task", "backbone", "hash", "tuning", "no privacy"],
)
def test_plan_that_was_not_agreed_on_is_refused(
    change: dict[str, Any], code: str, kind: str
) -> None:
    assert refusal(make_institution(), ask(replace(PLAN, **change), splits=["test"]), kind) == code


# --- rounds


def test_repeated_round_counts_once() -> None:
    institution = make_institution()
    costs = [
        institution.handle("train", ask(server_round=r)).figures["epsilon"] for r in (1, 1, 2, 3, 3)
    ]
    assert costs[0] == costs[1] < costs[2] < costs[3] == costs[4] <= EPSILON


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("engine", [ALONE, TOGETHER], indirect=True)
def test_repeated_round_gives_the_same_answer() -> None:
    institution = make_institution()
    first, second = (update_of(institution.handle("train", ask())) for _ in range(2))
    assert first.equal(second)


@pytest.mark.parametrize("beyond", [-1, 0, NUM_ROUNDS + SPARE + 1, 2**31])
def test_round_beyond_the_schedule_is_refused(beyond: int) -> None:
    reply = make_institution().handle("train", ask(server_round=beyond))
    assert (reply.refusal, reply.arrays) == ("rounds_spent", None)
    assert reply.figures["allowed"] == NUM_ROUNDS + SPARE


def test_refused_round_is_told_what_it_asked() -> None:
    figures = make_institution().handle("train", ask(server_round=99)).figures
    assert figures["asked"] > figures["allowed"]


def test_refused_round_costs_nothing() -> None:
    institution = make_institution()
    institution.handle("train", ask(server_round=99))
    fresh = make_institution().handle("train", ask()).figures
    assert institution.handle("train", ask()).figures == fresh


def test_round_that_breaks_off_counts() -> None:
    institution = make_institution(trainer=BrokenTrainer(RuntimeError(CANARY), in_scores=False))
    assert institution.handle("train", ask()).refusal == "internal_error"
    institution._rounds._trainer = _TRAINERS[True]
    one = make_institution().handle("train", ask()).figures["epsilon"]
    assert institution.handle("train", ask(server_round=2)).figures["epsilon"] > one


def shifted(tensors: Tensors, by: float) -> Tensors:
    return {name: tensor + by for name, tensor in tensors.items()}


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("engine", [ALONE, TOGETHER], indirect=True)
def test_one_round_asked_with_other_tensors_does_not_reveal_its_noise() -> None:
    """Equal noise on different inputs cancels.

    The second must be refused, or be under noise of its own.
    """
    institution = make_institution()
    first = institution.handle("train", ask(tensors=START))
    second = institution.handle("train", ask(tensors=shifted(START, 1e-4)))
    sigma = institution.handle("query", ask(tensors=None)).figures["noise_multiplier"]
    std = PLAN.client.optimizer.learning_rate * sigma * PLAN.privacy.clipping_norm / 8
    assert second.refusal is not None or (update_of(first) - update_of(second)).norm() > std


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("engine", [ALONE, TOGETHER], indirect=True)
def test_one_round_asked_with_other_tensors_counts_again() -> None:
    institution = make_institution()
    costs = [
        institution.handle("train", ask(tensors=shifted(START, by))).figures
        for by in (0, 1e-4, 1e-3)
    ]
    assert costs[0]["epsilon"] < costs[1]["epsilon"] < costs[2]["epsilon"] <= EPSILON
    assert refusal(institution, ask(tensors=shifted(START, 1.0))) == "rounds_spent"


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("engine", [ALONE, TOGETHER], indirect=True)
def test_one_round_asked_under_another_plan_does_not_reveal_its_noise() -> None:
    """At twice the clipping norm the same stream is twice the noise, so one reply subtracted from
    another has none.
    """
    institution, steep = make_institution(), ClientConfig(batch_size=8, local_steps=1)
    plans = [
        replace(PLAN, client=steep, privacy=replace(PLAN.privacy, clipping_norm=clip))
        for clip in (1e3, 2e3)
    ]
    replies = [institution.handle("train", ask(plan)) for plan in plans]
    assert replies[1].refusal is not None or not torch.allclose(
        2 * update_of(replies[0]), update_of(replies[1]), rtol=0.05
    )


def test_job_cannot_grow_its_budget_with_a_second_plan() -> None:
    institution, spent = make_institution(), 0.0
    for server_round, epsilon in enumerate((EPSILON, 2 * EPSILON), start=1):
        plan = replace(PLAN, privacy=replace(PLAN.privacy, epsilon=epsilon))
        reply = institution.handle("train", ask(plan, server_round))
        spent = max(spent, reply.figures.get("epsilon", 0.0) if reply.refusal is None else 0.0)
    assert spent <= EPSILON


# --- nothing leaks


class BrokenTrainer:
    """Fails as told, with a text that quotes a record."""

    def __init__(self, error: Exception, *, in_scores: bool = True) -> None:
        self._error = error
        self._in_scores = in_scores

    @property
    def shapes(self) -> Shapes:
        return _TRAINERS[True].shapes

    def check_margin(self, schedule: object) -> None:
        """Find nothing: what breaks here is the training."""

    def check_rows(self, tensors: Tensors, schedule: object) -> None:
        """Find nothing: what breaks here is the training."""

    def train(self, start: Tensors, examples: Examples, **_: object) -> Tensors:
        raise self._error

    @property
    def workload(self) -> Workload:
        return _TRAINERS[True].workload

    def scores(self, tensors: Tensors | None, examples: Examples) -> torch.Tensor:
        if self._in_scores:
            raise self._error
        return _TRAINERS[True].scores(tensors, examples)


def wire(reply: Reply) -> str:
    records = pack_reply(reply)
    return " ".join(repr(dict(cast(Any, record))) for record in records.values()) + repr(reply)


@pytest.mark.parametrize("kind", ["train", "evaluate"])
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuntimeError(CANARY), "internal_error"),
        (KeyError(CANARY), "internal_error"),
        (MemoryError(CANARY), "internal_error"),
        (AssertionError(CANARY), "internal_error"),
        (PrivacyError(CANARY), "privacy"),
        (DataError(CANARY), "cannot_comply"),
        (ModelError(CANARY), "cannot_comply"),
        (ConfigError(CANARY), "cannot_comply"),
        (ProtocolError(CANARY), "invalid_message"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_text_of_an_exception_stays_inside(
    error: Exception, code: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    reply = make_institution(trainer=BrokenTrainer(error)).handle(kind, ask(splits=["test"]))
    assert (reply.institution, reply.refusal, reply.arrays) == ("ward", code, None)
    assert CANARY not in wire(reply)
    assert (dict(reply.figures), dict(reply.evaluations), reply.num_examples) == ({}, {}, 0)
    assert CANARY in caplog.text  # the institution's own log has it


def test_request_of_an_unknown_kind_is_refused() -> None:
    assert refusal(make_institution(), ask(), "delete") == "internal_error"
