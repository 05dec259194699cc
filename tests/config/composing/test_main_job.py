"""What runs when nothing is said of what is to be learnt, and what anybody else starts from."""

from pathlib import Path

import pytest

from confide.config.composing.compose import compose
from confide.config.composing.folders import own_configs
from confide.config.composing.main_job import MAIN_JOB, names_a_job, with_main_job, without_records
from confide.config.composing.suited import LEARNING_RATES
from confide.config.run import Config
from confide.config.tunings.table import TUNINGS
from confide.errors import ConfigError

TEXTS = ("data.path=notes.csv", "task.labels=[no,yes]", "data.public=true")
TABLE = ("task=heart_disease", "data.path=mine.csv", "data.public=true")
LOGISTIC = (*TABLE, "backbone=logistic", "tuning=full")


def leaks(config: Config) -> list[object]:
    """Return what was chosen for the main job's records."""
    # Where a rule chooses how both are trained, it says the same of both
    data, chosen = config.data, compose([MAIN_JOB, "tuning=lora"])
    pairs = [
        (data.max_records, chosen.data.max_records),
        (data.institution, chosen.data.institution),
        (data.validation, chosen.data.validation),
        (data.test, chosen.data.test),
        (config.client.optimizer.learning_rate, chosen.client.optimizer.learning_rate),
        (data.partitioner, chosen.data.partitioner),
        (data.path, chosen.data.path),
    ]
    return [one for one, main in pairs if one == main]


@pytest.mark.parametrize("words", [[], ["privacy.epsilon=3"], ["tuning=lora", "strategy=fedadam"]])
def test_the_main_job_runs_when_nothing_is_said_of_another(words: list[str]) -> None:
    config = compose(words)
    assert (config.data.max_records, config.data.institution) == (8000, "bank")
    assert config == compose([MAIN_JOB, *words])


@pytest.mark.parametrize("words", [TEXTS, LOGISTIC, ("experiment=heart_disease",)])
def test_whoever_names_a_job_gets_nothing_of_the_main_one(words: tuple[str, ...]) -> None:
    assert leaks(compose(words)) == []


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("data=custom", True),
        ("data.alpha=1", True),
        ("+data.kwargs.a=1", True),
        ("~data.query", True),
        ("task.labels=[a,b]", True),
        ("backbone.hidden=[3]", True),
        ("experiment=heart_disease", True),
        ("privacy.epsilon=3", False),
        ("client.optimizer.learning_rate=1", False),
        ("datafoo=1", False),
        ("tracking.data=1", False),
    ],
)
def test_a_job_is_named_by_a_choice_or_by_a_key_below_it(word: str, named: bool) -> None:
    assert names_a_job([word]) is named
    assert with_main_job([word])[0] == (word if named else MAIN_JOB)


def test_records_that_are_not_named_are_asked_for() -> None:
    with pytest.raises(ConfigError) as caught:
        compose(["data.max_records=300"])
    assert caught.value.problems[0].startswith(
        "data.path is not set; name the records, data.path=FILE, or choose data or an experiment"
    )
    assert not any("client.ledger" in problem for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["task=translation", "backbone=seq2seq"], "the folder of a model in Hugging Face format"),
        (["task=conversations", "backbone=language_model"], "config.json, *.safetensors"),
        (["task=recommendation", "backbone=items"], "it is made of backbone.catalogue=FILE"),
    ],
)
def test_a_backbone_without_a_folder_is_told_what_is_needed(words: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose([*words, "data.path=records.csv"])
    (problem,) = [one for one in caught.value.problems if one.startswith("backbone.name is not")]
    assert told in problem


def test_a_choice_that_is_not_there_is_the_only_mistake_told() -> None:
    with pytest.raises(ConfigError) as caught:
        compose(["task=hart_disease"])
    assert len(caught.value.problems) == 1


def test_a_project_with_experiments_of_its_own_is_asked_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text(
        "defaults: [override /task: heart_disease, override /data: heart_disease,"
        " override /backbone: logistic, override /tuning: full]\n"
    )
    with own_configs([]), pytest.raises(ConfigError, match=r"Choose experiment=mine; experiment="):
        compose([])
    with own_configs([]):
        assert leaks(compose(["experiment=mine"])) == []
        assert compose([MAIN_JOB]).data.max_records == 8000


def test_the_partition_follows_a_column_or_a_folder(tmp_path: Path) -> None:
    def made(*words: str) -> tuple[str, int | None]:
        data = compose([*LOGISTIC, *words]).data
        return data.partitioner, data.expected_clients

    assert made() == ("iid", 4)
    assert made("data.partition_by=ward") == ("natural", None)
    assert made(f"data.path={tmp_path}") == ("natural", None)
    assert made("data.partition_by=ward", "data.partitioner=iid") == ("iid", 4)
    assert made("data.partition_by=ward", "data.num_clients=6") == ("natural", 6)


@pytest.mark.parametrize(
    ("words", "model"),
    [
        (LOGISTIC, "logistic"),
        ((*TABLE, "backbone=mlp", "tuning=full"), "mlp"),
        (TEXTS, "head"),
        ((*TEXTS, "tuning=lora"), "lora"),
        ((*TEXTS, "tuning=full"), "full"),
    ],
)
@pytest.mark.parametrize("privacy", ["none", "record"])
@pytest.mark.parametrize("client", ["poisson", "epochs"])
def test_the_step_suits_the_model_and_the_privacy(
    words: tuple[str, ...], model: str, privacy: str, client: str
) -> None:
    rate = compose([*words, f"privacy={privacy}", f"client={client}"]).client.optimizer
    private = privacy != "none"
    of_tuning = TUNINGS[model].learning_rates[private] if model in TUNINGS else None
    assert rate.learning_rate == (of_tuning or LEARNING_RATES[model, private])


def test_a_step_that_is_set_stands() -> None:
    config = compose([*LOGISTIC, "client.optimizer.learning_rate=0.25"])
    assert config.client.optimizer.learning_rate == 0.25


def test_a_coordinator_names_no_records() -> None:
    words = without_records(["task=heart_disease", "backbone=logistic", "tuning=full"])
    assert compose(words).data.path == "institutions"
    assert compose(without_records([])).data == compose(["data.public=true", MAIN_JOB]).data
    experiment = ["experiment=heart_disease"]
    assert without_records(experiment) == [*experiment, "data.public=true"]
