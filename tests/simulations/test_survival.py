"""Survival from records to report: beside Cox regression, with noise, resumed, refused."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest
from lifelines import CoxPHFitter
from lifelines.utils import concordance_index
from stopped_run import Simulate, stopped

import confide.simulations.prepared
from confide.config.composing.compose import compose
from confide.errors import ConfideError, ConfigError
from confide.inference.prediction import predict
from confide.protocol.plan import TrainingPlan
from confide.server.report.card import model_card
from confide.server.report.page import report_page
from confide.server.report.read import read_run
from confide.simulations.federation import Federation
from tests.survivors import patients


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """The overrides of a run on 900 patients of three centres."""
    patients(900).to_csv(tmp_path / "patients.csv", index=False)
    return [
        "task=dialysis",
        f"data.path={tmp_path / 'patients.csv'}",
        "data.public=true",
        "data.partition_by=centre",
        "backbone=logistic",
        "tuning=full",
        "client=private_table",
        "simulation.baselines=[]",
    ]


@pytest.fixture
def split(monkeypatch: pytest.MonkeyPatch) -> dict[str, Federation]:
    """The federation of the run, once it has been scored."""
    kept: dict[str, Federation] = {}
    score = confide.simulations.prepared.score_pooled

    def scored(federation: Federation, tensors: Any) -> Any:
        kept["federation"] = federation
        return score(federation, tensors)

    monkeypatch.setattr(confide.simulations.prepared, "score_pooled", scored)
    return kept


def cox(federation: Federation) -> float:
    """Return the C-index of Cox regression on all training records, on all test records."""

    def table(split: str) -> pandas.DataFrame:
        parts = [one.split(split) for one in federation.data.values() if len(one.split(split))]
        rows = numpy.concatenate([part.columns["features"].double().numpy() for part in parts])
        ends = numpy.concatenate([part.labels.double().numpy() for part in parts])
        return pandas.DataFrame(rows).assign(time=ends[:, 0], event=ends[:, 1])

    train, test = table("train"), table("test")
    inputs = [name for name in train if name not in ("time", "event")]
    with warnings.catch_warnings():
        # lifelines calls pandas in ways that a later release will not have
        warnings.simplefilter("ignore")
        fitted = CoxPHFitter(penalizer=1e-4).fit(train, "time", "event")
        risks = fitted.predict_partial_hazard(test[inputs])
    return float(concordance_index(test.time, -risks, test.event))


def test_a_federation_ranks_as_pooled_cox_regression(
    run: Simulate, words: list[str], split: dict[str, Federation], tmp_path: Path
) -> None:
    summary = run(*words, "server.num_rounds=20")
    # 180 test records; the dialysis patients below are held to 0.01
    assert summary["federated"]["c_index"] == pytest.approx(cox(split["federation"]), abs=0.02)
    assert summary["federated"]["integrated_brier"] < 0.2
    assert summary["clients"]["north"]["labels"].keys() == {"event", "censored"}
    # Of all test records together, pairs of two centres included
    within = sum(line["comparable_pairs"] for line in summary["clients"].values())
    assert summary["federated"]["comparable_pairs"] > 2 * within
    groups = summary["evaluation"]["groups"]
    assert sum(group["records"] for group in groups) == summary["federated"]["test_examples"]
    observed = [group["observed"][-1] for group in groups]
    assert observed[0] > observed[1] > observed[2]
    files = read_run(tmp_path / "run")
    page = report_page(files)
    assert "Observed and predicted survival" in page
    assert "those of different institutions too" in page
    assert "Harrell" in model_card(files)


def test_predictions_are_risks_and_probabilities(
    run: Simulate, words: list[str], tmp_path: Path
) -> None:
    run(*words, "server.num_rounds=10")
    frame = patients(50, seed=1)
    made = predict(tmp_path / "run", frame.drop(columns=["time", "event"]))
    ends = ["survival_9", "survival_18", "survival_27", "survival_36", "survival_45"]
    assert list(made.columns) == ["risk", *ends]
    assert ((made[ends].diff(axis=1).iloc[:, 1:] <= 0).all()).all()
    assert concordance_index(frame["time"], -made["risk"], frame["event"]) > 0.6


def test_noisy_scores_are_concordance_alone(run: Simulate, words: list[str]) -> None:
    private = ("privacy=record", "privacy.epsilon=8", "server.num_rounds=4")
    noisy = ("policy.metrics_privacy=noisy", "privacy.metrics_every=4")
    summary = run(*words, *private, *noisy)
    federated = summary["federated"]
    assert federated["c_index_noise"] > 0
    assert federated["comparable_pairs_noise"] > 0
    # Weights that come from a curve of all records are no sum over records
    assert "integrated_brier" not in federated
    assert summary["evaluation"]["noisy"]
    assert summary["evaluation"]["within"]
    assert "predicted" not in summary["evaluation"]["groups"][0]


@pytest.mark.parametrize("engine", ["inline", "process"])
def test_a_stopped_run_ends_as_the_undisturbed_one(
    run: Simulate, words: list[str], engine: str
) -> None:
    private = ("privacy=record", "privacy.epsilon=3", "server.num_rounds=4")
    engines = (f"simulation.engine={engine}", "simulation.workers=2")
    undisturbed = run(*words, *private, name="undisturbed")
    stopped(run, *words, *private, *engines, after=2)
    resumed = run(*words, *private, *engines, resume=True)
    assert resumed["model_sha256"] == undisturbed["model_sha256"]
    assert resumed["federated"] == undisturbed["federated"]


# --- what is refused


@pytest.mark.parametrize("privacy", [[], ["privacy=record", "privacy.epsilon=3"]])
def test_cox_is_refused_with_the_reason(words: list[str], privacy: list[str]) -> None:
    with pytest.raises(
        ConfigError,
        match=r"no record has a loss or a gradient of its own: none can be clipped"
        r".*set loss=logistic_hazards",
    ):
        compose([*words, *privacy, "task.outcome.loss=cox"])


def test_a_coordinators_plan_is_held_to_the_same_rules(
    run: Simulate, words: list[str], tmp_path: Path
) -> None:
    run(*words, "server.num_rounds=1")
    text = (tmp_path / "run" / "plan.json").read_text().strip()
    assert TrainingPlan.from_json(text).task.num_outputs == 5
    for key, value in [
        ("loss", "cox"),
        ("horizon", 0.0),
        ("horizon", None),
        ("intervals", 101),
        ("intervals", 0),
        ("interval_ends", [5.0, 4.0]),
        ("interval_ends", [float("nan")]),
        ("event_values", []),
        ("more", 1),
    ]:
        plan = json.loads(text)
        plan["task"]["outcome"][key] = value
        with pytest.raises(ConfideError):
            TrainingPlan.from_json(json.dumps(plan))


# --- the dialysis patients


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("privacy", "within"), [([], 0.01), (["privacy=record", "privacy.epsilon=3"], 0.02)]
)
def test_centres_rank_their_patients_as_pooled_cox_regression(
    run: Simulate, split: dict[str, Federation], privacy: list[str], within: float
) -> None:
    differences = []
    for seed in range(3):
        summary = run(
            "experiment=dialysis",
            "simulation.baselines=[]",
            f"simulation.seed={seed}",
            *privacy,
            name=f"run-{seed}",
        )
        assert len(summary["clients"]) == 67
        differences.append(summary["federated"]["c_index"] - cox(split["federation"]))
    assert abs(float(numpy.mean(differences))) < within
