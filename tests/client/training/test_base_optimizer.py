import pytest
import torch
from torch import nn

from confide.client.training.base_optimizer import make_optimizer
from confide.config.client import OptimizerConfig

STEPS = 4
OF_TORCH = {
    "sgd": lambda params: torch.optim.SGD(params, lr=0.3, momentum=0.5, weight_decay=0.1),
    "adam": lambda params: torch.optim.Adam(params, lr=0.3, weight_decay=0.1),
    "adamw": lambda params: torch.optim.AdamW(params, lr=0.3, weight_decay=0.1),
}


def stepped(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        parameter.grad = torch.randn(5, generator=generator)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    assert parameter.grad is None
    return parameter.detach()


@pytest.mark.parametrize("kind", OF_TORCH)
def test_steps_are_those_of_torch_to_the_bit(kind: str) -> None:
    ours, theirs = nn.Parameter(torch.ones(5)), nn.Parameter(torch.ones(5))
    momentum = 0.5 if kind == "sgd" else 0.0
    config = OptimizerConfig(kind=kind, learning_rate=0.3, momentum=momentum, weight_decay=0.1)
    found = stepped(make_optimizer(config, [ours]), ours)
    assert found.equal(stepped(OF_TORCH[kind]([theirs]), theirs))
    assert isinstance(make_optimizer(config, [ours]), type(OF_TORCH[kind]([theirs])))
