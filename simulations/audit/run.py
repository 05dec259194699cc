"""The audit of a run: what it left is read, its parts are run, ``RUN/audit.json`` is written."""

import datetime
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from confide.client.records.encoded import InstitutionData
from confide.client.schedule import epsilon_alone, workplan
from confide.config.audit import AuditConfig
from confide.config.client import TrainerConfig
from confide.config.data import DataConfig
from confide.config.generators.table import read_generator
from confide.errors import ConfigError, UnreadableError
from confide.held import shown
from confide.models.compute import make_compute
from confide.models.networks import trainable_tensors
from confide.models.saved import load_model
from confide.models.workload import Workload
from confide.privacy.keys import initial_seed, seeded_secret
from confide.protocol.plan import TrainingPlan, plan_sha256
from confide.server.progress.lines import QuietProgress
from confide.server.run_folder import AUDIT, CONFIG, PLAN, finished
from confide.simulations.audit.findings import PartResult
from confide.simulations.audit.plan import fresh_workload, make_mechanism, make_still, run_parts
from confide.simulations.audit.situation import (
    MOST_TESTS,
    Candidates,
    Situation,
    Trained,
    words,
)
from confide.simulations.population import partition_records
from confide.simulations.records import encode_records
from confide.storage.files import write_json
from confide.tasks.task import Examples
from confide.version import __version__

_LARGEST_EPSILON = 100.0
"""No plan may ask for more."""
_SCHEMA = 1
_MOST_CANDIDATES = 300
_MECHANISM = frozenset({"noise", "sampling", "canary", "one_run", "inversion"})

Watch = Callable[[str, Sequence[int]], Iterator[int]]
"""(title, trials) -> the same trials, shown as they pass."""


@dataclass(frozen=True, kw_only=True)
class Audited:
    """The run that is audited.

    Attributes:
        run_dir: RUN.
        plan: what was asked of institutions.
        summary: ``summary.json``.
        config: ``config.yaml``.
    """

    run_dir: Path
    plan: TrainingPlan
    summary: Mapping[str, Any]
    config: Mapping[str, Any]

    @property
    def institution(self) -> str:
        """Name of the institution with the most units."""
        clients = self.summary["clients"]
        return str(max(clients, key=lambda name: clients[name]["num_examples"]))

    @property
    def public_records(self) -> DataConfig | None:
        """Where its records are, if anybody may read them and they can be split again."""
        deployed = self.summary.get("engine", {}).get("name") == "deployment"
        plain = self.config["data"]
        made = plain.get("generator")
        data = DataConfig(**{**plain, "generator": read_generator(made) if made else None})
        known = self.config["simulation"]["seed"] is not None
        return data if data.is_public and known and not deployed else None

    @property
    def secret(self) -> bytes:
        """What its splits and initial tensors derive from."""
        return seeded_secret(self.config["simulation"]["seed"])


def read_audited(run_dir: Path) -> Audited:
    """Read a finished run.

    Raises:
        ConfigError: if there is none.
        UnreadableError: if a file of it is damaged.
    """
    summary = finished(run_dir)
    if summary is None:
        raise ConfigError(
            f"{run_dir} holds no finished run; name one, or overrides of a plan to simulate first."
        )
    try:
        config = yaml.safe_load((run_dir / CONFIG).read_text())
        written = TrainingPlan.from_json((run_dir / PLAN).read_text().strip())
    except (OSError, yaml.YAMLError) as error:
        raise UnreadableError(f"{run_dir} cannot be audited: {error}.") from None
    # Masks hide from a coordinator what a trial looks at: the update itself
    audited = Audited(
        run_dir=run_dir, plan=replace(written, sums=None), summary=summary, config=config
    )
    n = int(summary["clients"][audited.institution]["num_examples"])
    return replace(audited, plan=of_own_noise(audited.plan, num_units=n))


def of_own_noise(plan: TrainingPlan, *, num_units: int) -> TrainingPlan:
    """Return a plan that asks an institution for the same noise, and claims what that is alone.

    Args:
        plan: which may count on the noise of others.
        num_units: n of the institution.
    """
    privacy = plan.privacy
    if privacy.trust == "alone":
        return plan
    alone = min(epsilon_alone(plan, workplan(plan, num_examples=num_units)), _LARGEST_EPSILON)
    return replace(plan, privacy=replace(privacy, epsilon=alone, trust="alone", honest_peers=None))


