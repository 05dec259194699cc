"""Simple predictors beside a model: what is popular, the last value again.

They see all training records together, exactly and at no cost in privacy: a simulation alone can
work them out, and none of it leaves an institution.
"""

from collections.abc import Mapping

import torch

from confide.client.records.encoded import InstitutionData
from confide.protocol.messages import Evaluation
from confide.tasks.task import ReferencedTask, Task

_ROWS = 256


def reference_scores(task: Task, data: Mapping[str, InstitutionData]) -> dict[str, Evaluation]:
    """Score a task's simple predictors on the test records of all institutions.

    Args:
        task: of the run.
        data: institution -> its records.

    Returns:
        Predictor -> metrics; {} where the task has no predictors, or nobody test records.
    """
    tests = [part.test for part in data.values() if len(part.test)]
    if not isinstance(task, ReferencedTask) or not tests:
        return {}
    found: dict[str, Evaluation] = {}
    for name, predict in task.references([part.train for part in data.values()]).items():
        tallies = []
        for examples in tests:
            for indices in torch.arange(len(examples)).split(_ROWS):
                batch = examples.to(torch.device("cpu")).take(indices)
                tallies.append(task.tally(predict(batch), batch))
        told = torch.cat(tallies)
        scores = task.metrics(told, torch.zeros(len(told)))
        found[name] = {**scores, "num_examples": float(len(told))}
    return found


__all__ = ["reference_scores"]
