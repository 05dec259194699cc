"""Quantiles asked of an institution: charged before they leave, and once."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from builders import build_plan
from release_kit import START, TASK, committed, kinds, make_kit
from release_kit import ask as ask_for
from scipy import stats

from confide.client.deployment.kit import InstitutionKit
from confide.client.records.encoded import InstitutionData, encode_institution
from confide.config.client import ClientConfig
from confide.config.privacy import PrivacyConfig
from confide.config.tasks.columns import ColumnConfig, NumericConfig
from confide.encodings.cells import CELLS
from confide.errors import StorageError
from confide.privacy.histogram_tree import consistent, num_nodes, sensitivity
from confide.protocol.messages import Reply
from confide.protocol.plan import TrainingPlan
from confide.protocol.released_edges import ReleasedEdges
from confide.protocol.releases import release_plan
from confide.protocol.tensors import Decoder
from confide.releases.quantiles import COUNTS
from confide.tasks.task import Examples

PRIVACY = PrivacyConfig(unit="record", epsilon=2.0, delta=1e-5)
PLAN = build_plan(
    task=TASK,
    client=ClientConfig(sampling_rate=0.5, local_steps=2),
    privacy=PRIVACY,
    num_rounds=2,
    seed=None,
)
ASKED = release_plan(PLAN)
EDGES = ReleasedEdges(job=ASKED.job, epsilon=0.3, columns={"age": [30.0, 60.0], "tsh": [1.0, 5.0]})


@pytest.fixture
def kit(tmp_path: Path) -> InstitutionKit:
    return make_kit(tmp_path / "ward")


def ask(kit: InstitutionKit, plan: TrainingPlan = ASKED, *args: Any, **kwargs: Any) -> Reply:
    return ask_for(kit, plan, *args, **kwargs)


def counts_of(reply: Reply) -> torch.Tensor:
    assert reply.refusal is None, reply
    assert reply.arrays is not None
    shapes = {COUNTS: (2, num_nodes(CELLS))}
    return Decoder(shapes).decode(reply.arrays).tensors[COUNTS]


def test_quantiles_are_charged_as_a_run_of_their_own(kit: InstitutionKit) -> None:
    counts = counts_of(ask(kit))
    assert counts.equal(counts.round())
    assert committed(kit) == pytest.approx(0.3, rel=0.01)
    assert kinds(kit)[-3:] == ["run", "reserve", "settle"]


def test_noise_is_what_the_plan_promises(kit: InstitutionKit) -> None:
    reply = ask(kit)
    noisy = counts_of(reply).double()
    told = ask(kit, kind="query").figures["noise_multiplier"]
    std = told * sensitivity(2, CELLS)
    assert std > 40
    # Nobody is older than 90, so that the leaves of ages beyond hold noise alone.
    leaves = noisy[0, 2**8 - 1 :][CELLS:].tolist() + noisy[1, 2**8 - 1 :][CELLS - 40 :].tolist()
    assert stats.kstest(numpy.array(leaves) / std, "norm").pvalue > 1e-3
    for factor in (1 / 2, 2):
        assert stats.kstest(numpy.array(leaves) / (factor * std), "norm").pvalue < 0.05


def test_the_same_question_costs_nothing_more(kit: InstitutionKit) -> None:
    first, again = ask(kit), ask(kit)
    assert counts_of(first).equal(counts_of(again))
    assert kinds(kit).count("reserve") == 1
    # Nor does another run that needs the same.
    other = dataclasses.replace(
        PLAN, job="next", num_rounds=9, privacy=dataclasses.replace(PRIVACY, epsilon=1.0)
    )
    assert release_plan(other) == ASKED


@pytest.mark.parametrize(
    "change",
    [
        lambda i: {"job": f"again-{i}"},
        lambda i: {"deadline_s": 100.0 + i},
        lambda i: {"privacy": dataclasses.replace(ASKED.privacy, clipping_norm=1.0 + i)},
    ],
    ids=["job", "plan", "clipping"],
)
def test_other_questions_end_with_the_budget(
    kit: InstitutionKit, change: Callable[[int], dict[str, object]]
) -> None:
    answers = []
    for i in range(12):
        job = {"job": f"job-{i}"}
        answers.append(ask(kit, dataclasses.replace(ASKED, **{**job, **change(i)})))  # type: ignore[arg-type]
    refused = [reply.refusal for reply in answers]
    given = refused.index("budget_exhausted")
    assert 2 <= given < 12
    assert set(refused[:given]) == {None}
    assert set(refused[given:]) == {"budget_exhausted"}
    assert all(reply.arrays is None for reply in answers[given:])
    assert committed(kit) <= 1.0
    # No two answers share their noise, which would cancel.
    one, other = counts_of(answers[0]), counts_of(answers[1])
    assert (one - other).abs().mean() > 10


@pytest.mark.parametrize(
    "client",
    [
        ClientConfig(sampling_rate=0.01, local_steps=1),
        ClientConfig(sampling_rate=1.0, local_steps=5),
        ClientConfig(batch_size=8, local_steps=1),
    ],
    ids=["sampled", "steps", "batch"],
)
def test_noise_for_a_sample_is_refused(kit: InstitutionKit, client: ClientConfig) -> None:
    """Every record is counted: noise that was calibrated for a sample would be too little."""
    assert ask(kit, dataclasses.replace(ASKED, client=client)).refusal == "plan_invalid"
    assert not kit.ledger.exists() or "reserve" not in kinds(kit)


def test_rounds_to_spare_are_refused(kit: InstitutionKit) -> None:
    privacy = dataclasses.replace(ASKED.privacy, spare_rounds=1)
    assert ask(kit, dataclasses.replace(ASKED, privacy=privacy)).refusal == "plan_invalid"


@pytest.mark.parametrize("start", [1.0, -5.0, 100.0])
def test_tensors_sent_beside_a_question_change_nothing(kit: InstitutionKit, start: float) -> None:
    """A later run without a seed sends others, and a hostile one any."""
    first = ask(kit)
    tensors = {name: torch.full_like(tensor, start) for name, tensor in START.items()}
    assert counts_of(ask(kit, start=tensors)).equal(counts_of(first))
    assert kinds(kit).count("reserve") == 1
    assert committed(kit) == pytest.approx(0.3, rel=0.01)


def test_a_plan_of_thousands_of_columns_is_read_once_a_column(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, inner = 0, ColumnConfig.lacks_edges

    def counted(self: ColumnConfig, numeric: NumericConfig) -> bool:
        nonlocal asked
        asked += 1
        return inner(self, numeric)

    columns = {f"c{i}": ColumnConfig(minimum=0.0, maximum=1.0) for i in range(2000)}
    plan = dataclasses.replace(ASKED, task=dataclasses.replace(TASK, columns=columns))
    monkeypatch.setattr(ColumnConfig, "lacks_edges", counted)
    assert {one.encoding for one in plan.encoded_task.table_columns.values()} == {"cells"}
    assert asked <= 2 * len(columns)


def test_records_that_cannot_be_counted_cost_nothing(
    kit: InstitutionKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a task of one's own makes rows of another width."""

    def narrower(*args: Any, **kwargs: Any) -> tuple[InstitutionData, Any]:
        data, units = encode_institution(*args, **kwargs)
        columns = {**data.train.columns, "features": data.train.columns["features"][:, 1:]}
        return dataclasses.replace(data, train=Examples(columns)), units

    monkeypatch.setattr("confide.client.deployment.served.encode_institution", narrower)
    assert ask(kit).refusal == "privacy"
    assert not {"run", "reserve"} & set(kinds(kit))


