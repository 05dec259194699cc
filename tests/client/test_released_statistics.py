"""Statistics asked of a deployed institution: charged once, under its policy, and not for ever."""

import dataclasses
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
import torch
from builders import build_plan
from release_kit import TASK, ask, committed, kinds, make_kit
from scipy import stats

from confide.client.deployment.kit import InstitutionKit, load_kit
from confide.config.privacy import PrivacyConfig
from confide.config.tasks.columns import ColumnConfig
from confide.config.tasks.tabular import TabularConfig
from confide.protocol.messages import Reply
from confide.protocol.plan import TrainingPlan
from confide.protocol.releases import release_plan, release_shapes
from confide.protocol.tensors import LARGEST_FLOAT32, decode
from confide.releases.floors import HIDDEN
from confide.releases.statistics import FIGURE_COUNTS, MOMENTS, counted
from confide.releases.table import RELEASES

RUN = build_plan(task=TASK, privacy=PrivacyConfig(unit="record", epsilon=2.0), seed=None)
ASKED = release_plan(RUN, "statistics", epsilon=0.5)
QUANTILES = release_plan(RUN)
EXACT = release_plan(dataclasses.replace(RUN, privacy=PrivacyConfig()), "statistics")
UNPROTECTED = ("policy.budget.epsilon=null", "policy.required_unit=none")


@pytest.fixture
def kit(tmp_path: Path) -> InstitutionKit:
    return make_kit(tmp_path / "ward")


def start_of(plan: TrainingPlan) -> dict[str, torch.Tensor]:
    width = plan.encoded_task.num_inputs  # type: ignore[attr-defined]
    return {"layers.0.weight": torch.zeros(2, width), "layers.0.bias": torch.zeros(2)}


def question(kit: InstitutionKit, plan: TrainingPlan = ASKED, kind: str = "train") -> Reply:
    return ask(kit, plan, kind, start_of(plan))


def tensors_of(reply: Reply, plan: TrainingPlan = ASKED) -> dict[str, torch.Tensor]:
    assert reply.refusal is None, reply
    assert reply.arrays is not None
    return dict(decode(reply.arrays, release_shapes(plan), max_value=LARGEST_FLOAT32).tensors)


def permuted(places: int) -> TabularConfig:
    """Return the task with its columns turned by so many places: the same to whoever pins it."""
    names = list(TASK.columns)
    turned = [*names[places % len(names) :], *names[: places % len(names)]]
    return dataclasses.replace(TASK, columns={name: TASK.columns[name] for name in turned})


def test_statistics_are_charged_as_a_run_of_their_own_and_once(kit: InstitutionKit) -> None:
    first, again = question(kit), question(kit)
    assert kinds(kit)[-3:] == ["run", "reserve", "settle"]
    assert kinds(kit).count("reserve") == 1
    assert committed(kit) == pytest.approx(0.5, rel=0.01)
    one, other = tensors_of(first), tensors_of(again)
    assert all(one[name].equal(other[name]) for name in one)
    assert first.figures["epsilon"] == pytest.approx(0.5, rel=0.01)


def test_noise_is_what_the_plan_promises(kit: InstitutionKit) -> None:
    reply = question(kit)
    sigma = question(kit, kind="query").figures["noise_multiplier"]
    scales = RELEASES["statistics"].scales_fn(ASKED)
    noisy = {name: it.double().numpy() for name, it in tensors_of(reply).items()}
    (t3,) = (part for part in counted(ASKED) if part.name == "t3")
    # All 300 or so have 2 of 18: other cells hold noise alone
    empty = numpy.delete(
        noisy[FIGURE_COUNTS][t3.place], numpy.argmax(noisy[FIGURE_COUNTS][t3.place])
    )
    told = empty / (sigma * scales[FIGURE_COUNTS])
    assert stats.kstest(told, "norm").pvalue > 1e-4
    # Few cells: their sum of squares rejects another scale where a Kolmogorov-Smirnov test may not
    squares = stats.chi2(len(told))
    for factor in (1 / 3, 3):
        energy = factor**2 * float(told @ told)
        assert min(squares.cdf(energy), squares.sf(energy)) < 1e-3
    # Rows of one release have noise of their own: equal noise would cancel. Being rounded to
    # quarters, two of three are equal once in some hundred draws
    counts = noisy[MOMENTS][:, 0] - reply.num_examples * numpy.array([1, 0.75, 1])
    assert len(set(counts.round(2))) > 1


def test_values_are_rounded(kit: InstitutionKit) -> None:
    """Low bits of floating point tell what was added (Mironov, CCS 2012)."""
    for tensor in tensors_of(question(kit)).values():
        assert (4 * tensor).equal((4 * tensor).round())


