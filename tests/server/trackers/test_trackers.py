"""Trackers, each read back with its own library's reader.

All get each metric once, and none can end a run.
"""

import json
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from confide.config import tracking as tracking_config
from confide.config.composing.compose import compose
from confide.config.custom import look_in_current_folder
from confide.errors import ConfigError
from confide.server.trackers.build import build_tracker
from confide.server.trackers.fan_out import FanOut
from confide.server.trackers.scalars import Scalars
from confide.server.trackers.tracker import Metric

Track = Callable[..., None]
MEAN = [(0, 0.1 + 0.02 / 3), (1, 0.2 + 0.02 / 3), (2, 0.3 + 0.02 / 3)]
"""Of 0.1 on one record and 0.11 on two, and so on: the model that round r began from is that of
round r - 1."""


def curves(run_dir: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(run_dir / "tensorboard"))
    accumulator.Reload()
    return accumulator


def points(run_dir: Path, tag: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in curves(run_dir).Scalars(tag)]


# --- TensorBoard


def test_tensorboard_has_a_curve_of_each_institution_and_one_of_all(
    track: Track, tmp_path: Path
) -> None:
    track("tracking=tensorboard")
    assert points(tmp_path, "validation/accuracy") == [
        (r, pytest.approx(value)) for r, value in MEAN
    ]
    assert points(tmp_path, "validation/accuracy/bank-2")[0] == (0, pytest.approx(0.11))
    assert points(tmp_path, "privacy/epsilon") == [(r, pytest.approx(r + 0.01)) for r in (1, 2, 3)]
    assert points(tmp_path, "test/accuracy/bank-1") == [(3, 0.5)]
    assert points(tmp_path, "federated/accuracy") == [(3, 0.75)]
    shown = curves(tmp_path).Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "    privacy.epsilon: 8.0\n" in shown


def test_tensorboard_shows_a_resumed_run_once(track: Track, tmp_path: Path) -> None:
    track("tracking=tensorboard", rounds=2, ends=False)
    watching = curves(tmp_path)  # since before the run was stopped
    track("tracking=tensorboard", after=2)
    watching.Reload()
    for accumulator in (watching, curves(tmp_path)):
        assert [point.step for point in accumulator.Scalars("validation/accuracy")] == [0, 1, 2]


def test_many_institutions_are_drawn_by_mean_least_and_largest(
    track: Track, tmp_path: Path
) -> None:
    track("tracking=tensorboard", "tracking.named_clients=3", clients=4)
    assert not [tag for tag in curves(tmp_path).Tags()["scalars"] if "bank" in tag]
    assert points(tmp_path, "privacy/epsilon/min")[0] == (1, 1.0)
    assert points(tmp_path, "privacy/epsilon/max")[0] == (1, pytest.approx(1.03))
    assert points(tmp_path, "enrol/num_examples") == [(0, 100)]


def test_a_cohort_of_many_institutions_is_not_named_either() -> None:
    scalars = Scalars(named_clients=3)
    enrol: list[Metric] = [line("enrol", f"bank-{n}") for n in range(10)]
    assert {scalar.tag for scalar in scalars.of(enrol)} == {"enrol/x", "enrol/x/min", "enrol/x/max"}
    assert {scalar.tag for scalar in scalars.of([line("validation", "bank-1")])} == {
        "validation/x",
        "validation/x/min",
        "validation/x/max",
    }


def line(phase: str, client: str | None) -> Metric:
    return {
        "round": 0,
        "phase": phase,
        "client": client,
        "name": "x",
        "value": 1.0,
        "num_examples": 1,
    }


