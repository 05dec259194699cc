"""What is explained of a model's outputs: one number a record, by its kind of outcome."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from confide.config.custom import implementation
from confide.config.outcomes.table import OUTCOMES
from confide.config.spelling import nearest
from confide.errors import ConfigError
from confide.explaining.case import ScoreFn
from confide.inference.predictor import Predictor
from confide.tasks.task import Batch

_SURE = 1e-7
"""A probability is at least so far from 0 and 1 in log-odds."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """One number of a model's outputs.

    Attributes:
        name: what it is of, such as a class; by this name it is asked for.
        unit: what it is, such as "log-odds of absent".
        prediction: what the model says of the record, as text.
        score_fn: outputs [b, ...] -> the number, [b], with gradient; of k pieces [b, k].
        shown_fn: outputs [b, ...] -> the same for people, [b]: a probability where there is one.
        shown: what ``shown_fn`` gives, such as "probability of absent".
        decisions: names of what is decided, such as classes; () where a number is told.
        decision_fn: outputs [b, ...] -> place among the decisions, [b]; None where there are none.
        pieces: texts of what was written, each of which has a number of its own; () of one number.
        joined: of pieces, whether each goes on the one before it.
    """

    name: str
    unit: str
    prediction: str
    score_fn: ScoreFn
    shown_fn: ScoreFn
    shown: str
    decisions: Sequence[str] = ()
    decision_fn: Callable[[Tensor], Tensor] | None = None
    pieces: Sequence[str] = ()
    joined: Sequence[bool] = ()


TargetFn = Callable[[Predictor, Tensor, Batch, str | None], Target]
"""Predictor, outputs of one record [1, ...], the record as encoded, and the name of what is asked
for (None: what was predicted) -> what is explained."""


def target_fn(predictor: Predictor) -> TargetFn:
    """Return what finds targets among a predictor's outputs."""
    found: TargetFn = implementation(OUTCOMES[predictor.plan.task.outcome.kind].explained)
    return found


def chosen(names: Sequence[str], wanted: str | None, default: int) -> int:
    """Return the place of what is asked for.

    Raises:
        ConfigError: naming what there is.
    """
    if wanted is None:
        return default
    if wanted in names:
        return names.index(wanted)
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    near = nearest(wanted, names)
    raise ConfigError(
        f"--target {wanted}: expected one of {shown}.{f' {near}.' if near else ''} Leave it out to"
        " explain what was predicted."
    )


def log_odds(probabilities: Tensor) -> Tensor:
    """Return the logarithm of p / (1 - p), finite for every p."""
    return torch.logit(probabilities.double(), eps=_SURE)


def one_against_others(outputs: Tensor, place: int) -> Tensor:
    """Return the log-odds of one class under softmax, [b, ...], from logits [b, ..., c].

    Of two classes the difference of both logits, to the last bit: linear in what is linear.
    """
    others = torch.cat([outputs[..., :place], outputs[..., place + 1 :]], dim=-1)
    rest = others[..., 0] if others.shape[-1] == 1 else others.logsumexp(dim=-1)
    return outputs[..., place] - rest


__all__ = ["Target", "TargetFn", "chosen", "log_odds", "one_against_others", "target_fn"]
