"""A search for the longest clipped gradient of one record, in units of C: none may exceed 1."""

import random

import pytest
import torch
from torch import Tensor, nn

from confide.client.training.private.book_keeping import BookKeeping
from confide.client.training.private.clipping import ClippingRule
from confide.client.training.private.dp_sgd import DpSgd, DpSgdStep, expect_hook_warning
from confide.privacy.randomness import KeyedGenerator
from confide.tasks.task import LABELS, Batch, Examples

SHAPES = [(48, 384, 1536), (48, 384, 384), (32, 384, 1536), (128, 384, 1536), (16, 100, 130)]


class Cancelling(nn.Module):
    """A linear layer whose tokens nearly cancel: a Gram matrix in float32 holds rounding alone."""

    def __init__(self, inputs: int, outputs: int, weights: Tensor) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs, outputs, bias=False)
        self._weights = weights

    def forward(self, x: Tensor) -> Tensor:
        losses: Tensor = (self.layer(x) * self._weights).sum(dim=(1, 2))
        return losses


def cancelling(rng: random.Random) -> tuple[Cancelling, Tensor]:
    tokens, inputs, outputs = rng.choice(SHAPES)
    value, half = 1 + rng.random(), tokens // 2
    weights = torch.full((tokens, outputs), value)
    error = rng.choice([-1, 1]) * 2.0 ** -rng.uniform(5, 20)
    weights[half : 2 * half] = -value * (1 + error)
    x = torch.full((1, tokens, inputs), 1 + rng.random()) * 10 ** rng.uniform(-3, 9)
    if rng.random() < 0.5:
        x = x * (1 + 1e-3 * torch.randn_like(x))
    return Cancelling(inputs, outputs, weights * 10 ** rng.uniform(-3, 9)), x


def by_book_keeping(model: nn.Module, x: Tensor) -> float:
    book = BookKeeping(model, lambda m, batch: m(batch["x"]))
    book.accumulate({"x": x}, ClippingRule(1.0))
    return _norm(list(model.parameters()))


def by_opacus(model: nn.Module, x: Tensor) -> float:
    def losses(m: nn.Module, batch: Batch) -> Tensor:
        found: Tensor = m(batch["x"])
        return found

    engine = DpSgd(model, losses, physical_batch_size=1, book_keeping=False)
    step = DpSgdStep(
        clipping_norm=1.0, noise_multiplier=0.0, sampling_rate=1.0, expected_batch_size=1.0
    )
    sgd = torch.optim.SGD(engine.params, lr=1.0)
    optimizer = engine.optimizer(sgd, step, KeyedGenerator(bytes(32)))
    with expect_hook_warning():
        engine.private_gradient(
            optimizer, Examples({"x": x, LABELS: torch.zeros(1)}), torch.tensor([0])
        )
    return _norm(engine.params)


def _norm(params: list[nn.Parameter]) -> float:
    sums = [p.summed_grad.double().flatten() for p in params]  # type: ignore[attr-defined]
    return float(torch.cat(sums).norm())


ENGINES = {"book-keeping": by_book_keeping, "opacus": by_opacus}


def worst(engine: str, trials: int, seed: int) -> float:
    torch.manual_seed(seed)
    rng = random.Random(seed)
    return max(ENGINES[engine](*cancelling(rng)) for _ in range(trials))


@pytest.mark.parametrize("engine", ENGINES)
def test_no_cancelling_layer_makes_a_clipped_gradient_longer_than_the_norm(engine: str) -> None:
    assert 0.9 < worst(engine, 25, seed=1) <= 1.0


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_no_layer_of_a_long_search_makes_it_longer(engine: str) -> None:
    assert worst(engine, 400, seed=2) <= 1.0


@pytest.mark.parametrize("factor", [1 - 1e-7, 1.0, 1 + 1e-7, 1 + 1e-6, 3.0, 1e30, 1e35])
@pytest.mark.parametrize("engine", ENGINES)
def test_gradients_around_the_clipping_norm_stay_below_it(engine: str, factor: float) -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 1, 130)
    model = Cancelling(130, 7, torch.ones(1, 7))
    length = float(x.norm()) * 7**0.5
    model._weights *= factor / length
    assert ENGINES[engine](model, x) <= 1.0
