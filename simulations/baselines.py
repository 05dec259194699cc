"""Each institution alone: the same steps and privacy on its own records, for comparison."""

import contextlib
import json
import logging
from pathlib import Path

import torch

from confide.config import ServerConfig
from confide.errors import RunFailedError
from confide.exchange import Evaluation
from confide.files import write_json
from confide.plan import TrainingPlan
from confide.records import Tensors
from confide.server.progress import ProgressView
from confide.simulations.federation import Federation, Job, alone
from confide.strategies.fedavg import fedavg

log = logging.getLogger(__name__)

_NOT_AFFORDED = ("budget_exhausted", "already_answered", "rounds_spent")

Alone = dict[str, tuple[Evaluation, Evaluation]]
"""Institution -> metrics of the model it trained alone: on the pooled test records, and on its own."""


def train_alone(
    plan: TrainingPlan, settings: ServerConfig, federation: Federation, *, progress: ProgressView, kept: Path
) -> Alone:
    """Train each institution alone and score its model.

    Args:
        plan: of the federated run.
        settings: of the federated run.
        federation: the institutions.
        progress: moved by one for each.
        kept: JSON file with what is done already; a process that goes on where another left off begins from there.

    Returns:
        Of those who take part: a policy or a spent budget may decline.
    """
    progress.phase("each one alone", total=len(federation.data))
    scored: Alone = {}
    with contextlib.suppress(OSError, json.JSONDecodeError):
        scored = {name: (pooled, own) for name, (pooled, own) in json.loads(kept.read_text()).items()}
    for name in federation.data:
        if name not in scored:
            own_plan, own_settings = alone(plan, settings, name)
            try:
                outcome, tensors = federation.run(Job(algorithm=fedavg(), plan=own_plan, settings=own_settings, only=[name]))
            except RunFailedError as error:
                declined = any(code.startswith(_NOT_AFFORDED) for code in error.missing.values())
                if error.when != "enrol" and not declined:
                    raise
                log.warning("%s does not train alone: %s.", name, ", ".join(error.missing.values()))
            else:
                scored[name] = (score_pooled(federation, tensors), outcome.test.get(name, {}))
                write_json(kept, scored)
        progress.advance(name)
    return scored


def score_pooled(federation: Federation, tensors: Tensors) -> Evaluation:
    """Score tensors on the test records of all institutions together; only a simulation can."""
    parts = [data.test for data in federation.data.values() if len(data.test)]
    if not parts:
        return {"num_examples": 0}
    pooled = type(parts[0]).concat(parts)
    with torch.inference_mode():
        return {**federation.trainer.evaluate(tensors, pooled), "num_examples": len(pooled)}


__all__ = ["Alone", "score_pooled", "train_alone"]
