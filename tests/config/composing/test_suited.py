"""How a model is trained where a config says nothing of it."""

from pathlib import Path

import pytest
import yaml

from confide.config.composing.compose import compose, rule_words
from confide.config.composing.folders import own_configs
from confide.config.composing.suited import ADAM, GRADIENT_SUMS, GRADIENTS, PLAIN, Recipe
from confide.config.run import Config
from confide.config.strategies.objectives import ObjectiveConfig
from confide.config.strategies.strategy import objective_of

CREDIT = ("experiment=credit",)
PRIVATE = (*CREDIT, "privacy=record")
HEART = ("experiment=heart_disease",)
MAIN = ("experiment=tweets",)
OWN = ("task=credit", "data.path=mine.csv", "data.public=true", "backbone=logistic", "tuning=full")

GARMENTS = ("task=fashion", "backbone=cnn", "tuning=full", "data.path=f.npz", "data.public=true")

VISION = ("backbone=vision", "backbone.name=/somewhere")


def recipe_of(config: Config) -> Recipe:
    """Return which recipe a config follows."""
    for recipe in (GRADIENT_SUMS, GRADIENTS, ADAM, PLAIN):
        client, optimizer = config.client, config.client.optimizer
        found = (client.local_steps, client.sampling_rate, optimizer.kind)
        expected = (recipe.local_steps, recipe.sampling_rate, recipe.optimizer)
        if (objective_of(config.strategy).kind, *found) == (recipe.objective.kind, *expected):
            return recipe
    raise AssertionError(config)


@pytest.mark.parametrize(
    ("words", "recipe"),
    [
        (CREDIT, ADAM),
        ((*CREDIT, "backbone=mlp"), ADAM),
        (OWN, GRADIENT_SUMS),
        ((*OWN, "privacy=none"), ADAM),
        ((*CREDIT, "task.numeric.encoding=linear"), PLAIN),
        (PRIVATE, GRADIENT_SUMS),
        ((*CREDIT, "privacy=group", "data.group_column=Age"), GRADIENT_SUMS),
        ((*PRIVATE, "task.numeric.encoding=linear"), GRADIENT_SUMS),
        ((*PRIVATE, "backbone=mlp"), PLAIN),
        (HEART, PLAIN),
        ((*HEART, "privacy=record"), GRADIENT_SUMS),
        (MAIN, GRADIENT_SUMS),
        ((*MAIN, "privacy=none"), GRADIENT_SUMS),
        ((*MAIN, "privacy=none", "tuning=lora"), PLAIN),
        ((*MAIN, "privacy=none", "server.keep=best"), PLAIN),
        (("experiment=titles", "privacy=none"), PLAIN),
        ((*PRIVATE, "task._target_=my_module.Task"), PLAIN),
        ((*PRIVATE, "backbone=additive", "backbone.pairs=[[Income,Amount]]"), GRADIENT_SUMS),
        ((*MAIN, "tuning=lora"), PLAIN),
        ((*MAIN, "tuning=full"), PLAIN),
        (GARMENTS, GRADIENTS),
        ((*GARMENTS, "privacy=none"), GRADIENTS),
        ((*GARMENTS, "privacy=none", "server.num_rounds=400"), GRADIENTS),
        ((*GARMENTS, "privacy=none", "server.num_rounds=20"), PLAIN),
        ((*GARMENTS, *VISION, "privacy=none", "tuning=head"), GRADIENTS),
        ((*GARMENTS, *VISION, "privacy=none", "tuning=lora"), PLAIN),
        ((*GARMENTS, *VISION, "tuning=head"), GRADIENT_SUMS),
        ((*GARMENTS, "client=poisson"), PLAIN),
        ((*GARMENTS, "strategy=fedavg"), PLAIN),
        ((*GARMENTS, "server.patience=3"), PLAIN),
        ((*GARMENTS, "strategy.server_optimizer.momentum=0.9"), PLAIN),
    ],
)
def test_the_recipe_suits_model_encoding_and_privacy(
    words: tuple[str, ...], recipe: Recipe
) -> None:
    assert recipe_of(compose(words)) is recipe


