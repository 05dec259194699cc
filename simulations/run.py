"""A whole simulation: records, federation, baselines, and what it leaves in RUN."""

import logging
import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import flwr
import numpy
import torch
from safetensors.torch import save_file

import confide
from confide.backbones import content_hash, find_backbone
from confide.client.data import InstitutionData
from confide.client.trainer import Trainer
from confide.config import Config, TransformerConfig
from confide.exchange import Evaluation
from confide.models import trainable_tensors
from confide.plan import TrainingPlan, make_plan
from confide.privacy.randomness import derive_key, seed_from
from confide.saved_model import save_model
from confide.server.progress import ProgressView
from confide.server.results import InstitutionResult, RunResult, summarise, write_json
from confide.server.rounds import Outcome
from confide.server.sink import MetricsSink
from confide.simulations.federation import Federation, alone, make_federation
from confide.simulations.population import deal_out, encode_institution
from confide.strategies.build import build_strategy
from confide.strategies.fedavg import fedavg
from confide.workload import Workload, build_workload, make_compute

log = logging.getLogger(__name__)


class _Stopwatch:
    """Seconds spent in each phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


def simulate(config: Config, run_dir: Path, *, progress: ProgressView) -> dict[str, Any]:
    """Run a federation on this machine.

    Args:
        config: the checked config.
        run_dir: RUN, made if need be.
        progress: shown to whoever watches.

    Returns:
        The summary, as in ``RUN/summary.json``.

    Raises:
        ConfideError: if the records, the backbone or the privacy asked for do not allow it, or too few institutions answer.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "summary.json").unlink(missing_ok=True)  # an earlier run's must not stand beside this one's config
    watch = _Stopwatch()
    secret = simulation_secret(config.simulation.seed)
    algorithm = build_strategy(config.strategy)  # first: its mistakes need no records
    with progress, MetricsSink(run_dir / "metrics.jsonl") as sink:
        with watch.phase("prepare"):
            workload, plan, data, source = _prepare(config, secret, progress)
            initial = trainable_tensors(workload.model)
            trainer = Trainer(workload, private=plan.private)
            federation = make_federation(data, trainer=trainer, initial=initial, secret=secret, plan=plan)
        with watch.phase("federated"):
            progress.phase("federated", total=config.server.num_rounds)
            outcome, kept = federation.run(algorithm, plan=plan, settings=config.server, observers=[sink, progress])
        with watch.phase("baselines"):
            baselines = _alone(config, plan, federation, progress) if "local" in config.simulation.baselines else {}
    with watch.phase("save"):
        pooled = _pooled(federation, kept)
        _save_checkpoints(run_dir / "checkpoints", outcome)
        digest = save_model(run_dir / "model", workload, kept, plan)
        best = outcome.state.best
        result = RunResult(
            plan=plan,
            outcome=outcome,
            pooled_test=pooled,
            institutions=_lines(federation, outcome, baselines),
            model_sha256=digest,
            kept_round=best.server_round if best and config.server.keep == "best" else outcome.state.server_round,
            seconds=watch.seconds,
            reproducible=config.simulation.seed is not None,
            versions=_versions(),
            data=source,
        )
    summary = summarise(result)
    write_json(run_dir / "summary.json", summary)
    return summary


def simulation_secret(seed: int | None) -> bytes:
    """Return 32 bytes that everything random in a simulation derives from."""
    return os.urandom(32) if seed is None else derive_key(seed.to_bytes(8, "little"), "simulation")


def _prepare(
    config: Config, secret: bytes, progress: ProgressView
) -> tuple[Workload, TrainingPlan, dict[str, InstitutionData], Mapping[str, object]]:
    backbone = config.backbone
    digest = content_hash(find_backbone(backbone)) if isinstance(backbone, TransformerConfig) else None
    plan = make_plan(config, backbone_sha256=digest)
    workload = build_workload(
        config.task, backbone, config.tuning, compute=make_compute(config.trainer), seed=seed_from(secret, "initial")
    )
    population = deal_out(config.data, task=config.task, secret=secret)
    progress.phase("prepare records", total=len(population.parts))
    data = {}
    for name, records in population.parts.items():
        data[name] = encode_institution(name, records, config.data, workload=workload, secret=secret)
        progress.advance(f"{name}, {len(records)} records")
    return workload, plan, data, population.summary


def _alone(
    config: Config, plan: TrainingPlan, federation: Federation, progress: ProgressView
) -> dict[str, tuple[Evaluation, Evaluation]]:
    """Train each institution alone; score its model on the pooled test records and on its own."""
    progress.phase("each one alone", total=len(federation.institutions))
    scored = {}
    for name in federation.institutions:
        own_plan, settings = alone(plan, config.server, name)
        outcome, kept = federation.run(fedavg(), plan=own_plan, settings=settings, only=[name])
        scored[name] = (_pooled(federation, kept), outcome.test.get(name, {}))
        progress.advance(name)
    return scored


def _pooled(federation: Federation, tensors: Mapping[str, torch.Tensor]) -> Evaluation:
    """Score tensors on the test records of all institutions together; only a simulation can."""
    parts = [institution.data.test for institution in federation.institutions.values() if len(institution.data.test)]
    if not parts:
        return {"num_examples": 0}
    pooled = type(parts[0]).concat(parts)
    return {**federation.trainer.evaluate(dict(tensors), pooled), "num_examples": len(pooled)}


def _lines(
    federation: Federation, outcome: Outcome, baselines: Mapping[str, tuple[Evaluation, Evaluation]]
) -> dict[str, InstitutionResult]:
    labels = federation.trainer.workload.task.labels
    lines = {}
    for name, institution in federation.institutions.items():
        counts = institution.data.label_counts(labels)
        pooled, own = baselines.get(name, (None, None))
        lines[name] = InstitutionResult(
            num_examples=len(institution.data.train),
            records=sum(counts.values()),
            labels=counts,
            test=outcome.test.get(name, {}),
            alone=pooled,
            alone_own=own,
        )
    return lines


def _save_checkpoints(folder: Path, outcome: Outcome) -> None:
    folder.mkdir(exist_ok=True)
    models = {"last": outcome.state.params} | ({"best": outcome.state.best.params} if outcome.state.best else {})
    for name, tensors in models.items():
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / f".{name}.tmp")
        os.replace(folder / f".{name}.tmp", folder / f"{name}.safetensors")


def _versions() -> dict[str, str]:
    return {
        "confide": confide.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "flwr": flwr.__version__,
        "opacus": version("opacus"),
        "numpy": numpy.__version__,
    }


__all__ = ["simulate", "simulation_secret"]
