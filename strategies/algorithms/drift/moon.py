"""MOON: a record's representation is pulled to the global model's, away from the last local one's.

Li, He and Song, "Model-Contrastive Federated Learning", CVPR 2021 (arXiv 2103.16257), algorithm 1
and equation 3. With z, z_global and z_previous a record's representations by the model in training,
the round's global model and this institution's local model of the round before, clients minimise
the task's loss plus ``mu`` times the mean of ``-log(near / (near + far))``, where near is
``exp(sim(z, z_global) / tau)``, far is ``exp(sim(z, z_previous) / tau)`` and sim the cosine. A
representation is what goes into the last layer; the paper's projection head, more layers before it,
is left out. In an institution's first round z_previous is z_global, and there is nothing to
contrast. The server is FedAvg's.

All records are run through two more models a round, and each batch once more a step: the loss reads
records beside clipped, noisy gradients, and is refused under privacy.
"""

import torch
from torch import Tensor
from torch.nn import functional

from confide.strategies.algorithm import (
    Algorithm,
    ClientResult,
    ClientRound,
    GradientFn,
    Records,
    Step,
    TrainFn,
)


def moon(*, mu: float, temperature: float) -> Algorithm:
    """Build MOON.

    Args:
        mu: weight of the contrastive loss, >= 0; with 0 MOON is FedAvg.
        temperature: tau > 0.
    """

    def client(given: ClientRound, train: TrainFn) -> ClientResult:
        pull = _pull(given, mu=mu, temperature=temperature) if mu else None
        update = train(given.params, pull)
        return ClientResult(
            update=update,
            kept={name: value + update[name] for name, value in given.params.items()},
        )

    return Algorithm(client=client, first_kept=dict)


def contrastive_losses(
    z: Tensor, z_global: Tensor, z_previous: Tensor, *, temperature: float
) -> Tensor:
    """Return the contrastive loss of each record, shape [b].

    Args:
        z: representations by the model in training, shape [b, d].
        z_global: by the round's global model.
        z_previous: by the local model of the round before.
        temperature: > 0.
    """
    near = functional.cosine_similarity(z, z_global, dim=1)
    far = functional.cosine_similarity(z, z_previous, dim=1)
    # The paper's quotient, over its numerator
    return functional.softplus((far - near) / temperature)


def _pull(given: ClientRound, *, mu: float, temperature: float) -> GradientFn:
    """Return what adds the gradient of the contrastive loss to a step's."""
    records = given.records
    if records is None:
        raise ValueError("Expected the training records, which an institution has at hand.")
    # Neither changes in a round: once for all steps
    z_global = _representations(records)
    records.load_fn(given.kept)
    z_previous = _representations(records)

    def pull(step: Step) -> None:
        if step.places is None:
            raise ValueError("Expected the records of the step.")
        for places in step.places.split(records.at_once):
            losses = contrastive_losses(
                records.features_fn(records.examples.take(places)),
                z_global[places],
                z_previous[places],
                temperature=temperature,
            )
            (losses.sum() * (mu / len(step.places))).backward()

    return pull


def _representations(records: Records) -> Tensor:
    """Return the representation of each training record by the model as it is, shape [n, d]."""
    with torch.no_grad():
        return torch.cat([records.features_fn(batch) for batch in records.batches()])


__all__ = ["contrastive_losses", "moon"]