def audit_run(run_dir: Path, settings: AuditConfig, *, watch: Watch) -> dict[str, Any]:
    """Audit a finished run, and write ``RUN/audit.json``.

    Its ledgers are not opened, and no budget is spent: trials run at institutions with ledgers in
    memory, on invented records.

    Args:
        run_dir: RUN.
        settings: parts and numbers of trials.
        watch: shows progress.

    Returns:
        What was written.

    Raises:
        ConfideError: if RUN cannot be read or its plan not carried out.
    """
    began = time.perf_counter()
    audited = read_audited(run_dir)
    plan, compute = audited.plan, make_compute(TrainerConfig(**audited.config["trainer"]))
    n = int(audited.summary["clients"][audited.institution]["num_examples"])
    seed = initial_seed(audited.secret) if audited.public_records else 0
    workload = fresh_workload(plan, compute, seed=seed)
    mechanism = still = None
    if plan.private and _MECHANISM & set(settings.parts):
        if workload.task.labels:
            mechanism = make_mechanism(
                plan, compute, num_units=n, most=settings.canaries, seed=settings.seed
            )
            still = mechanism.still
        elif "noise" in settings.parts:
            still = make_still(plan, compute, num_units=n, seed=settings.seed)
    trained = _trained(audited, workload) if "membership" in settings.parts else None
    situation = Situation(
        plan=plan,
        settings=settings,
        workload=workload,
        num_units=n,
        mechanism=mechanism,
        trained=trained,
        candidates=_candidates(audited, workload),
        watch=watch,
        still=still,
    )
    results = run_parts(situation)
    written = _written(audited, situation, results, time.perf_counter() - began)
    write_json(run_dir / AUDIT, written)
    return written


def _trained(audited: Audited, workload: Workload) -> Trained | None:
    """Load the run's model and its records; None where they are not for everybody to read."""
    data = audited.public_records
    if data is None:
        return None
    start = trainable_tensors(workload.model)
    _, final, _ = load_model(
        audited.run_dir / "model",
        compute=workload.compute,
        custom_tasks=audited.plan.task.custom_tasks,
    )
    records = encode_records(
        data,
        partition_records(data, task=audited.plan.task, secret=audited.secret),
        plan=audited.plan,
        workload=workload,
        secret=audited.secret,
        progress=QuietProgress(metric=audited.plan.task.primary_metric),
    ).data.values()
    return Trained(
        start=start,
        final=final,
        members=_together(records, "train"),
        others=Examples.concat([_together(records, "validation"), _together(records, "test")]),
    )


def _together(records: "Sequence[InstitutionData] | Any", split: str) -> Examples:
    return Examples.concat([one.split(split) for one in records])


def _candidates(audited: Audited, workload: Workload) -> Candidates:
    """Return public records of the audited institution, or invented ones."""
    data = audited.public_records
    if data is None:
        invented = workload.synthetic(_MOST_CANDIDATES, torch.Generator().manual_seed(1))
        texts = [f"invented record {number}" for number in range(_MOST_CANDIDATES)]
        return Candidates(examples=invented, texts=texts, is_real=False)
    parts = partition_records(data, task=audited.plan.task, secret=audited.secret).parts
    part = parts[audited.institution]
    few = part.select(range(min(_MOST_CANDIDATES, len(part))))
    named = workload.task.content_columns()
    columns = [few[name][:] for name in named]
    return Candidates(
        examples=workload.prepare(few),
        texts=[
            row[0] if len(named) == 1 else words(dict(zip(named, row, strict=True)))
            for row in zip(*(map(shown, column) for column in columns), strict=True)
        ],
        is_real=True,
    )


def _written(
    audited: Audited, situation: Situation, results: Mapping[str, PartResult], seconds: float
) -> dict[str, Any]:
    """Return what ``audit.json`` holds."""
    findings = [one for result in results.values() for one in result.findings]
    privacy = audited.plan.privacy
    return {
        "schema": _SCHEMA,
        "version": __version__,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "plan": plan_sha256(audited.plan.to_json()),
        "claim": {"unit": privacy.unit, "epsilon": privacy.epsilon, "delta": privacy.delta},
        "institution": audited.institution,
        "num_units": situation.num_units,
        "tests": MOST_TESTS,
        "settings": asdict(situation.settings),
        "parts": {
            name: {
                "findings": [one.to_json() for one in result.findings],
                "shown": dict(result.shown),
                "notes": list(result.notes),
            }
            for name, result in results.items()
        },
        "faults": [one.name for one in findings if one.fault],
        "seconds": round(seconds, 1),
    }


__all__ = ["Audited", "Watch", "audit_run", "read_audited"]
