"""How many conversations a private language model takes: ``python benchmarks/answers.py FOLDER``.

FOLDER is a causal language model's, such as benchmarks/smollm2.py writes. Four institutions, each
with n conversations, take 12 Adam steps with rank-4 adapters in the last two layers, at epsilon 8
each. Computing 28 frozen layers of very many conversations would take hours, so that a step's
records are 24 drawn from a pool of 160, clipped one by one, and the noise in their mean is that of
q n records at four institutions: sigma C / (q n) / 2. What is told of n is what so much noise
leaves, with batches that are smaller and more alike than real ones, which costs a little.
"""

import sys
from pathlib import Path

import torch
from datasets import Dataset

from confide.config.composing.compose import compose
from confide.models.compute import Compute
from confide.models.networks import trainable
from confide.models.workload import Workload, build_workload
from confide.privacy.accounting import calibrate
from confide.simulations.datasets.customer_service import conversations
from confide.tasks.task import Examples

POOL, TESTED, BATCH, STEPS, RATE = 160, 48, 24, 12, 0.25
LEARNING_RATE, CLIPPING_NORM, EPSILON, DELTA = 0.004, 1.0, 8.0, 1e-5
SIZES = (None, 100, 1_000, 4_000, 16_000, 64_000)
"""Conversations of each institution; None: without privacy."""


def nll_after(workload: Workload, pool: Examples, tested: Examples, size: int | None) -> float:
    """Train, and return the test records' negative log-likelihood of a token."""
    params = list(trainable(workload.model).values())
    start = [p.detach().clone() for p in params]
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(params, lr=LEARNING_RATE)
    sigma = calibrate(target_epsilon=EPSILON, delta=DELTA, sampling_rate=RATE, steps=STEPS)
    workload.model.train()
    for _ in range(STEPS if size != 0 else 0):
        sums = [torch.zeros_like(p) for p in params]
        for index in torch.randperm(len(pool), generator=generator)[:BATCH]:
            batch = pool.take(index[None])
            loss = workload.task.loss(workload.outputs(workload.model, batch), batch).sum()
            found = torch.autograd.grad(loss, params)
            norm = torch.stack([one.norm() for one in found]).norm()
            factor = 1.0 if size is None else (CLIPPING_NORM / norm).clamp(max=1.0)
            for total, one in zip(sums, found, strict=True):
                total += factor * one
        for p, total in zip(params, sums, strict=True):
            p.grad = total / BATCH
            if size is not None:
                std = sigma * CLIPPING_NORM / (RATE * size) / 2
                p.grad += std * torch.randn(p.shape, generator=generator)
        optimizer.step()
    found_nll = _nll(workload, tested)
    with torch.no_grad():
        for p, value in zip(params, start, strict=True):
            p.copy_(value)
    return found_nll


def _nll(workload: Workload, tested: Examples) -> float:
    workload.model.eval()
    tallies = []
    with torch.no_grad():
        for indices in torch.arange(len(tested)).split(8):
            batch = tested.take(indices)
            tallies.append(workload.measures(workload.outputs(workload.model, batch), batch))
    return workload.task.metrics(torch.cat(tallies), torch.zeros(len(tested)))["nll"]


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    config = compose(
        [
            "experiment=customer_service",
            f"backbone.name={sys.argv[1]}",
        ]
    )
    cache = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    workload = build_workload(
        config.task, config.backbone, config.tuning, compute=Compute(feature_cache=cache), seed=0
    )
    rows = conversations(POOL + TESTED)
    pool, tested = (
        workload.prepare(Dataset.from_list(part)) for part in (rows[:POOL], rows[POOL:])
    )
    print(f"untrained: {nll_after(workload, pool, tested, 0):.3f}", flush=True)
    for size in SIZES:
        what = "without privacy" if size is None else f"epsilon 8, {size:,} at each of four"
        print(f"{what}: {nll_after(workload, pool, tested, size):.3f}", flush=True)


if __name__ == "__main__":
    main()
