"""Records without a label, trained on as the class that a round's model is sure of.

Pseudo-labels (Lee, "Pseudo-Label", ICML 2013 workshop), fixed for a round; where a task makes views
of a record, the model labels the record as it is and learns from its views, as FixMatch does (Sohn
et al., NeurIPS 2020, arXiv 2001.07685).

What is protected and who is trusted: as in :mod:`confide.client.training.private.dp_sgd`. A
pseudo-label is a function of its record, of the tensors received and of public figures, and enters
nothing but that record's own loss. So a unit's term of a step's sum still depends on that unit
alone, and is clipped to C, whatever a hostile model is sure of: one that plants labels chooses
gradients no more freely than tensors let it choose those of records with labels. What is public: n
counts all training records, labelled or not, and a record that no class is sure enough for stays in
the Poisson sample, with a loss of 0. What voids it: a label that depends on other records, such as
by balancing classes, by a threshold that follows from what the model makes of all, or by statistics
of a batch; on private rounds :class:`~confide.client.training.private.row_check.RowCheck` looks at
what rounding does.
"""

import torch

from confide.client.records.encoded import InstitutionData
from confide.client.training.trainer import Trainer
from confide.protocol.tensors import Tensors
from confide.tasks.outcomes.outcome import UNLABELLED
from confide.tasks.task import Examples

# Records that are copied to be scored at a time.
_PART = 4096


def pseudo_labelled(trainer: Trainer, tensors: Tensors, data: InstitutionData) -> Examples:
    """Return an institution's training records for a round.

    Args:
        trainer: scores them.
        tensors: global tensors of the round, as they were received.
        data: records, and how sure a model has to be.

    Returns:
        The same records in the same order: one without a label has the likeliest class where that
        is likelier than ``data.confidence``, and none where not.
    """
    examples = data.train
    if data.confidence is None:
        return examples
    labels = examples.labels.clone()
    for part in torch.nonzero(labels == UNLABELLED).flatten().split(_PART):
        if not len(part):
            continue
        likeliest = trainer.scores(tensors, examples.select(part)).to(labels.device).max(dim=1)
        # A NaN is not above anything.
        sure = likeliest.values > data.confidence
        labels[part] = torch.where(sure, likeliest.indices, UNLABELLED)
    return examples.with_labels(labels)


__all__ = ["pseudo_labelled"]
