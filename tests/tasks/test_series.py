"""Series: windows on public ranges, quantiles, gradients of single records, forecasts beside."""

import json

import numpy
import pytest
import torch
from datasets import Dataset
from sklearn.metrics import mean_absolute_error, mean_pinball_loss

from confide.client.training.trainer import Trainer
from confide.config.models.backbone import BackboneConfig
from confide.config.models.patches import PatchesConfig
from confide.config.models.perceptrons import MlpConfig
from confide.config.outcomes.forecast import ForecastConfig
from confide.config.outcomes.outcome import OutcomeConfig
from confide.config.tasks.series import ReadingConfig, SeriesConfig
from confide.config.tunings.tuning import TuningConfig
from confide.errors import DataError, ModelError
from confide.models.compute import Compute
from confide.models.workload import Workload, build_workload
from confide.tasks.series import ForecastSeries, Series, make_series

READINGS = {
    "load": ReadingConfig(minimum=0, maximum=100),
    "heat": ReadingConfig(minimum=-20, maximum=40),
}


def task(**settings: object) -> SeriesConfig:
    outcome = ForecastConfig(column="load", minimum=0, maximum=100, steps=2)
    fields: dict[str, object] = {
        "readings": READINGS,
        "lookback": 4,
        "season": 4,
        "outcome": outcome,
    }
    return SeriesConfig(**{**fields, **settings})


def records(count: int = 6) -> Dataset:
    rng = numpy.random.default_rng(0)
    return Dataset.from_dict(
        {
            "at": [str(number) for number in range(count)],
            "window": [
                json.dumps(numpy.stack([one, one / 10], axis=1).tolist())
                for one in rng.uniform(0, 100, (count, 4))
            ],
            "ahead": [json.dumps(one.tolist()) for one in rng.uniform(0, 100, (count, 2))],
        }
    )


def forecast() -> ForecastSeries:
    made = make_series(task())
    assert isinstance(made, ForecastSeries)
    return made


def workload(backbone: BackboneConfig, schema: SeriesConfig | None = None) -> Workload:
    tuning = TuningConfig(kind="full")
    made = build_workload(schema or task(), backbone, tuning, compute=Compute(), seed=0)
    for parameter in made.model.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(0))
    return made


def test_each_reading_is_mapped_from_its_own_range() -> None:
    wide = Dataset.from_dict(
        {"at": ["0"], "window": ["[[0,-20],[50,10],[100,40],[200,-50]]"], "ahead": ["[0,150]"]}
    )
    examples = forecast().encode(wide)
    assert examples.columns["features"].tolist() == [[-2, -2, 0, 0, 2, 2, 2, -2]]
    assert examples.labels.tolist() == [[0, 1]]


@pytest.mark.parametrize("window", ["[[1,2]]", "[1,2,3,4]", "x", '[["a"]]', "[[NaN,1],[1,1]]"])
def test_what_is_no_window_is_refused(window: str) -> None:
    wrong = Dataset.from_dict({"at": ["0"], "window": [window], "ahead": ["[1,2]"]})
    with pytest.raises(DataError, match="Column window: 1 of 1 are no JSON list of 4 steps"):
        forecast().encode(wrong)


def test_figures_are_those_of_the_definitions_and_add_up() -> None:
    made, some = forecast(), records()
    batch = made.encode(some).take(torch.arange(6))
    outputs = torch.randn((6, 6), generator=torch.Generator().manual_seed(0))
    tallies = made.tally(outputs, batch)
    values = made.metrics(tallies, torch.zeros(6))
    truth = numpy.array([json.loads(one) for one in some["ahead"]])
    told = made.predictions(outputs, batch)
    at = {
        q: numpy.stack([told[f"load_{s}_q{q:g}"] for s in (1, 2)], axis=1) for q in (0.1, 0.5, 0.9)
    }
    assert values["forecast_mae"] == pytest.approx(mean_absolute_error(truth, at[0.5]), rel=1e-5)
    pinball = [mean_pinball_loss(truth, at[q], alpha=q) for q in at]
    assert values["pinball"] == pytest.approx(numpy.mean(pinball), rel=1e-5)
    inside = ((truth >= at[0.1]) & (truth <= at[0.9])).mean()
    assert values["coverage_error"] == pytest.approx(abs(inside - 0.8))
    sizes = (abs(truth) + abs(at[0.5])) / 2
    smape = (abs(truth - at[0.5]) / sizes).mean()
    assert values["forecast_smape"] == pytest.approx(smape, rel=1e-5)
    parts = made.tally(outputs[:2], {k: v[:2] for k, v in batch.items()}).sum(dim=0)
    parts += made.tally(outputs[2:], {k: v[2:] for k, v in batch.items()}).sum(dim=0)
    assert torch.allclose(parts, tallies.sum(dim=0))


@pytest.mark.parametrize("loss", ["quantile", "squared"])
def test_a_gradient_is_no_longer_than_its_bound(loss: str) -> None:
    outcome = ForecastConfig(column="load", minimum=0, maximum=100, steps=2, loss=loss)
    made = make_series(task(outcome=outcome))
    batch = made.encode(records()).take(torch.arange(6))
    outputs = (50 * torch.randn(6, 2 * len(outcome.levels))).requires_grad_()
    made.loss(outputs, batch).sum().backward()
    assert outputs.grad is not None
    assert float(outputs.grad.norm(dim=1).max()) <= 1 + 1e-6


def test_forecasts_beside_the_model_repeat_the_past() -> None:
    made = forecast()
    batch = made.encode(records()).take(torch.arange(6))
    windows = batch["features"].unflatten(1, (4, 2))[:, :, 0]
    predictors = made.references([])
    last = predictors["last value"](batch).unflatten(1, (2, 3))
    assert torch.allclose(last, windows[:, -1, None, None].expand(-1, 2, 3))
    season = predictors["last season"](batch).unflatten(1, (2, 3))
    assert torch.allclose(season, windows[:, :2, None].expand(-1, -1, 3))


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("backbone", [MlpConfig(), PatchesConfig(patch=2, width=8, heads=2)])
@pytest.mark.parametrize("classes", [False, True])
def test_gradients_of_windows_and_blocks_pass_the_preflight(
    backbone: BackboneConfig, grouped: bool, classes: bool
) -> None:
    fault = task(outcome=OutcomeConfig(), labels=["no", "yes"])
    made = workload(backbone, fault if classes else None)
    assert isinstance(made.task, ForecastSeries) != classes
    assert isinstance(made.task, Series)
    assert Trainer(made, private=True, group_size=3 if grouped else None).shapes


def test_patches_have_to_fill_a_window() -> None:
    with pytest.raises(ModelError, match=r"task\.lookback=4 is no multiple of it"):
        workload(PatchesConfig(patch=3))


def test_a_plan_cannot_fill_memory_with_weights_of_attention() -> None:
    wide = task(lookback=2048)
    config = PatchesConfig(patch=1, width=8, heads=1)
    with pytest.raises(ModelError, match=r"2048 patches .* take longer patches"):
        build_workload(wide, config, TuningConfig(kind="full"), compute=Compute(), seed=0)
    config = PatchesConfig(patch=2, width=8, heads=1)
    build_workload(wide, config, TuningConfig(kind="full"), compute=Compute(), seed=0)