def test_tensorboard_imports_no_tensorflow(tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('tensorflow was imported')")
    code = f"""
        import sys; sys.path.insert(0, {str(tmp_path)!r})
        from pathlib import Path
        from confide.server.trackers.tensorboard import TensorBoardTracker
        tracker = TensorBoardTracker(50)
        tracker.begin('x', {{}}, Path({str(tmp_path)!r})); tracker.finish(None)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


# --- CSV


def test_csv_has_the_lines_of_metrics_jsonl(track: Track, tmp_path: Path) -> None:
    track("tracking=csv", rounds=2, ends=False)
    track("tracking=csv", after=2)
    frame = pandas.read_csv(tmp_path / "metrics.csv")
    lines = [json.loads(text) for text in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert list(frame.columns) == list(lines[0])
    pandas.testing.assert_frame_equal(frame, pandas.DataFrame(lines), check_dtype=False)


# --- MLflow


def mlflow_points(run_dir: Path, name: str) -> tuple[Any, list[tuple[int, float]]]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=(run_dir / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("confide")
    (run,) = client.search_runs([experiment.experiment_id])
    return run, sorted(
        (point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)
    )


@pytest.mark.slow
def test_mlflow_writes_files_that_its_client_reads_and_goes_on_with_the_same_run(
    track: Track, tmp_path: Path
) -> None:
    track("tracking=mlflow", rounds=2, ends=False)
    assert mlflow_points(tmp_path, "train/seconds")[0].info.status == "KILLED"
    track("tracking=mlflow", after=2)
    run, mean = mlflow_points(tmp_path, "validation/accuracy")
    assert mean == [(r, pytest.approx(value)) for r, value in MEAN]
    assert [step for step, _ in mlflow_points(tmp_path, "privacy/epsilon.bank-2")[1]] == [1, 2, 3]
    assert (run.info.status, run.info.run_name) == ("FINISHED", f"trial {tmp_path.name}")
    assert run.data.params["privacy.epsilon"] == "8.0"
    assert run.data.metrics["federated/accuracy"] == 0.75


# --- W&B


def wandb_rows(run_dir: Path) -> list[dict[str, Any]]:
    """Read what W&B would send; its service ends the file a moment after the run."""
    end = time.monotonic() + 20
    while True:
        records = list(wandb_records(run_dir))
        if "exit" in {record.WhichOneof("record_type") for record in records}:
            break
        assert time.monotonic() < end
        time.sleep(0.02)
    history = [
        record.history.item for record in records if record.WhichOneof("record_type") == "history"
    ]
    return [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}
        for items in history
    ]


def wandb_records(run_dir: Path) -> Iterator[Any]:
    """Yield messages, which lie in LevelDB's log format.

    32 KiB blocks of parts, behind a header of 7 bytes.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = (run_dir / "wandb").glob("offline-run-*/*.wandb")
    raw, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(raw):
        if 2**15 - at % 2**15 < 7:
            at += 2**15 - at % 2**15
            continue
        size, kind = int.from_bytes(raw[at + 4 : at + 6], "little"), raw[at + 6]
        whole, at = whole + raw[at + 7 : at + 7 + size], at + 7 + size
        if kind in (1, 4) and at <= len(raw):  # whole, or the last part
            yield Record.FromString(whole)
            whole = b""


@pytest.mark.slow
def test_wandb_offline_holds_each_row_once_and_nothing_of_the_machine(
    track: Track, tmp_path: Path
) -> None:
    track("tracking=wandb", rounds=2, ends=False)
    assert [row["round"] for row in wandb_rows(tmp_path)] == [0, 0, 1, 1, 2]
    track("tracking=wandb", after=2)
    rows = wandb_rows(tmp_path)
    mean = [
        (row["round"], row["validation/accuracy"]) for row in rows if "validation/accuracy" in row
    ]
    assert mean == [(r, pytest.approx(value)) for r, value in MEAN]
    assert [row["round"] for row in rows if "privacy/epsilon/bank-2" in row] == [1, 2, 3]
    assert not list((tmp_path / "wandb").rglob("requirements.txt"))
    assert not list((tmp_path / "wandb").rglob("wandb-metadata.json"))


@pytest.mark.slow
def test_wandb_online_without_a_key_is_a_mistake_and_asks_nobody(
    track: Track, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="run `wandb login`, or choose"):
        track("tracking=wandb", "tracking.wandb_mode=online")


# --- one's own, several, none, and failures


OWN = """
class Diary:
    def begin(self, name, config, run_dir):
        self.file = (run_dir / "diary.txt").open("w")

    def log(self, metrics):
        print(len(metrics), "metrics, up to round", metrics[-1]["round"], file=self.file)

    def finish(self, summary):
        print(summary["status"] if summary else "stopped", file=self.file)
        self.file.close()
"""
DIARY = ["2 metrics, up to round 0", *(f"7 metrics, up to round {r}" for r in (1, 2, 3))]


@pytest.fixture
def _own_package(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.mktemp("own")
    (folder / "my_pkg.py").write_text(OWN)
    monkeypatch.syspath_prepend(folder)


@pytest.mark.usefixtures("_own_package")
def test_several_trackers_one_of_them_ones_own(track: Track, tmp_path: Path) -> None:
    track("tracking.trackers=[csv,tensorboard,my_pkg.Diary]", ends=False)
    assert (tmp_path / "diary.txt").read_text().splitlines() == [*DIARY, "stopped"]
    assert len(pandas.read_csv(tmp_path / "metrics.csv")) == 2 + 3 * 7
    assert len(points(tmp_path, "train/seconds")) == 3


def test_a_tracker_in_the_current_folder_is_found_last_of_all(
    track: Track, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here_pkg.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    config = compose(["tracking.trackers=[csv,here_pkg.Diary]"])
    assert config.custom_parts == ("here_pkg.Diary",)
    look_in_current_folder(config.custom_parts)
    assert sys.path[-1] == str(tmp_path)
    track("tracking.trackers=[here_pkg.Diary]", ends=False)
    assert (tmp_path / "diary.txt").read_text().splitlines() == [*DIARY, "stopped"]


@pytest.mark.usefixtures("_own_package")
def test_a_resumed_run_makes_the_same_calls(track: Track, tmp_path: Path) -> None:
    track("tracking.trackers=[my_pkg.Diary]", after=2)
    assert (tmp_path / "diary.txt").read_text().splitlines() == [
        *DIARY,
        "1 metrics, up to round 3",
        "completed",
    ]


def test_none_writes_metrics_jsonl_alone(track: Track, tmp_path: Path) -> None:
    track("tracking=none")
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.jsonl"}


class Recorder:
    """Keeps what it is told, and fails where it is to."""

    def __init__(self, fails_at: str = "") -> None:
        self.told: list[object] = []
        self._fails_at = fails_at

    def begin(self, name: str, config: object, run_dir: Path) -> None:
        self._tell("begin", name)

    def log(self, metrics: Sequence[Metric]) -> None:
        self._tell("log", len(metrics))

    def finish(self, summary: object) -> None:
        self._tell("finish", summary)

    def _tell(self, call: str, told: object) -> None:
        if call == self._fails_at:
            raise ConnectionError("no route\nto host")
        self.told.append(told)


@pytest.mark.parametrize("at", ["begin", "log", "finish"])
def test_a_tracker_that_fails_is_named_once_and_the_others_go_on(
    at: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    near = Recorder()
    fan_out = FanOut({"far": Recorder(at), "near": near})
    fan_out.begin("trial", {}, tmp_path)
    fan_out.log([line("train", None)])
    fan_out.log([line("train", None)])
    fan_out.finish(None)
    assert near.told == ["trial", 1, 1, None]
    assert [record.getMessage() for record in caplog.records] == [
        "Tracker far failed and is left out from here on (ConnectionError: no route to host). The"
        " run goes on, and metrics.jsonl has every metric; fix the cause, or leave far out of"
        " tracking.trackers."
    ]


@pytest.mark.parametrize(
    ("trackers", "complaint"),
    [
        (
            "[wandb]",
            (
                r"tracking\.trackers=\[wandb\]: wandb is not installed; pip install"
                r" 'confide\[wandb\]'\."
            ),
        ),
        (
            "[tensorbord]",
            r"expected tensorboard, wandb, mlflow, csv, or the dotted path of a class",
        ),
        ("[csv,csv]", r"csv is listed twice"),
        ("[no_such_pkg.Mine]", r"there is no package no_such_pkg"),
    ],
)
def test_what_cannot_be_chosen_is_a_mistake_in_the_config(
    trackers: str, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tracking_config.is_installed
    monkeypatch.setattr(
        tracking_config, "is_installed", lambda package: package != "wandb" and there(package)
    )
    with pytest.raises(ConfigError, match=complaint):
        compose([f"tracking.trackers={trackers}"])


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("json.Nothing", "has no attribute 'Nothing'"),
        ("json.JSONEncoder", "has no begin, log, finish"),
    ],
)
def test_a_class_that_is_no_tracker_is_a_mistake(path: str, complaint: str, track: Track) -> None:
    with pytest.raises(ConfigError, match=complaint):
        track(f"tracking.trackers=[{path}]")


def test_by_default_tensorboard_is_chosen_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert compose([]).tracking.chosen() == ["tensorboard"]
    monkeypatch.setattr(tracking_config, "is_installed", lambda package: False)
    assert compose([]).tracking.chosen() == []


def test_a_tracker_that_fails_as_it_is_imported_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_tracker.py").write_text("raise RuntimeError('no licence')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"\[broken_tracker\.Mine\]: RuntimeError: no licence"):
        build_tracker("broken_tracker.Mine", tracking_config.TrackingConfig())
