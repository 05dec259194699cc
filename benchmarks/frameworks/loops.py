"""Bare loops: the least that a round is, in PyTorch and, under DP-SGD, in Opacus."""

import copy
import random
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset
from vectorised import Shape

from frameworks.records import CLIP, LEARNING_RATE, NOISE, clients_of, model_of
from frameworks.turns import Turns

Client = tuple[Tensor, Tensor]
Train = Callable[[nn.Module, int], None]


def sgd(shape: Shape, model: nn.Module, client: Client) -> None:
    """Train on a client's records, in batches drawn by index."""
    features, labels = client
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    model.train()
    for _ in range(shape.epochs):
        for indices in torch.randperm(len(labels)).split(shape.batch_size):
            loss = functional.cross_entropy(model(features[indices]), labels[indices])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


def private_parts(
    shape: Shape, model: nn.Module, client: Client
) -> tuple[nn.Module, torch.optim.Optimizer, Iterable[Client]]:
    """Have Opacus make a client's training private, as its documentation does: Poisson samples."""
    from opacus import PrivacyEngine

    parts: tuple[nn.Module, torch.optim.Optimizer, Iterable[Client]] = PrivacyEngine().make_private(
        module=model.train(),
        optimizer=torch.optim.SGD(model.parameters(), lr=LEARNING_RATE),
        data_loader=DataLoader(TensorDataset(*client), batch_size=shape.batch_size),
        noise_multiplier=NOISE,
        max_grad_norm=CLIP,
    )
    return parts


def private_sgd(
    model: nn.Module, optimizer: torch.optim.Optimizer, batches: Iterable[Client]
) -> None:
    """Train one pass under DP-SGD."""
    for features, labels in batches:
        optimizer.zero_grad()
        functional.cross_entropy(model(features), labels).backward()
        optimizer.step()


def run(shape: Shape, turns: Turns, *, rounds: int) -> None:
    """Run rounds without any framework; Opacus' parts are made once, and not in each round."""
    model, clients = model_of(shape), clients_of(shape)
    params = list(model.parameters())
    if shape.private:
        parts = [private_parts(shape, copy.deepcopy(model), client) for client in clients]

        def train(number: int) -> None:
            private_sgd(*parts[number])

        trained = [list(module.parameters()) for module, _, _ in parts]
    else:

        def train(number: int) -> None:
            sgd(shape, model, clients[number])

        trained = [params] * len(clients)
    state = [one.detach().clone() for one in params]
    draw = random.Random(0)
    turns.begin()
    for _ in range(rounds):
        cohort = draw.sample(range(len(clients)), shape.cohort or len(clients))
        total = [torch.zeros_like(one, dtype=torch.float64) for one in state]
        for number in cohort:
            load(trained[number], state)
            train(number)
            for accumulated, one, value in zip(total, trained[number], state, strict=True):
                accumulated.add_((one.detach() - value).double())
        state = [
            value + (accumulated / len(cohort)).float()
            for value, accumulated in zip(state, total, strict=True)
        ]
        turns.done(lambda: state)  # noqa: B023 - called at once


def load(params: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Write values into parameters."""
    with torch.no_grad():
        for one, value in zip(params, values, strict=True):
            one.copy_(value)
