"""The whole model of a predictor: alone where company changes outputs, with gradients if any."""

import dataclasses
from pathlib import Path

import torch
from explained_models import save_loans
from torch import Tensor

from confide.explaining.network import Network
from confide.inference.predictor import Predictor
from confide.tasks.task import Batch


def rounded_by_batch(predictor: Predictor) -> Predictor:
    """Return a model as 8-bit ones are: it rounds by the largest number of a batch."""

    def logits(batch: Batch) -> Tensor:
        outputs = predictor.logits(batch)
        step = outputs.abs().max() / 4
        return (outputs / step).round() * step

    return dataclasses.replace(predictor, logits=logits, network_fn=None)


def test_records_of_a_model_that_rounds_by_its_batch_are_computed_alone(tmp_path: Path) -> None:
    predictor = rounded_by_batch(save_loans(tmp_path))
    network, rows = (
        Network(predictor),
        3 * torch.randn(6, 6, generator=torch.Generator().manual_seed(0)),
    )
    alone = torch.cat([network.outputs({"features": row[None]}) for row in rows])
    assert not torch.equal(predictor.logits({"features": rows}), alone)
    assert torch.equal(network.outputs({"features": rows}), alone)
    # And again, now that it is known
    assert torch.equal(network.outputs({"features": rows.flip(0)}), alone.flip(0))


def test_a_gradient_is_found_by_asking_for_one(tmp_path: Path) -> None:
    predictor = save_loans(tmp_path)
    rows = torch.zeros((1, 6))
    for given, expected in ((predictor, True), (rounded_by_batch(predictor), False)):
        network = Network(given)
        found = network.has_gradient(lambda x, of=network: of.outputs({"features": x}), rows)  # type: ignore[misc]
        assert found is expected
