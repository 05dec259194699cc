"""Trained models to explain, with records that are invented, one of each kind."""

from pathlib import Path

import numpy
import torch
from builders import build_plan, build_tuning
from datasets import Dataset

from confide.config.models.backbone import BackboneConfig
from confide.config.models.perceptrons import LogisticConfig
from confide.config.tasks.columns import ColumnConfig, NumericConfig
from confide.config.tasks.tabular import TabularConfig
from confide.config.tasks.task import TaskConfig
from confide.explaining.network import Network
from confide.explaining.rows import Rows
from confide.inference.predictor import Predictor, load_predictor
from confide.models.backbones import pretrained_hash
from confide.models.compute import Compute
from confide.models.networks import trainable_tensors
from confide.models.saved import save_model
from confide.models.workload import build_workload
from confide.tasks.labelled import Labelled
from confide.tasks.outcomes.build import outcome_of

LOANS = TabularConfig(
    labels=["refused", "approved"],
    label_column="state",
    numeric=NumericConfig(encoding="linear", scaling="none"),
    columns={
        "income": ColumnConfig(minimum=0, maximum=100),
        "debt": ColumnConfig(minimum=0, maximum=50),
        "house": ColumnConfig(kind="categorical", categories=["none", "rents", "owns"]),
        "shoe": ColumnConfig(minimum=30, maximum=50),
    },
)
WEIGHTS = {"income": [3.0], "debt": [-4.0], "house": [-0.5, 0.0, 1.0], "shoe": [0.0]}
"""What each input adds to the log-odds of approved; linear inputs go from -1 to 1, or 0 to 1."""


def save_plan(
    run: Path, task: TaskConfig, backbone: BackboneConfig, tuning: str = "full"
) -> Predictor:
    """Write a run whose model is not where it started, and load it."""
    plan = build_plan(
        task=task,
        backbone=backbone,
        backbone_sha256=pretrained_hash(backbone),
        tuning=build_tuning(tuning, rank=2),
    )
    workload = build_workload(
        plan.encoded_task, plan.backbone, plan.tuning, compute=Compute(), seed=0
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in workload.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    save_model(run / "model", workload, trainable_tensors(workload.model), plan)
    return load_predictor(run, compute=Compute())


def save_loans(run: Path, task: TabularConfig = LOANS) -> Predictor:
    """Write a linear model with known weights, and load it."""
    plan = build_plan(task=task, backbone=LogisticConfig())
    workload = build_workload(
        plan.encoded_task, plan.backbone, plan.tuning, compute=Compute(), seed=0
    )
    weights = [it for name in task.columns for it in WEIGHTS[name]]
    tensors = {
        "layers.0.weight": torch.tensor([[0.0] * len(weights), weights]),
        "layers.0.bias": torch.tensor([0.0, -0.25]),
    }
    save_model(run / "model", workload, tensors, plan)
    return load_predictor(run, compute=Compute())


def rows_of(predictor: Predictor) -> Rows:
    """Return what changes rows and predicts them."""
    return Rows(predictor, Network(predictor))


def drawn_loans(count: int, seed: int = 0) -> dict[str, list[str | None]]:
    """Draw applicants whose label follows from income and debt, with noise."""
    generator = numpy.random.default_rng(seed)
    income, debt = generator.integers(0, 101, count), generator.integers(0, 51, count)
    noise = generator.normal(0, 0.3, count)
    approved = 3 * (income / 50 - 1) - 4 * (debt / 25 - 1) + noise > 0
    return {
        "income": [str(one) for one in income],
        "debt": [str(one) for one in debt],
        "house": generator.choice(["none", "rents", "owns"], count).tolist(),
        "shoe": [str(one) for one in generator.integers(30, 51, count)],
        "state": ["approved" if one else "refused" for one in approved],
    }


def invented(predictor: Predictor, count: int = 4) -> Dataset:
    """Invent raw records of a predictor's task."""
    task, generator = predictor.task, numpy.random.default_rng(0)
    if hasattr(task, "invent"):
        made: Dataset = task.invent(count, torch.Generator().manual_seed(0))
        return made
    assert isinstance(task, Labelled)
    targets = outcome_of(predictor.plan.task).invent(count, generator)
    return Dataset.from_dict({**targets, **task.invent_columns(count, generator)})
