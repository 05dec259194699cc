"""The Gram matrix of a run's encoded records, released by institutions before it.

What they answer is added up here, in the order of their names, and kept in RUN/gram.safetensors,
readable by its owner alone: a run that goes on reads it there. A later run with the same question
is answered by each institution from what it keeps, at no cost.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from confide.config.strategies.objectives import PrivateNewtonConfig
from confide.config.strategies.strategy import ALGORITHMS
from confide.errors import ConfigError, UnreadableError
from confide.models.workload import Workload
from confide.protocol.plan import TrainingPlan
from confide.protocol.released_gram import ReleasedGram
from confide.protocol.releases import release_plan
from confide.protocol.tensors import Tensors
from confide.releases.gram import GRAM, unpacked
from confide.server.run.carrier import PrepareFn, Run
from confide.server.run.releases import Answer, ask_release
from confide.server.run_folder import GRAM as GRAM_FILE
from confide.storage.tensor_files import read_checked, sha256, write_checked
from confide.strategies.algorithms.private_newton import gram_epsilon

WorkloadFn = Callable[[Run, TrainingPlan], Workload]
"""Writes a plan down, and builds what it names."""


def with_gram(
    run: Run, plan: TrainingPlan, prepare_fn: PrepareFn, workload_fn: WorkloadFn
) -> tuple[TrainingPlan, Tensors]:
    """Return a plan with the Gram matrix that it rests on, and the matrix; as it is without one.

    Args:
        run: this process's part of the run.
        plan: of the run, with the edges that it rests on.
        prepare_fn: makes ready what carries messages.
        workload_fn: builds what the plan that asks for the matrix names.

    Raises:
        ConfigError: if the matrix cannot be asked for.
        RunFailedError: if fewer institutions than ``server.min_clients`` answer.
        UnreadableError: if checkpoints rest on a matrix that is gone, or is another.
    """
    if not ALGORITHMS[plan.objective.kind].needs_gram:
        return plan, {}
    asked = gram_plan(plan)
    path = run.run_dir / GRAM_FILE
    tensors = _read(path, asked)
    if run.checkpoint is not None:
        # Institutions that keep no ledger would draw another
        trained = run.before.get("gram")
        if tensors is None or trained not in (None, sha256(tensors)):
            raise UnreadableError(
                f"{path} is gone or holds another matrix than the checkpoints rest on; bring it"
                " back, or start the run anew."
            )
    if tensors is None:
        with run.watch.phase("gram"):
            released = ask_release(run, asked, workload_fn(run, asked), prepare_fn)
            tensors = _added(list(released.answers.values()))
            # Kept before it is used: a run that goes on must not be given another.
            write_checked(path, tensors, metadata={"job": asked.job})
    gram = ReleasedGram(job=asked.job, epsilon=asked.privacy.epsilon, sha256=sha256(tensors))
    return replace(plan, gram=gram), tensors


def gram_plan(plan: TrainingPlan) -> TrainingPlan:
    """Write the plan that asks for the Gram matrix of another plan's records.

    Raises:
        ConfigError: if it cannot be asked for.
        PrivacyError: if edges leave no privacy for it.
    """
    assert isinstance(plan.objective, PrivateNewtonConfig)
    cost = gram_epsilon(plan, share=plan.objective.gram_share)
    asked = release_plan(plan, "gram", epsilon=cost)
    problems = list(asked.problems())
    if problems:
        raise ConfigError(problems)
    return asked


def _read(path: Path, asked: TrainingPlan) -> Tensors | None:
    """Read what an earlier process of the run was given; None if there is nothing yet."""
    if not path.exists():
        return None
    read = read_checked(path)
    if read.metadata.get("job") != asked.job:
        raise UnreadableError(
            f"{path} holds the answer to another question than this run's; start the run anew."
            " Institutions with a ledger answer the same question at no further cost."
        )
    return read.tensors


def _added(answers: list[Answer]) -> Tensors:
    """Return the sum of matrices (``gram``), and how many units and institutions it is of."""
    matrices = [unpacked(answer.tensors[GRAM].double().numpy()) for answer in answers]
    examples = sum(answer.num_examples for answer in answers)
    return {
        "gram": torch.from_numpy(sum(matrices[1:], start=matrices[0])),
        "of": torch.tensor([examples, len(answers)], dtype=torch.float64),
    }


__all__ = ["gram_plan", "with_gram"]
