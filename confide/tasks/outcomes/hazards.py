"""Logistic hazards: the loss of one record's survival in discrete time.

Gensheimer and Narasimhan, A scalable discrete-time survival model for neural networks, PeerJ 2019
(arXiv 1805.00917), section 2.2. Time is cut by K + 1 public edges; a model gives one logit an
interval, whose sigmoid is the hazard: the probability of the event in the interval for whoever is
free of it at its start.

    loss = sum over intervals in which the record is at risk of
           -log(h_k) if its event is in k, else -log(1 - h_k)

A record with an event is at risk until and in its interval; a censored one in those intervals whose
middle it passed. The loss reads one record, which a Cox partial likelihood does not: there the
record with the event is compared with all who are still at risk, so that no record has a gradient
of its own to clip.

**Where a model starts.** Zero outputs mean hazards of 1 / (2 K), with which six in ten are free of
the event at the end, and not the 1 / 2 of a plain sigmoid, with which nobody would be: the first
gradients of all records would point the same way and fill the clipping norm.

**Bounds.** The gradient in the outputs is h_k - y_k where at risk and 0 elsewhere. Its norm is
below sqrt(K), and at the start below 1: with h = 1 / (2 K), (K - 1) h^2 + (1 - h)^2 < 1. The
Hessian is diagonal, h_k (1 - h_k) <= 1/4 where at risk: on rows of norm R the mean loss is R^2 / 4
smooth, however many intervals there are.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional


def hazard_logits(outputs: Tensor) -> Tensor:
    """Return the log odds of the hazards, shape [b, K], for a model's outputs, shape [b, K]."""
    intervals = outputs.shape[-1]
    # In float32 under autocast too: hazards are small, and curves are products of their complements
    return outputs.float() - math.log(2 * intervals - 1)


def hazard_losses(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return each record's loss, shape [b].

    Args:
        outputs: of a model, shape [b, K].
        labels: place in the intervals and whether the event was seen there, shape [b, 2].
    """
    logits = hazard_logits(outputs)
    place, seen = labels[:, :1], labels[:, 1:] > 0
    intervals = torch.arange(logits.shape[1], device=logits.device)
    own = ((place.ceil() - 1).clamp(min=0) == intervals) & seen
    # Its own interval, and those before it; censored, those whose middle was passed
    at_risk = torch.where(seen, own | (place > intervals + 1), place >= intervals + 0.5)
    each = functional.binary_cross_entropy_with_logits(logits, own.to(logits), reduction="none")
    return (each * at_risk).sum(dim=1)


def survival(outputs: Tensor) -> Tensor:
    """Return probabilities of being free of the event at the end of each interval, shape [b, K]."""
    # log(1 - sigmoid(z)) = -softplus(z), which keeps its digits where hazards are near 0 or 1
    return torch.exp(-functional.softplus(hazard_logits(outputs)).cumsum(dim=-1))


__all__ = ["hazard_logits", "hazard_losses", "survival"]