@pytest.mark.parametrize(
    "word",
    [
        "client=poisson",
        "client=epochs",
        "client.local_steps=5",
        "client.sampling_rate=0.5",
        "client.optimizer.learning_rate=0.3",
        "client.optimizer.momentum=0.9",
        "client.optimizer.kind=adam",
        "strategy=fedavg",
        "strategy=fedadam",
        "strategy=fedprox",
        "strategy=scaffold",
        "strategy=flower",
        "strategy/objective=fedprox",
        "strategy/server_optimizer=adam",
        "strategy.server_optimizer.learning_rate=0.5",
        "strategy.aggregator.weighting=uniform",
        "server.patience=3",
        "server.keep=best",
    ],
)
@pytest.mark.parametrize("job", [PRIVATE, MAIN])
def test_whoever_says_anything_of_it_is_not_overruled(job: tuple[str, ...], word: str) -> None:
    config = compose([*job, word])
    assert objective_of(config.strategy).kind != GRADIENT_SUMS.objective.kind
    assert config.backbone.row_norm is None
    assert config.privacy.clipping_norm == 1.0


@pytest.mark.parametrize(
    ("word", "kept"), [("server.num_rounds=7", 7), ("privacy.clipping_norm=1", 50)]
)
def test_rounds_and_norms_may_be_set_beside_it(word: str, kept: int) -> None:
    config = compose([*PRIVATE, word])
    assert recipe_of(config) is GRADIENT_SUMS
    assert config.server.num_rounds == kept


@pytest.mark.parametrize(
    "job", [PRIVATE, (*HEART, "privacy=record"), MAIN, (*MAIN, "privacy=none")]
)
def test_it_is_what_private_table_says(job: tuple[str, ...]) -> None:
    assert compose(job) == compose([*job, "client=private_table"])


@pytest.mark.parametrize(("columns", "rate"), [(21, 0.003), (72, 0.00088)])
def test_a_table_of_many_columns_takes_smaller_steps(
    columns: int, rate: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "task").mkdir(parents=True)
    table = {f"c{number}": {"minimum": 0, "maximum": 1} for number in range(columns)}
    task = {"kind": "tabular", "labels": ["no", "yes"], "label_column": "y", "columns": table}
    (tmp_path / "conf" / "task" / "wide.yaml").write_text(yaml.safe_dump(task))
    wide = ("task=wide", "data.path=mine.csv", "data.public=true")
    with own_configs([]):
        config = compose([*wide, "backbone=logistic", "tuning=full", "privacy=none"])
    assert recipe_of(config) is ADAM
    assert config.client.optimizer.learning_rate == pytest.approx(rate)


@pytest.mark.parametrize("privacy", ["none", "record"])
def test_a_convolutional_network_follows_what_client_gradients_says(privacy: str) -> None:
    words = (*GARMENTS, f"privacy={privacy}")
    assert compose(words) == compose([*words, "client=gradients"])


def test_the_plain_steps_of_an_experiment_stand_where_no_recipe_applies() -> None:
    heart, main = compose(HEART), compose([*MAIN, "tuning=lora"])
    assert (heart.client.optimizer.learning_rate, heart.server.num_rounds) == (0.1, 15)
    assert (main.client.optimizer.learning_rate, main.server.num_rounds) == (3.0, 20)
    assert objective_of(heart.strategy) == ObjectiveConfig()
    piecewise = compose([*HEART, "task.numeric.encoding=piecewise"])
    assert piecewise.client.optimizer.learning_rate == ADAM.learning_rate
    assert piecewise.server.num_rounds == ADAM.num_rounds


def test_a_config_that_is_shown_says_what_the_rule_chose() -> None:
    words = rule_words(PRIVATE)
    assert "strategy/objective=gradient_sum" in words
    assert compose([*words, *PRIVATE]) == compose(PRIVATE)


TAGS = ("task=token_classification", "task.outcome.types=[PER]", "data.path=x.conll")
TAGS += ("data.public=true",)


@pytest.mark.parametrize(
    ("words", "layers"),
    [
        (("backbone=minilm",), 3),
        (("backbone=minilm", "tuning=lora"), None),
        (("backbone=transformer", "backbone.name=encoder"), 2),
        (("backbone=transformer", "backbone.name=encoder", "tuning=lora"), None),
        (("backbone=transformer", "backbone.name=encoder", "backbone.num_hidden_layers=4"), 4),
        (("backbone=transformer", "backbone.name=other"), None),
        (("backbone=transformer", "backbone.name=absent"), None),
    ],
)
def test_a_head_on_words_gets_half_of_a_sentence_encoder(
    words: tuple[str, ...], layers: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("encoder", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text('{"num_hidden_layers": 5}')
    (tmp_path / "encoder" / "modules.json").write_text("[]")
    monkeypatch.chdir(tmp_path)
    assert compose((*TAGS, *words)).backbone.num_hidden_layers == layers  # type: ignore[attr-defined]
