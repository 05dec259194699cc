"""Classes: the log-odds of one of them against all others."""

import torch
from torch import Tensor

from confide.explaining.target import Target, chosen, log_odds, one_against_others
from confide.inference.predictor import Predictor
from confide.metrics.outcomes.ordinal import median_labels
from confide.tasks.task import Batch

_TWO = 2


def of_classes(predictor: Predictor, outputs: Tensor, batch: Batch, wanted: str | None) -> Target:
    """Explain the log-odds of a class: of two by itself the second, of more the likeliest.

    What speaks for one of two speaks against the other, and a model's curves are of the second.
    """
    names = list(predictor.plan.task.labels)
    probabilities = predictor.task.scores(outputs)[0]
    likeliest = int(probabilities.argmax())
    place = chosen(names, wanted, 1 if len(names) == _TWO else likeliest)
    return Target(
        name=names[place],
        unit=f"log-odds of {names[place]}",
        prediction=f"{names[likeliest]} ({float(probabilities[likeliest]):.2f})",
        score_fn=lambda made: one_against_others(made, place),
        shown_fn=lambda made: predictor.task.scores(made)[:, place],
        shown=f"probability of {names[place]}",
        decisions=names,
        decision_fn=lambda made: predictor.task.scores(made).argmax(dim=1),
    )


def of_grades(predictor: Predictor, outputs: Tensor, batch: Batch, wanted: str | None) -> Target:
    """Explain the log-odds of one of several labels in order, as their probabilities say."""
    task = predictor.plan.task
    names = list(task.outcome.label_names(task.labelling))
    probabilities = predictor.task.scores(outputs)[0]
    told = str(predictor.outcome.predictions(probabilities[None].numpy())["prediction"][0])
    place = chosen(names, wanted, names.index(told))

    def decided(made: Tensor) -> Tensor:
        scores = predictor.task.scores(made).double().numpy()
        return torch.from_numpy(median_labels(scores))

    return Target(
        name=names[place],
        unit=f"log-odds of {names[place]}",
        prediction=f"{told} ({float(probabilities[names.index(told)]):.2f})",
        score_fn=lambda made: log_odds(predictor.task.scores(made)[:, place]),
        shown_fn=lambda made: predictor.task.scores(made)[:, place],
        shown=f"probability of {names[place]}",
        decisions=names,
        decision_fn=decided,
    )


def of_labels(predictor: Predictor, outputs: Tensor, batch: Batch, wanted: str | None) -> Target:
    """Explain the log-odds of one of several labels that hold or not, the likeliest by itself."""
    task = predictor.plan.task
    names = list(task.outcome.label_names(task.labelling))
    probabilities = predictor.task.scores(outputs)[0]
    place = chosen(names, wanted, int(probabilities.argmax()))
    held = [
        f"{name} ({value:.2f})"
        for name, value in zip(names, probabilities.tolist(), strict=True)
        if value >= 0.5
    ]
    return Target(
        name=names[place],
        unit=f"log-odds of {names[place]}",
        prediction=", ".join(held) or "no label",
        score_fn=lambda made: made[:, place],
        shown_fn=lambda made: predictor.task.scores(made)[:, place],
        shown=f"probability of {names[place]}",
        decisions=[f"not {names[place]}", names[place]],
        decision_fn=lambda made: (made[:, place] > 0).long(),
    )


__all__ = ["of_classes", "of_grades", "of_labels"]
