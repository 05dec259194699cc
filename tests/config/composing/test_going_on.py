"""backbone=run: what another run says of the model, and what this one may not."""

import dataclasses
import json
import os
from pathlib import Path

import pytest
import yaml

from confide.config.composing.compose import compose
from confide.config.models.perceptrons import MlpConfig
from confide.errors import ConfigError

HEART = "experiment=heart_disease"


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """RUN of a perceptron on heart's records, as far as a config is composed from it."""
    words = [HEART, "backbone=mlp", "backbone.hidden=[7]", "server.num_rounds=3", "job=early"]
    config, run_dir = compose(words), tmp_path / "earlier"
    (run_dir / "model").mkdir(parents=True)
    parts = {name: dataclasses.asdict(getattr(config, name)) for name in ("task", "backbone")}
    parts["tuning"] = dataclasses.asdict(config.tuning)
    (run_dir / "model" / "confide.json").write_text(json.dumps(parts))
    (run_dir / "command.yaml").write_text(yaml.safe_dump({"overrides": words}))
    return run_dir


def started(run_dir: Path, *words: str) -> None:
    (run_dir / "command.yaml").write_text(yaml.safe_dump({"overrides": list(words)}))


def problems(*words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        compose(words)
    return "\n".join(caught.value.problems)


def test_backbone_and_tuning_are_the_earlier_runs(earlier: Path) -> None:
    config = compose([HEART, "backbone=run", f"backbone.path={earlier}"])
    assert isinstance(config.backbone, MlpConfig)
    assert (config.backbone.hidden, config.tuning.kind) == ([7], "full")
    assert config.server.start_from == str(earlier)


def test_the_model_of_a_run_may_be_named_by_itself(earlier: Path) -> None:
    config = compose([HEART, "backbone=run", f"backbone.path={earlier / 'model'}"])
    assert isinstance(config.backbone, MlpConfig)


def test_what_says_no_more_goes_on_as_the_earlier_run_was_started(earlier: Path) -> None:
    config = compose(["backbone=run", f"backbone.path={earlier}"])
    assert config.task.kind == "tabular"
    assert (config.server.num_rounds, config.job) == (3, None)
    other = compose(["backbone=run", f"backbone.path={earlier}", "server.num_rounds=5"])
    assert other.server.num_rounds == 5


@pytest.mark.parametrize(
    "word",
    [
        "report.card.limits=${oc.env:HOME}",
        "report.card.limits=${oc.${job}:HOME}",
        "--config-dir=elsewhere",
        "--multirun",
    ],
)
def test_words_of_a_run_from_others_that_do_more_than_choose_are_refused(
    earlier: Path, word: str
) -> None:
    started(earlier, HEART, word)
    going = ["backbone=run", f"backbone.path={earlier}"]
    assert f"it was started with {word}, which" in problems(*going)
    if not word.startswith("-"):
        assert compose([*going, "report.card.limits=none"]).report.card.limits == "none"


def test_a_run_from_others_says_neither_where_to_tell_nor_which_code_to_import(
    earlier: Path,
) -> None:
    started(
        earlier,
        *(HEART, "tracking=mlflow", "tracking.mlflow_uri=https://elsewhere.example"),
        *("hydra/launcher=joblib", "task._target_=elsewhere.Task"),
        *("simulation.ray.address=ray://elsewhere:10001", "server.dashboard=0.0.0.0:80"),
    )
    assert compose(["backbone=run", f"backbone.path={earlier}"]) == compose(
        [HEART, "backbone=run", f"backbone.path={earlier}"]
    )


def test_words_that_are_no_texts_or_a_pipe_are_not_read(earlier: Path) -> None:
    command = earlier / "command.yaml"
    laughs = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
    command.write_text(f"a0: &a0 [ha]\n{laughs}overrides: [{HEART}, *a29]\n")
    assert compose(["backbone=run", f"backbone.path={earlier}"]).task.kind == "tabular"
    command.unlink()
    os.mkfifo(command)
    assert "command.yaml" not in problems("backbone=run", f"backbone.path={earlier}")


def test_steps_suit_the_model_that_stands_there_in_the_end(earlier: Path) -> None:
    gone_on = compose([HEART, "backbone=run", f"backbone.path={earlier}"])
    itself = compose([HEART, "backbone=mlp", "backbone.hidden=[7]"])
    assert gone_on.client == itself.client


def test_an_experiment_may_set_parts_of_a_backbone_that_is_replaced(earlier: Path) -> None:
    words = ["backbone=run", f"backbone.path={earlier}"]
    text = problems("experiment=movies", *words)
    assert "task.kind=recommendation: the model of" in text
    assert "there is no setting" not in text


def test_all_mistakes_are_told_together(earlier: Path) -> None:
    words = [HEART, "backbone=run", f"backbone.path={earlier}"]
    text = problems(
        *(*words, "tuning=lora", "backbone.hidden=[3]", "task.labels=[no,yes]"),
        *("task.label_values={}", "client.local_steps=-1"),
    )
    assert "tuning=lora: backbone=run trains what" in text
    assert f"set server.start_from={earlier} tuning=lora" in text
    assert "backbone.hidden=[3]: with backbone=run the model is that of" in text
    assert "task.labels=['no', 'yes']: the model of" in text
    assert "client.local_steps=-1: expected" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["backbone=run"], "backbone.path is not set; name the RUN"),
        (["backbone=run", "backbone.path=/nowhere"], "there is no run, nor a model"),
        (
            ["backbone=logistic", "server.release=if_better"],
            "server.release=if_better compares with the model that the run started from",
        ),
        (["backbone=logistic", "server.release_margin=0.1"], "release=always compares"),
    ],
)
def test_what_is_lacking_is_told(words: list[str], message: str) -> None:
    assert message in problems(HEART, *words)


def test_another_start_is_refused(earlier: Path) -> None:
    words = [HEART, "backbone=run", f"backbone.path={earlier}", "server.start_from=other"]
    assert "server.start_from=other: backbone=run starts from" in problems(*words)


@pytest.mark.parametrize("text", ["{", "[]", '{"task": {}}', '{"task": 1, "backbone": 2}'])
def test_a_damaged_description_is_told(text: str, earlier: Path) -> None:
    (earlier / "model" / "confide.json").write_text(text)
    found = problems(HEART, "backbone=run", f"backbone.path={earlier}")
    assert "confide.json cannot be read" in found


def test_a_run_without_a_model_is_told(earlier: Path) -> None:
    (earlier / "model" / "confide.json").unlink()
    (earlier / "config.yaml").write_text("")
    found = problems(HEART, "backbone=run", f"backbone.path={earlier}")
    assert "the run has no model (yet); resume it" in found


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.until=2020"], "data.until=2020: expected a share of the units"),
        (["data.until=soon"], "data.until=soon: without arrival_column expected a share"),
        (["data.until=0.5", "data.old_before=0.7"], "expected less than until=0.5"),
        (["data.arrival_column=age"], "nothing is compared with it"),
    ],
)
def test_bounds_of_arrival_that_mean_nothing_are_told(words: list[str], message: str) -> None:
    assert message in problems(HEART, *words)
