"""MLflow: files for ``mlflow ui --backend-store-uri RUN/mlruns``, or a tracking server.

Files are the default, and then nothing leaves the machine. A server receives metrics with
institutions' names, the config with passwords masked, and the run's status. MLflow's telemetry is
switched off.
"""

import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from confide.config.tracking import TrackingConfig
from confide.server.trackers.run_id import keep_id, kept_id
from confide.server.trackers.scalars import Scalar, Scalars, final_scores
from confide.server.trackers.tracker import Metric

# MLflow reads them when it is imported or first used, so they are set before the import. With its
# own retries and timeout, a server that does not answer would hold up a run for an hour.
for _variable, _value in {
    "DO_NOT_TRACK": "true",
    # MLflow 3 has its file store in maintenance mode and refuses it otherwise; a database would
    # need the full mlflow package.
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}.items():
    os.environ.setdefault(_variable, _value)

from mlflow import MlflowClient  # noqa: E402 - see above
from mlflow.entities import Metric as Point  # noqa: E402
from mlflow.entities import Param  # noqa: E402

FOLDER = "mlruns"
# Limits of one request of MLflow's REST API.
_MOST_POINTS = 1000
_MOST_PARAMS = 100
_LONGEST_PARAM = 6000
_NOT_IN_NAMES = re.compile(r"[^\w.\- :/]")


class MlflowTracker:
    """Logs curves and the config as one MLflow run.

    Args:
        project: name of MLflow's experiment.
        uri: address of the tracking server; None for files in RUN.
        named_clients: largest number of institutions that get separate curves.
    """

    def __init__(self, project: str, uri: str | None, named_clients: int) -> None:
        self._project, self._uri = project, uri
        self._scalars = Scalars(named_clients)
        # Steps that an earlier process logged, by curve; None in a new run.
        self._logged: dict[str, set[int]] | None = None

    def begin(self, name: str, config: Mapping[str, object], run_dir: Path) -> None:
        """Begin an MLflow run, or continue the one that an earlier process began."""
        self._client = MlflowClient(tracking_uri=self._uri or (run_dir / FOLDER).resolve().as_uri())
        before = kept_id(run_dir, "mlflow")
        if before is not None:
            self._run_id = before
            self._logged = {}
            self._client.update_run(before, status="RUNNING")
            return
        known = self._client.get_experiment_by_name(self._project)
        experiment = known.experiment_id if known else self._client.create_experiment(self._project)
        self._run_id = self._client.create_run(experiment, run_name=name).info.run_id
        keep_id(run_dir, "mlflow", self._run_id)
        params = [Param(key, str(value)[:_LONGEST_PARAM]) for key, value in config.items()]
        for part in _parts(params, _MOST_PARAMS):
            self._client.log_batch(self._run_id, params=part)

    def log(self, metrics: Sequence[Metric]) -> None:
        """Log points that no earlier process of this run has logged."""
        self._points(self._scalars.of(metrics))

    def finish(self, summary: Mapping[str, Any] | None) -> None:
        """End the MLflow run."""
        if summary is None:
            self._client.set_terminated(self._run_id, status="KILLED")
            return
        self._points(
            Scalar(tag, summary["rounds"], value) for tag, value in final_scores(summary).items()
        )
        if "model_sha256" in summary:
            self._client.set_tag(self._run_id, "model_sha256", summary["model_sha256"])
        self._client.set_terminated(
            self._run_id, status="FINISHED" if summary["status"] == "completed" else "FAILED"
        )

    def _points(self, scalars: Iterable[Scalar]) -> None:
        now = int(time.time() * 1000)
        named = [(_name(tag), step, value) for tag, step, value in scalars]
        # MLflow would keep an earlier process's points too, and draw the curve through them twice.
        if self._logged is not None:
            for name in sorted({name for name, _, _ in named} - self._logged.keys()):
                history = self._client.get_metric_history(self._run_id, name)
                self._logged[name] = {point.step for point in history}
        logged = self._logged or {}
        points = [
            Point(name, value, now, step)
            for name, step, value in named
            if step not in logged.get(name, ())
        ]
        for part in _parts(points, _MOST_POINTS):
            self._client.log_batch(self._run_id, metrics=part)


def _name(tag: str) -> str:
    """Return MLflow's name of a curve: ``validation/accuracy.bank-1`` for an institution's."""
    # MLflow stores a curve as a file: `validation/accuracy` cannot be a folder as well.
    phase, name, *client = tag.split("/", 2)
    return _NOT_IN_NAMES.sub(
        "_", ".".join([f"{phase}/{name}", *(part.replace("/", "_") for part in client)])
    )


def _parts(items: Sequence[Any], most: int) -> Iterable[Sequence[Any]]:
    return (items[start : start + most] for start in range(0, len(items), most))


def make_tracker(settings: TrackingConfig) -> MlflowTracker:
    """Make it of its settings."""
    return MlflowTracker(settings.project, settings.mlflow_uri, settings.named_clients)


__all__ = ["FOLDER", "MlflowTracker", "make_tracker"]
