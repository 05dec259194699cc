"""The files of a run, read back for a report."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas
import yaml

from confide.config.tasks.table import known_metrics
from confide.errors import ConfigError, UnreadableError
from confide.metrics.metric import noise_name
from confide.server.report.metrics_file import COLUMNS, read_metrics
from confide.server.run.many import LOCAL, LOCAL_OWN, NAME, PERSONAL_OWN
from confide.server.run.sums import known_together
from confide.server.run_folder import COMMAND, CONFIG, SUMMARY, can_resume, resume_command


@dataclass(frozen=True, kw_only=True)
class RunFiles:
    """A run, as its files describe it.

    Attributes:
        folder: folder of the run (RUN).
        summary: content of ``summary.json``.
        config: content of ``config.yaml``.
        command: content of ``command.yaml``; {} for a run started from Python.
        metrics: content of ``metrics.jsonl``, a row for each line, with the columns of
            :data:`COLUMNS`.
    """

    folder: Path
    summary: Mapping[str, Any]
    config: Mapping[str, Any]
    command: Mapping[str, Any] = field(default_factory=dict)
    metrics: pandas.DataFrame = field(
        default_factory=lambda: pandas.DataFrame(columns=list(COLUMNS))
    )

    @property
    def metric(self) -> str:
        """Name of the primary metric."""
        return str(self.config["task"]["primary_metric"])

    @property
    def higher_is_better(self) -> bool:
        """Whether a higher value of the primary metric is better."""
        return known_metrics()[self.metric].direction == "max"

    @property
    def clients(self) -> Mapping[str, Mapping[str, Any]]:
        """Institution -> its part of the summary; {} if the run failed."""
        clients: Mapping[str, Mapping[str, Any]] = self.summary.get("clients", {})
        return clients

    @property
    def many(self) -> Mapping[str, Any]:
        """What the summary says of institutions that are too many for a row each; {} of few."""
        many: Mapping[str, Any] = self.summary.get("institutions", {})
        return many

    @property
    def num_institutions(self) -> int:
        """Number of institutions."""
        return int(self.many.get("count", len(self.clients)))

    @cached_property
    def rows(self) -> pandas.DataFrame:
        """All figures of many institutions, one a row, by name.

        Raises:
            UnreadableError: if the file beside the summary is damaged or gone.
        """
        path = self.folder / self.many["file"]
        try:
            return pandas.read_parquet(path).set_index(NAME)
        except (OSError, ValueError, KeyError) as error:
            raise UnreadableError(f"{path} cannot be read: {error}.") from None

    def values(self, figure: str) -> Mapping[str, float]:
        """Return a figure of institutions, of those that have it: name -> value.

        Args:
            figure: such as ``num_examples`` or a metric, of the federated model on each one's own
                test records; ``local.METRIC`` and ``local_own.METRIC`` of local models;
                ``personal_own.METRIC`` of institutions' own.
        """
        if self.many:
            if figure not in self.rows.columns:
                return {}
            found: Mapping[str, float] = self.rows[figure].dropna().to_dict()
            return found
        lines: Mapping[str, Mapping[str, Any]] = self.clients
        if figure.startswith(PERSONAL_OWN):
            lines = {name: line.get("personal", {}) for name, line in lines.items()}
        elif figure.startswith(LOCAL_OWN):
            lines = {name: line.get("own_test", {}) for name, line in self.local.items()}
        elif figure.startswith(LOCAL):
            lines = self.local
        name = figure.rpartition(".")[2]
        return {who: line[name] for who, line in lines.items() if name in line}

    @property
    def largest_epsilon(self) -> float | None:
        """Largest epsilon that an institution spent; None if none was."""
        return max(self.values("epsilon").values(), default=None)

    @property
    def noisy(self) -> bool:
        """Whether scores of the model were released with noise."""
        lines = [self.summary.get("federated", {}), *self.clients.values()]
        return any(noise_name(self.metric) in line for line in lines)

    @property
    def local(self) -> Mapping[str, Mapping[str, Any]]:
        """Institution -> metrics of its local model; {} if none was trained."""
        local: Mapping[str, Mapping[str, Any]] = self.summary.get("baselines", {}).get("local", {})
        return local

    @property
    def pooled(self) -> Mapping[str, Any]:
        """Metrics of the model trained on all records in one place; {} if none was trained."""
        pooled: Mapping[str, Any] = self.summary.get("baselines", {}).get("pooled", {})
        return pooled

    @property
    def private(self) -> bool:
        """Whether the run was trained with differential privacy."""
        return str(self.config["privacy"]["unit"]) != "none"

    def interval(self, institution: str | None = None) -> tuple[float, float] | None:
        """Return the 95 % interval of the federated model's primary metric; None if unknown.

        Args:
            institution: on whose own test records; None: on all of them.
        """
        line = self.summary.get("evaluation", {})
        if institution is not None:
            line = line.get("clients", {}).get(institution, {})
        ends = line.get("metrics", {}).get(self.metric, {}).get("interval")
        return (ends[0], ends[1]) if ends else None

    @property
    def summed(self) -> bool:
        """Whether scores left in masked sums, so that those of all together alone are known."""
        return known_together(self.summary)

    def rounds_of(self, name: str, phase: str) -> pandas.DataFrame:
        """Return one metric's rows of one phase, in the order of rounds."""
        rows = self.metrics
        chosen: pandas.DataFrame = rows[
            (rows["name"] == name) & (rows["phase"] == phase)
        ].sort_values("round", kind="stable")
        return chosen


def read_run(folder: Path) -> RunFiles:
    """Read a run.

    Raises:
        ConfigError: if the folder holds no run that has ended.
        UnreadableError: if a file of it is damaged.
    """
    try:
        summary = json.loads((folder / SUMMARY).read_text())
        config = yaml.safe_load((folder / CONFIG).read_text())
    except (FileNotFoundError, NotADirectoryError) as error:
        if (folder / CONFIG).is_file():
            way = f", or go on with it by `{resume_command(folder)}`" if can_resume(folder) else ""
            raise ConfigError(
                f"{folder} holds a run that has not ended; wait for it{way}."
            ) from None
        raise ConfigError(
            f"{folder} holds no run that has ended ({Path(str(error.filename)).name} is missing);"
            " name a folder as `confide simulate` prints it, or of a sweep."
        ) from None
    except (OSError, json.JSONDecodeError, yaml.YAMLError) as error:
        raise UnreadableError(f"{folder}: a file of the run cannot be read: {error}.") from None
    return RunFiles(
        folder=folder,
        summary=summary,
        config=config,
        command=read_command(folder / COMMAND),
        metrics=read_metrics(folder),
    )


def read_command(path: Path) -> Mapping[str, Any]:
    """Read the command that started a run; {} if there is none, or it is damaged."""
    # A report without its command is better than no report
    try:
        command = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError):
        return {}
    return command if isinstance(command, Mapping) else {}


__all__ = ["RunFiles", "read_run"]
