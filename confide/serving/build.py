"""Puts together what answers for a model."""

from confide.inference.predictor import Predictor
from confide.models.language.writing import WritingOptions
from confide.serving.access import Access
from confide.serving.answering import Answerer
from confide.serving.app import Served
from confide.serving.batching import Batcher
from confide.serving.counted import Counted
from confide.serving.identity import Identity
from confide.serving.limits import Limits
from confide.serving.signature import signature_of
from confide.serving.stopping import Stopping


def build_served(
    predictor: Predictor,
    identity: Identity,
    *,
    limits: Limits,
    access: Access,
    writing: WritingOptions,
) -> Served:
    """Return a model with all that answers for it; its thread runs from here on.

    Args:
        predictor: the model.
        identity: what it is.
        limits: what is refused.
        access: who may ask.
        writing: how a model that writes does so.
    """
    answerer = Answerer(predictor, writing)
    batcher = Batcher(
        answerer.answer,
        most_records=limits.batch if answerer.takes_together else 1,
        most_waiting=limits.waiting,
        delay_s=limits.delay_s if answerer.takes_together else 0.0,
    )
    counted = Counted(identity, lambda: batcher.waiting)
    batcher.on_batch = counted.batches.observe
    return Served(
        identity=identity,
        signature=signature_of(predictor),
        answerer=answerer,
        batcher=batcher,
        limits=limits,
        access=access,
        counted=counted,
        stopping=Stopping(),
    )


__all__ = ["build_served"]
