"""What a run left, for Python: :class:`Result`.

Nothing is read before it is asked for, and neither pandas nor torch loaded.
"""

import json
import os
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from confide.config.spelling import counted
from confide.errors import ConfigError, UnreadableError
from confide.server.run_folder import REPORT, SUMMARY, finished
from confide.simulations.process_settings import quiet_imports, threads_kept, without_bars

if TYPE_CHECKING:
    import pandas
    from datasets import Dataset
    from torch import nn

_METRICS, _MODEL = "metrics.jsonl", "model"


@dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
        run_dir: RUN, absolute.
        summary: ``RUN/summary.json``.
        custom_tasks: dotted paths of custom tasks that may be imported to use the model.
    """

    run_dir: Path
    summary: dict[str, Any] = field(repr=False)
    custom_tasks: tuple[str, ...] = field(default=(), repr=False)

    @cached_property
    def metrics(self) -> "pandas.DataFrame":
        """Every metric of the run, one a row: round, phase, client, name, value, num_examples.

        Raises:
            UnreadableError: if the file is damaged or gone.
        """
        import pandas

        try:
            lines = (self.run_dir / _METRICS).read_text().splitlines()
            return pandas.DataFrame([json.loads(line) for line in lines])
        except (OSError, json.JSONDecodeError) as error:
            raise UnreadableError(f"{self.run_dir / _METRICS} cannot be read: {error}.") from None

    @cached_property
    def institutions(self) -> "pandas.DataFrame":
        """One row an institution: records, epsilon, and the primary metric.

        Of its local model and of the federated one, each on pooled and on its own test records.
        """
        import pandas

        if "institutions" in self.summary:
            return _lines(self.run_dir, self.summary)
        rows = {name: _line(self.summary, name) for name in self.summary["clients"]}
        return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("institution")

    @property
    def report(self) -> Path:
        """The report, to be opened in a browser."""
        return self.run_dir / REPORT

    @property
    def model_dir(self) -> Path:
        """The model's folder: ``trainable.safetensors``, and ``adapter/`` or ``encoder/``."""
        return self.run_dir / _MODEL

    def model(self) -> "nn.Module":
        """Return the trained model, on the CPU.

        Features of a table, or token ids and attention mask, in; logits out.

        Raises:
            ModelError: if it is damaged, or its backbone is not here.
        """
        with quiet_imports():
            from confide.inference.exporter import exporter_of
            from confide.models.compute import Compute
            from confide.models.saved import load_model, read_description
        with without_bars():
            workload, _, _ = load_model(
                self.model_dir, compute=Compute(), custom_tasks=self.custom_tasks
            )
            plan = read_description(self.model_dir).plan
            return exporter_of(plan).whole(workload, plan, merge=False).eval()

    def predict(
        self,
        records: "pandas.DataFrame | Dataset | str | Path",
        *,
        skip_misfits: bool = False,
    ) -> "pandas.DataFrame":
        """Predict on records: a frame, a dataset, or what ``data.path`` takes.

        Nothing of them is kept.

        Args:
            records: the task's input columns; others are not looked at.
            skip_misfits: whether to predict the others where records do not fit the task's schema;
                column ``problem`` then says why nothing is predicted of a record.

        Returns:
            One row a record: ``prediction``, and ``probability_CLASS`` for each class.

        Raises:
            DataError: naming everything that does not fit the task's schema.
            ModelError: if the model is damaged, or its backbone is not here.
        """
        with quiet_imports():
            from confide.client.records.sources.reading import Reading
            from confide.client.records.whole import read_whole
            from confide.inference.prediction import predict
            from confide.models.saved import read_description
        with threads_kept(), without_bars():
            if isinstance(records, str | Path):
                task = read_description(self.model_dir).plan.task
                records = read_whole(
                    str(records),
                    query=None,
                    needed=(*task.content_columns, *task.source_columns),
                    keep=(),
                    reading=Reading(files=task.files),
                ).records
            return predict(
                self.run_dir,
                records,
                custom_tasks=self.custom_tasks,
                skip_misfits=skip_misfits,
            )

    def _repr_html_(self) -> str:
        metric = self.summary["primary_metric"]
        rows = self.institutions
        if "institutions" in self.summary:  # too many for a row each
            from confide.server.run.many import QUANTILES

            rows = rows.quantile(list(QUANTILES.values())).set_axis(list(QUANTILES)).T
        table: str = rows.to_html(float_format="{:.3f}".format, na_rep="-", border=0)
        federated = self.summary["federated"].get(metric)
        told = (
            ""
            if federated is None
            else f" {escape(str(metric))} {federated:.3f} on the test records of all,"
        )
        rounds = escape(counted(self.summary["rounds"], "round"))
        return f"<p>{escape(os.path.relpath(self.run_dir))}:{told} {rounds}</p>{table}"


def load_run(run_dir: str | Path, *, custom_tasks: tuple[str, ...] = ()) -> Result:
    """Look at a run that is finished, from whatever command or process.

    Args:
        run_dir: RUN.
        custom_tasks: dotted paths of custom tasks that may be imported; none is on a file's
            word.

    Raises:
        ConfigError: if there is no finished run.
    """
    folder = Path(run_dir).expanduser().resolve()
    summary = finished(folder)
    if summary is None:
        raise ConfigError(
            f"{folder} holds no finished run: there is no {SUMMARY} with status=completed. Finish"
            " it, or name another."
        )
    return Result(folder, summary, tuple(custom_tasks))


def _lines(run_dir: Path, summary: dict[str, Any]) -> "pandas.DataFrame":
    """Read the rows of many institutions from the file beside the summary."""
    import pandas

    from confide.server.run.many import LOCAL, LOCAL_OWN, NAME

    many, metric = summary["institutions"], summary["primary_metric"]
    path = run_dir / many["file"]
    try:
        rows = pandas.read_parquet(path).set_index(NAME)
    except (OSError, ValueError, KeyError) as error:
        raise UnreadableError(f"{path} cannot be read: {error}.") from None
    columns = {
        "records": "records" if "records" in rows else "num_examples",
        "local_pooled": f"{LOCAL}{metric}",
        "local_own": f"{LOCAL_OWN}{metric}",
        "federated_own": metric,
        "epsilon": "epsilon",
        "rounds": "rounds",
    }
    found = pandas.DataFrame({key: rows[name] for key, name in columns.items() if name in rows})
    federated = summary["federated"].get(metric)
    return found if federated is None else found.assign(federated_pooled=federated)


def _line(summary: dict[str, Any], name: str) -> dict[str, Any]:
    """Write one institution's row; what was not measured is left out."""
    client, metric = summary["clients"][name], summary["primary_metric"]
    local = summary["baselines"].get("local", {}).get(name, {})
    line = {
        "records": client.get("records", client["num_examples"]),
        "local_pooled": local.get(metric),
        "federated_pooled": summary["federated"].get(metric),
        "local_own": local.get("own_test", {}).get(metric),
        "federated_own": client.get(metric),
        "epsilon": client.get("epsilon"),
        "rounds": client["rounds"],
    }
    return {key: value for key, value in line.items() if value is not None}


__all__ = ["Result", "load_run"]