def test_epsilon_beyond_the_policy_is_refused(kit: InstitutionKit) -> None:
    privacy = dataclasses.replace(ASKED.privacy, epsilon=9.0)
    assert ask(kit, dataclasses.replace(ASKED, privacy=privacy)).refusal == "policy_max_epsilon"


def test_columns_that_the_kit_does_not_pin_are_refused(kit: InstitutionKit) -> None:
    columns = {**TASK.columns, "t3": ColumnConfig(minimum=0.0, maximum=18.0)}
    asked = dataclasses.replace(ASKED, task=dataclasses.replace(TASK, columns=columns))
    assert ask(kit, asked).refusal == "task_not_served"


def test_a_release_without_privacy_is_refused_under_a_budget(kit: InstitutionKit) -> None:
    asked = dataclasses.replace(ASKED, privacy=PrivacyConfig())
    assert ask(kit, asked).refusal == "policy_required_unit"


def test_quantiles_are_not_scored(kit: InstitutionKit) -> None:
    assert ask(kit, kind="evaluate").refusal == "not_trained"


def test_a_process_killed_before_its_answer_gives_the_same_one(
    kit: InstitutionKit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Reserved and not answered: counted, and computed again with the same noise."""
    settle = "confide.client.reservation.RoundAccount.settle"
    with monkeypatch.context() as patched:
        drawn = []

        def killed(
            self: object, key: object, reply: Reply, update: dict[str, torch.Tensor]
        ) -> None:
            drawn.append(update[COUNTS])
            raise StorageError("killed")

        patched.setattr(settle, killed)
        assert ask(kit).refusal == "storage"
        assert committed(kit) == pytest.approx(0.3, rel=0.01)
    assert counts_of(ask(kit)).equal(drawn[0])
    assert kinds(kit).count("reserve") == 1


def test_a_run_counts_its_edges_in_its_own_epsilon(kit: InstitutionKit) -> None:
    bare = dataclasses.replace(TASK, numeric=NumericConfig(bins=4))
    plan = dataclasses.replace(PLAN, edges=EDGES, privacy=dataclasses.replace(PRIVACY, epsilon=0.9))
    without = dataclasses.replace(plan, edges=None, task=bare)
    described = ask(kit, plan, "query").figures
    other = make_kit(kit.ledger.parent.parent / "other", "task.numeric.edges=public")
    alone = ask(other, without, "query").figures
    assert described["noise_multiplier"] > 1.02 * alone["noise_multiplier"]
    assert described["epsilon_planned"] == pytest.approx(0.9, rel=1e-3)
    assert described["epsilon_planned"] <= 0.9


@pytest.mark.parametrize(
    ("columns", "epsilon"),
    [
        ({"age": [30.0]}, 0.3),
        ({"age": [30.0], "tsh": [1.0], "t3": [1.0]}, 0.3),
        ({"age": [30.0, 30.0], "tsh": [1.0]}, 0.3),
        ({"age": [130.0], "tsh": [1.0]}, 0.3),
        ({"age": [30.0, 40.0, 50.0, 60.0], "tsh": [1.0]}, 0.3),
        ({"age": [30.0], "tsh": [0.1 * i for i in range(1, 1001)]}, 0.3),
        ({"age": [30.0], "tsh": [1.0]}, 2.0),
        ({"age": [30.0], "tsh": [1.0]}, 0.0),
    ],
    ids=[
        "lacking",
        "too-many",
        "tied",
        "outside",
        "beyond-bins",
        "a-thousand",
        "all-of-it",
        "free",
    ],
)
def test_edges_that_cannot_be_are_refused(
    kit: InstitutionKit, columns: dict[str, list[float]], epsilon: float
) -> None:
    edges = ReleasedEdges(job="edges", epsilon=epsilon, columns=columns)
    assert ask(kit, dataclasses.replace(PLAN, edges=edges), "query").refusal == "plan_invalid"


def test_counts_tell_where_records_lie(tmp_path: Path) -> None:
    """With little noise, the released counts are those of the records."""
    kit = make_kit(tmp_path / "ward", "policy.budget.epsilon=1000", "policy.max_epsilon=1000")
    privacy = dataclasses.replace(ASKED.privacy, epsilon=100.0)
    reply = ask(kit, dataclasses.replace(ASKED, privacy=privacy))
    counts, total = counts_of(reply).double().numpy(), reply.num_examples
    ages, lab = counts[:, 0]
    assert ages == pytest.approx(total, abs=8)
    assert lab == pytest.approx(0.75 * total, abs=0.1 * total)  # a quarter has no value
    halves = consistent(counts[0], CELLS)
    assert halves.sum() == pytest.approx(total, abs=8)