@pytest.mark.parametrize(
    "change",
    [
        lambda i: {"job": f"again-{i}"},
        lambda i: {"deadline_s": 100.0 + i},
        lambda i: {"privacy": dataclasses.replace(ASKED.privacy, epsilon=0.3 + 0.01 * i)},
        lambda i: {"privacy": dataclasses.replace(ASKED.privacy, clipping_norm=1.0 + i)},
        lambda i: {"task": permuted(i)},
    ],
    ids=["job", "plan", "epsilon", "clipping", "permuted"],
)
def test_other_questions_end_with_the_budget(
    kit: InstitutionKit, change: Callable[[int], dict[str, object]]
) -> None:
    refused = []
    for i in range(8):
        plan = dataclasses.replace(ASKED, **{"job": f"job-{i}", **change(i)})  # type: ignore[arg-type]
        reply = question(kit, plan)
        refused.append(reply.refusal)
        assert (reply.arrays is None) == (reply.refusal is not None)
    given = refused.index("budget_exhausted")
    assert 1 <= given < 8
    assert set(refused[given:]) == {"budget_exhausted"}
    assert committed(kit) <= 1.0


def test_another_kind_of_release_has_no_budget_of_its_own(kit: InstitutionKit) -> None:
    """Quantiles until nothing is left, and statistics instead."""
    spent = [
        question(kit, dataclasses.replace(QUANTILES, job=f"job-{i}")).refusal for i in range(8)
    ]
    assert spent[-1] == "budget_exhausted"
    assert question(kit).refusal == "budget_exhausted"
    assert committed(kit) <= 1.0
    # What was answered is answered still
    assert question(kit, dataclasses.replace(QUANTILES, job="job-0")).refusal is None


COLUMNS = TASK.columns


OTHERS: dict[str, dict[str, object]] = {
    "subset": {"columns": {name: COLUMNS[name] for name in ("age", "sex")}},
    "range": {"columns": {**COLUMNS, "age": ColumnConfig(minimum=0.0, maximum=101.0)}},
    "bins": {"numeric": dataclasses.replace(TASK.numeric, bins=8)},
    "public edges": {"numeric": dataclasses.replace(TASK.numeric, edges="public")},
}
KINDS = {"statistics": ASKED, "quantiles": QUANTILES, "exact": EXACT}
# Without a column whose edges are released, there is no question about quantiles
ASKED_OTHERWISE = [
    (k, o) for k, o in itertools.product(KINDS, OTHERS) if (k, o) != ("quantiles", "public edges")
]


@pytest.mark.parametrize(("kind", "other"), ASKED_OTHERWISE)
def test_other_columns_than_the_kits_are_not_counted(tmp_path: Path, kind: str, other: str) -> None:
    kit = make_kit(tmp_path / "ward", *(UNPROTECTED if kind == "exact" else ()))
    task = dataclasses.replace(TASK, **OTHERS[other])  # type: ignore[arg-type]
    reply = question(kit, dataclasses.replace(KINDS[kind], task=task))
    assert reply.refusal == "task_not_served"
    assert not kit.ledger.exists() or "reserve" not in kinds(kit)


def test_a_policy_may_release_none(tmp_path: Path) -> None:
    kit = make_kit(tmp_path / "ward", "policy.release_statistics=none")
    assert question(kit).refusal == "policy_release_statistics"
    # Counts of cells tell of columns whoever asks for them, and nothing was charged
    assert question(kit, QUANTILES).refusal == "policy_release_statistics"
    assert not kit.ledger.exists() or "reserve" not in kinds(kit)


@pytest.mark.parametrize("word", ["federation", "institution"])
def test_an_institution_says_whether_its_own_may_be_shown(tmp_path: Path, word: str) -> None:
    kit = make_kit(tmp_path / "ward", f"policy.release_statistics={word}")
    shown = float(word == "institution")
    assert question(kit).figures["by_institution"] == shown
    # The word of today, also on what was answered before
    other = {"federation": "institution", "institution": "federation"}[word]
    again = make_kit(tmp_path / "ward", f"policy.release_statistics={other}")
    assert question(again).figures["by_institution"] == 1 - shown
    assert kinds(kit).count("reserve") == 1


def test_exact_figures_are_refused_where_privacy_is_demanded(kit: InstitutionKit) -> None:
    assert question(kit, EXACT).refusal == "policy_required_unit"


def test_exact_figures_leave_above_the_floor_alone(tmp_path: Path) -> None:
    kit = make_kit(tmp_path / "ward", *UNPROTECTED, "policy.min_cell=150")
    counts = tensors_of(question(kit, EXACT), EXACT)[FIGURE_COUNTS]
    assert (counts[counts >= 0] == 0).logical_or(counts[counts >= 0] >= 150).all()
    assert (counts == HIDDEN).any()


def test_exact_figures_need_the_task_in_the_kit(tmp_path: Path) -> None:
    """Under another range the same cells begin elsewhere: their difference is a small one."""
    kit = make_kit(tmp_path / "ward", *UNPROTECTED)
    path = kit.folder / "client.yaml"
    text = path.read_text()
    path.write_text(text.replace(f"task: {json.dumps(dataclasses.asdict(TASK))}\n", ""))
    bare = load_kit(kit.folder, [f"data.path={kit.folder / 'records.csv'}", *UNPROTECTED])
    assert bare.task is None
    assert question(bare, EXACT).refusal == "task_not_served"


def test_statistics_are_not_scored(kit: InstitutionKit) -> None:
    assert question(kit, kind="evaluate").refusal == "not_trained"
