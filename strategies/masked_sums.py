"""What institutions and coordinator work out alike of a masked sum: its context and its layout.

A vector holds, one after the other, the tensors of an update in their order, each value times its
institution's weight and the sum's scale, and the institution's metrics as integers.
"""

import hashlib
from collections.abc import Sequence

from confide.metrics.summed import SummedScores
from confide.protocol.masked_sums import MaskedSums, OpenedBefore, SumQuestion
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Shapes, num_values
from confide.secure_aggregation.adverts import Advert
from confide.secure_aggregation.context import SumContext
from confide.secure_aggregation.survivors import signed_survivors
from confide.secure_aggregation.wide import wide_length
from confide.strategies.aggregators import scale_of
from confide.strategies.strategy import Bounds


def weight_of(num_examples: int, sums: MaskedSums) -> int:
    """Return what an institution with so many declared records weighs."""
    return num_examples if sums.weighting == "num_examples" else 1


def question_of(
    kind: str,
    plan: TrainingPlan,
    tensors: str,
    splits: Sequence[str] = (),
    before: Sequence[OpenedBefore] = (),
) -> str:
    """Return what a sum is of, in hexadecimal.

    Args:
        kind: train or evaluate.
        plan: the run's.
        tensors: digest of the tensors that the request brings.
        splits: what is scored.
        before: sums that the cohort is shown. They are in the question so that all are shown the
            same, whatever signatures come with them.
    """
    text = "\0".join((kind, plan.sha256, tensors, *splits))
    for one in before:
        text += "\0" + signed_survivors(one.digest, one.survivors).decode()
    return hashlib.sha256(text.encode()).hexdigest()


def scores_in(plan: TrainingPlan, splits: Sequence[str], institutions: int) -> SummedScores:
    """Return how metrics of splits stand in the vectors of so many institutions."""
    return SummedScores(
        splits=splits, names=plan.task.metrics, table=plan.task.metric_table, most=institutions
    )


def length_of(shapes: Shapes, scores: SummedScores, sums: MaskedSums) -> int:
    """Return d, how many values a vector has."""
    return num_values(shapes) + wide_length(scores.length, sums.bits)


def context_of(
    plan: TrainingPlan,
    sums: MaskedSums,
    asked: SumQuestion,
    *,
    server_round: int,
    question: str,
    length: int,
) -> SumContext:
    """Return the context of a sum, whose scale follows from what its cohort declared.

    Args:
        plan: the run's.
        sums: what it says of sums.
        asked: cohort and threshold.
        server_round: of the request.
        question: by :func:`question_of`.
        length: d.

    Raises:
        ProtocolError: if an advert is none.
    """
    cohort = tuple(Advert.from_text(text) for text in asked.cohort)
    weight = sum(weight_of(advert.num_examples, sums) for advert in cohort)
    return SumContext(
        job=plan.job,
        server_round=server_round,
        question=question,
        cohort=cohort,
        threshold=asked.threshold,
        scale_bits=scale_of(
            Bounds(max_value=sums.max_value, max_total_weight=max(1, weight), sum_bits=sums.bits)
        ),
        length=length,
        bits=sums.bits,
    )


__all__ = ["context_of", "length_of", "question_of", "scores_in", "weight_of"]
