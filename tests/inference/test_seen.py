"""What a network sees of a record."""

import torch
from torch import nn

from confide.inference.seen import concatenated, watched


def test_it_is_what_the_last_layer_was_given() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    rows = torch.randn(5, 3)
    with watched(network) as seen:
        network(rows)
    found = seen.vectors({"features": rows})
    assert found is not None
    assert torch.equal(found, network[1](network[0](rows)))


def test_tokens_are_averaged_and_masked_ones_are_not() -> None:
    network, tokens = nn.Linear(2, 3), torch.randn(2, 4, 2)
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
    with watched(network) as seen:
        network(tokens)
    found = seen.vectors({"input_ids": torch.zeros(2, 4), "attention_mask": mask})
    assert found is not None
    assert torch.allclose(found[0], tokens[0, :2].mean(dim=0))
    assert torch.allclose(found[1], tokens[1].mean(dim=0))


def test_pixels_are_averaged_by_channel() -> None:
    network, pictures = nn.Conv2d(3, 1, 1), torch.randn(2, 3, 4, 5)
    with watched(network) as seen:
        network(pictures)
    found = seen.vectors({"pixel_values": pictures})
    assert found is not None
    assert torch.allclose(found, pictures.mean(dim=(2, 3)))


def test_a_network_without_such_a_layer_shows_nothing() -> None:
    for network in (None, nn.Identity()):
        with watched(network) as seen:
            pass
        assert seen.vectors({"features": torch.zeros(2, 3)}) is None
    assert concatenated([None, torch.zeros(2, 3)], torch.arange(4)).shape == (4, 0)


def test_no_hook_stays() -> None:
    network = nn.Linear(2, 2)
    with watched(network):
        assert len(network._forward_pre_hooks) == 1
    assert len(network._forward_pre_hooks) == 0


def test_vectors_come_in_the_order_of_the_records() -> None:
    parts: list[torch.Tensor | None] = [torch.tensor([[2.0], [0.0]]), torch.tensor([[1.0]])]
    order = torch.tensor([2, 0, 1]).argsort()
    assert concatenated(parts, order).tolist() == [[0.0], [1.0], [2.0]]
