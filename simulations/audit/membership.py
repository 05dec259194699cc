"""Membership inference: does the model know its training records from others?

Scores without shadow models (Yeom et al. 2018, arXiv 1709.01604; calibrated by another model's loss
as in Watson et al. 2022, arXiv 2111.08440; by class as in the offline attack of Carlini et al.,
"Membership Inference Attacks From First Principles", S&P 2022, arXiv 2112.03570): the loss, the
loss less that of the model that training started from, and this standardised within each class by
other records. For the last one half of the non-members fit, and the other half is compared.

It is no test of the claim: members were not drawn anew for each guess. It shows what a usual attack
gets out of the model, and a model that fails here leaks.
"""

from dataclasses import replace
from typing import Any

import numpy
import torch
from scipy import stats

from confide.models.workload import Workload
from confide.protocol.tensors import Tensors
from confide.simulations.audit.crafted import losses
from confide.simulations.audit.findings import PartResult
from confide.simulations.audit.situation import Situation, Trained
from confide.simulations.audit.statistics import Values, lower_limit, upper_limit
from confide.tasks.outcomes.build import outcome_of
from confide.tasks.outcomes.outcome import UNLABELLED
from confide.tasks.task import Examples

_RATES = (0.01, 0.001)
_WANTED = 10
"""False positives that a threshold should let through, for a rate to mean anything."""
_FITTED = "by class"
_BATCH = 256


def audit_membership(situation: Situation) -> PartResult:
    """Attack the run's model."""
    trained = situation.trained
    if trained is None:
        return PartResult(
            notes=["Membership: needs a simulated run on public records, with simulation.seed."]
        )
    if situation.workload.self_trains:
        # What is scored is the loss on a record's own label
        known = torch.nonzero(trained.members.labels != UNLABELLED).flatten()
        trained = replace(trained, members=trained.members.select(known))
    if min(len(trained.members), len(trained.others)) < 20:
        return PartResult(
            notes=[
                f"Membership: {len(trained.members)} members and {len(trained.others)} others are"
                " too few; keep more validation and test records."
            ]
        )
    members, others = (
        _scores(situation.workload, trained, examples)
        for examples in (trained.members, trained.others)
    )
    generator = numpy.random.default_rng(situation.settings.seed)
    order = generator.permutation(len(trained.others))
    fitting, counting = order[: len(order) // 2], order[len(order) // 2 :]
    outcome = outcome_of(situation.plan.task)
    targets = (trained.members.labels.numpy(), trained.others.labels.numpy())
    # Together, since strata may follow from all that there are
    alike = numpy.array(outcome.strata(numpy.concatenate(targets)))
    strata = (alike[: len(trained.members)], alike[len(trained.members) :])
    members[_FITTED], others[_FITTED] = _standardised(
        members["calibrated"], others["calibrated"], strata, fitting
    )
    attacks = {}
    for name in members:
        # A score that nothing was fitted for is told on every record.
        unseen = others[name][counting] if name == _FITTED else others[name]
        attacks[name] = {
            **_area(members[name], unseen, situation.doubt),
            "rates": _hits(members[name], unseen, situation.doubt),
        }
    notes = [
        f"Membership: TPR at {rate:.1%} FPR wants {round(_WANTED / rate):,} non-members, and twice"
        f" as many where scores are fitted; there are {len(order):,}."
        for rate in _RATES
        if len(counting) < _WANTED / rate
    ]
    return PartResult(
        shown={"members": len(trained.members), "attacks": attacks},
        notes=notes,
    )


def _scores(workload: Workload, trained: Trained, examples: Examples) -> dict[str, Values]:
    """Return what each attack thinks of each record; higher for members."""
    final, start = (
        _losses(workload, tensors, examples) for tensors in (trained.final, trained.start)
    )
    return {"loss": -final, "calibrated": start - final}


def _losses(workload: Workload, tensors: Tensors, examples: Examples) -> Values:
    placed = {name: tensor.to(workload.compute.device) for name, tensor in tensors.items()}
    found = torch.empty(len(examples))
    # A language model's logits are many: no more records at once than a step of training takes
    rows = min(_BATCH, workload.compute.physical_batch_size)
    workload.model.eval()
    with torch.no_grad():
        for bucket in examples.length_buckets(torch.arange(len(examples))):
            for indices in bucket.split(rows):
                batch = examples.take(indices)
                found[indices] = losses(workload.model, placed, batch, workload).float().cpu()
    return found.double().numpy()


def _standardised(
    members: Values, others: Values, strata: tuple[numpy.ndarray, ...], fitting: numpy.ndarray
) -> tuple[Values, Values]:
    """Standardise scores within each class or stratum, by non-members kept apart for it."""
    of_members, of_others = members.copy(), others.copy()
    for one in numpy.unique(strata[1][fitting]):
        known = others[fitting][strata[1][fitting] == one]
        centre, spread = known.mean(), known.std() or 1.0
        of_members[strata[0] == one] = (members[strata[0] == one] - centre) / spread
        of_others[strata[1] == one] = (others[strata[1] == one] - centre) / spread
    return of_members, of_others


def _area(members: Values, others: Values, doubt: float) -> dict[str, Any]:
    """Return the AUC with its interval."""
    auc = float(stats.mannwhitneyu(members, others).statistic / len(members) / len(others))
    reach = float(stats.norm.ppf(1 - doubt / 2)) * _auc_error(auc, len(members), len(others))
    return {"auc": auc, "auc_interval": [auc - reach, auc + reach], "others": len(others)}


def _hits(members: Values, others: Values, doubt: float) -> list[dict[str, Any]]:
    """Return true positive rates where so many of the others are called members."""
    found = []
    for rate in _RATES:
        if len(others) < _WANTED / rate:
            continue
        threshold = float(numpy.quantile(others, 1 - rate))
        hits, misses = int((members > threshold).sum()), int((others > threshold).sum())
        found.append(
            {
                "asked": rate,
                "tpr": hits / len(members),
                "tpr_interval": [
                    lower_limit(hits, len(members), doubt / 2),
                    upper_limit(hits, len(members), doubt / 2),
                ],
                "fpr_interval": [
                    lower_limit(misses, len(others), doubt / 2),
                    upper_limit(misses, len(others), doubt / 2),
                ],
            }
        )
    return found


def _auc_error(auc: float, positives: int, negatives: int) -> float:
    """Return the standard error of an AUC (Hanley and McNeil 1982)."""
    first, second = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (positives - 1) * (first - auc**2)
    variance += (negatives - 1) * (second - auc**2)
    return float(numpy.sqrt(max(0.0, variance) / positives / negatives))


__all__ = ["audit_membership"]
