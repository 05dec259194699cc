"""An outcome is chosen like any other part: by its group, or by a task's own file."""

from pathlib import Path

import pytest
from own_configs import FILES, write_configs

from confide.config.composing.compose import compose
from confide.config.composing.folders import own_configs
from confide.config.outcomes.ordinal import OrdinalConfig
from confide.config.outcomes.regression import RegressionConfig
from confide.config.run import Config
from confide.errors import ConfigError
from confide.protocol.new_plan import make_plan
from confide.protocol.plan import TrainingPlan

CREDIT = "experiment=credit"
TASK = FILES["task/credit.yaml"]
AMOUNT = TASK.replace(
    "labels: [good, bad]\nlabel_column: Status\n",
    "outcome: {kind: regression, column: Amount, minimum: 0, maximum: 100}\n",
)
TEXTS = ("task/outcome=regression", "task.outcome.minimum=0", "task.outcome.maximum=5")
OF_TEXT = ("data.path=a.csv", "data.public=true", "task.outcome.column=stars")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def composed(*words: str) -> Config:
    with own_configs(words) as rest:
        return compose(rest)


def mistakes(*words: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        composed(*words)
    return caught.value.problems


def test_a_tasks_own_file_names_its_outcome(here: Path) -> None:
    write_configs(here / "conf", task=AMOUNT)
    task = composed(CREDIT).task
    assert task.outcome == RegressionConfig(column="Amount", minimum=0.0, maximum=100.0)
    assert (task.metrics, task.primary_metric) == (["r2", "mae", "rmse"], "r2")
    assert (task.target_columns, task.num_outputs) == (("Amount",), 1)


def test_a_group_chooses_it_for_any_task_texts_included(here: Path) -> None:
    assert composed("task=text", *OF_TEXT, *TEXTS).task.outcome == RegressionConfig(
        column="stars", minimum=0.0, maximum=5.0
    )
    write_configs(
        here / "conf", task=TASK.replace("labels: [good, bad]\nlabel_column: Status\n", "")
    )
    words = ("task/outcome=ordinal", "task.outcome.labels=[a,1_2]", "task.outcome.column=g")
    assert composed(CREDIT, *words).task.outcome == OrdinalConfig(column="g", labels=["a", "1_2"])


def test_a_plan_carries_it_and_one_of_classes_does_not_mention_any(here: Path) -> None:
    write_configs(here / "conf", task=AMOUNT)
    plan = make_plan(composed(CREDIT), backbone_sha256=None)
    assert TrainingPlan.from_json(plan.to_json()) == plan
    assert '"outcome":{"kind":"regression","column":"Amount"' in plan.to_json()
    of_classes = make_plan(composed("experiment=heart_disease"), backbone_sha256=None)
    assert '"outcome"' not in of_classes.to_json()
    assert TrainingPlan.from_json(of_classes.to_json()) == of_classes


@pytest.mark.parametrize(
    ("task", "words", "told"),
    [
        (
            AMOUNT.replace("kind: regression", "kind: regresion"),
            (),
            "outcome.kind=regresion: expected one of classes, regression",
        ),
        (AMOUNT.replace("kind: regression, ", ""), (), "outcome.kind is not set"),
        (AMOUNT.replace("maximum: 100}", "maximum: 0}"), (), "expected two numbers, minimum <"),
        (
            AMOUNT + "labels: [good, bad]\n",
            (),
            "settings of outcome=classes, and this task has outcome.kind=regression",
        ),
        (AMOUNT, ("task.primary_metric=auc",), "primary_metric=auc: expected one of r2, mae, rmse"),
        (AMOUNT, ("task.metrics=[accuracy]",), "metrics=accuracy: expected only r2, mae, rmse"),
        (AMOUNT, ("task.outcome.column=Age",), "columns.Age is the label"),
        (AMOUNT, ("task.outcome.loss=cubic",), "expected one of squared, huber"),
        (AMOUNT.replace("column:", "colum:"), (), "there is no setting task.outcome.colum"),
    ],
)
def test_mistakes_are_told(here: Path, task: str, words: tuple[str, ...], told: str) -> None:
    write_configs(here / "conf", task=task)
    assert told in " ".join(mistakes(CREDIT, *words))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("task/outcome=multi_label",), "labels=[]: expected distinct names, at least one"),
        (
            (
                "task/outcome=multi_label",
                "task.outcome.labels=['a,b',c]",
                "task.outcome.column=tags",
            ),
            "hold separator=','",
        ),
        (("task/outcome=ordinal", "task.outcome.labels=[a,a]"), "at least two distinct"),
        (
            (
                "task/outcome=ordinal",
                "task.outcome.labels=[a,b]",
                "task.outcome.label_values={x:c}",
            ),
            "label_values names ['c'], which task.outcome.labels=['a', 'b'] lacks",
        ),
    ],
)
def test_mistakes_of_labels_are_told(words: tuple[str, ...], told: str) -> None:
    assert told in " ".join(mistakes("data.path=a.csv", "data.public=true", *words))


@pytest.mark.parametrize("kind", ["regression", "multi_label", "ordinal"])
def test_the_private_recipe_takes_it(here: Path, kind: str) -> None:
    settings = {
        "regression": "column: Amount, minimum: 0, maximum: 100",
        "multi_label": "labels: [x, y]",
        "ordinal": "column: g, labels: [a, b]",
    }
    outcome = f"outcome: {{kind: {kind}, {settings[kind]}}}\n"
    write_configs(
        here / "conf",
        task=TASK.replace("labels: [good, bad]\nlabel_column: Status\n", outcome),
    )
    config = composed(CREDIT, "client=private_table", "privacy=record", "data.public=true")
    radius = (config.backbone.row_norm or 0.0) ** 2 + 1
    bounds = config.task.loss_bounds
    assert bounds is not None
    # Nothing is ever clipped: no gradient is longer than the clipping norm
    assert bounds.gradient * radius**0.5 <= config.privacy.clipping_norm * (1 + 1e-4)
