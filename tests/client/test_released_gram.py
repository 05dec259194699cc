"""A Gram matrix asked of an institution: charged before it leaves, once, with the noise told."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from builders import build_plan
from scipy import stats

from confide.client.deployment.kit import InstitutionKit, load_kit
from confide.client.deployment.served import DeployedInstitution
from confide.client.ledger.file import LedgerFile
from confide.client.training.deadline import Deadline
from confide.config.client import ClientConfig, OptimizerConfig
from confide.config.models.perceptrons import LogisticConfig
from confide.config.privacy import PrivacyConfig
from confide.config.strategies.strategy import PrivateNewtonConfig
from confide.config.tasks.columns import ColumnConfig, NumericConfig
from confide.config.tasks.tabular import TabularConfig
from confide.protocol.messages import Reply, Request
from confide.protocol.plan import TrainingPlan
from confide.protocol.released_gram import ReleasedGram
from confide.protocol.releases import release_plan, release_shapes
from confide.protocol.tensors import Decoder, encode
from confide.releases.gram import GRAM, unpacked
from confide.strategies.algorithms.gradient_sum import noise_multiplier

TASK = TabularConfig(
    labels=["no", "yes"],
    label_column="ill",
    columns={
        "age": ColumnConfig(minimum=0.0, maximum=100.0),
        "sex": ColumnConfig(kind="categorical", categories=["f", "m"]),
        "never": ColumnConfig(
            kind="categorical", categories=[f"c{i}" for i in range(60)], unseen="missing"
        ),
    },
    numeric=NumericConfig(bins=4),
)
WIDTH = 4 + 2 + 60 + 1
PLAN = build_plan(
    task=TASK,
    backbone=LogisticConfig(row_norm=3.0),
    objective=PrivateNewtonConfig(),
    client=ClientConfig(
        local_steps=1, sampling_rate=1.0, optimizer=OptimizerConfig(learning_rate=1.0)
    ),
    privacy=PrivacyConfig(unit="record", epsilon=0.9, clipping_norm=2.2361),
    num_rounds=3,
    seed=None,
    gram=ReleasedGram(job="gram-1", epsilon=0.4, sha256="0" * 64),
)
ASKED = dataclasses.replace(release_plan(PLAN, "gram", epsilon=0.3), gram=None)
START = {"layers.0.weight": torch.zeros(2, WIDTH - 1), "layers.0.bias": torch.zeros(2)}


def make_kit(folder: Path, *overrides: str) -> InstitutionKit:
    folder.mkdir(exist_ok=True)
    rows = "".join(f"p{i},{i % 90},{'fm'[i % 2]},,{'yes' if i % 3 else 'no'}\n" for i in range(400))
    (folder / "records.csv").write_text(f"id,age,sex,never,ill\n{rows}")
    (folder / "client.yaml").write_text(
        "defaults: [institution, _self_]\nname: ward\ncoordinator: {address: 'localhost:1'}\n"
        "data: {path: records.csv, id_column: id}\n"
        "policy: {budget: {epsilon: 1}, min_records: 50}\n"
        f"task: {json.dumps(dataclasses.asdict(TASK))}\n"
    )
    return load_kit(folder, [f"data.path={folder / 'records.csv'}", *overrides])


@pytest.fixture
def kit(tmp_path: Path) -> InstitutionKit:
    return make_kit(tmp_path / "ward")


def ask(kit: InstitutionKit, plan: TrainingPlan = ASKED, kind: str = "train") -> Reply:
    # A process of its own each time: nothing but the kit is remembered.
    door = DeployedInstitution(kit, deadline=Deadline())
    arrays = None if kind == "query" else encode(START)
    request = Request(plan=plan.to_json(), server_round=1, arrays=arrays)
    return door.handle(kind, request)  # type: ignore[arg-type]


def matrix_of(reply: Reply) -> Any:
    assert reply.refusal is None, reply
    assert reply.arrays is not None
    return Decoder(release_shapes(ASKED)).decode(reply.arrays).tensors[GRAM].double().numpy()


def events(kit: InstitutionKit) -> list[str]:
    return [event.kind for event in LedgerFile(kit.ledger, anchor=kit.anchor).log.events]


def committed(kit: InstitutionKit) -> float:
    state = LedgerFile(kit.ledger, anchor=kit.anchor).state
    return state.populations["everybody"].committed


def test_a_matrix_is_charged_as_a_run_of_its_own_and_once(kit: InstitutionKit) -> None:
    first, again = matrix_of(ask(kit)), matrix_of(ask(kit))
    assert (first == again).all()
    assert committed(kit) == pytest.approx(0.3, rel=0.01)
    assert events(kit)[-3:] == ["run", "reserve", "settle"]


def test_noise_is_what_the_plan_promises_on_either_side_of_the_diagonal(
    kit: InstitutionKit,
) -> None:
    noisy = unpacked(matrix_of(ask(kit)))
    sigma = ask(kit, kind="query").figures["noise_multiplier"]
    assert sigma > 5
    # No record has any of the sixty categories: their places hold noise alone
    never = noisy[6:66, 6:66]
    on = never.diagonal() / sigma
    beside = never[numpy.triu_indices(60, 1)] / (sigma / math.sqrt(2))
    drawn = numpy.concatenate([on, beside])
    assert stats.kstest(drawn, "norm").pvalue > 1e-3
    for factor in (2 / 3, 3 / 2):
        assert stats.kstest(drawn / factor, "norm").pvalue < 1e-3
    assert stats.kstest(on, "norm").pvalue > 1e-3
    assert (noisy == noisy.T).all()


def test_the_matrix_is_that_of_the_records(tmp_path: Path) -> None:
    kit = make_kit(tmp_path / "ward", "policy.budget.epsilon=100", "policy.max_epsilon=100")
    loud = dataclasses.replace(ASKED.privacy, epsilon=20.0)
    reply = ask(kit, dataclasses.replace(ASKED, privacy=loud))
    found = unpacked(matrix_of(reply))
    n = reply.num_examples
    assert found[-1, -1] == pytest.approx(n / 10, abs=2)  # the intercept's share of R^2 = 10
    assert numpy.trace(found) == pytest.approx(n, abs=20)


@pytest.mark.parametrize(
    "change",
    [
        lambda i: {"job": f"again-{i}"},
        lambda i: {"backbone": LogisticConfig(row_norm=1.0 + i)},
        lambda i: {"deadline_s": 100.0 + i},
    ],
    ids=["job", "norm", "plan"],
)
def test_other_questions_end_with_the_budget(
    kit: InstitutionKit, change: Callable[[int], dict[str, object]]
) -> None:
    asked = [
        dataclasses.replace(ASKED, **{"job": f"job-{i}", **change(i)})  # type: ignore[arg-type]
        for i in range(12)
    ]
    answers = [ask(kit, plan) for plan in asked]
    refused = [reply.refusal for reply in answers]
    given = refused.index("budget_exhausted")
    assert 2 <= given < 12
    assert set(refused[given:]) == {"budget_exhausted"}
    assert committed(kit) <= 1.0
    # No two answers share their noise, which would cancel.
    one, other = matrix_of(answers[0]), matrix_of(answers[1])
    assert (one - other).std() > 5


@pytest.mark.parametrize(
    "change",
    [
        {"backbone": LogisticConfig()},
        {"client": ClientConfig(sampling_rate=0.01, local_steps=1)},
        {"privacy": PrivacyConfig(), "num_rounds": 1},
    ],
    ids=["no-norm", "sampled", "unprotected"],
)
def test_questions_whose_noise_would_be_too_little_are_refused(
    kit: InstitutionKit, change: dict[str, Any]
) -> None:
    assert ask(kit, dataclasses.replace(ASKED, **change)).refusal == "plan_invalid"
    assert not kit.ledger.exists() or "reserve" not in events(kit)


def test_a_matrix_is_not_scored(kit: InstitutionKit) -> None:
    assert ask(kit, kind="evaluate").refusal == "not_trained"


def test_a_run_counts_its_matrix_in_its_own_epsilon(kit: InstitutionKit) -> None:
    told = ask(kit, PLAN, "query").figures
    assert told["noise_multiplier"] == noise_multiplier(PLAN)
    assert 0.89 < told["epsilon_planned"] <= 0.9
    dearer = dataclasses.replace(PLAN, gram=dataclasses.replace(PLAN.gram, epsilon=0.8))  # type: ignore[type-var]
    assert ask(kit, dearer, "query").figures["noise_multiplier"] > 1.3 * told["noise_multiplier"]
