"""Compares a private training step with the same step without privacy, on MiniLM.

    python benchmarks/dp_step.py
    python benchmarks/dp_step.py --tuning full --noise

A batch has 32 records of 64 tokens. Both are the trainer's own steps, run in turn in one process:
per-record clipping, cryptographic noise and optimizer against gradient and optimizer. The ratio of
medians is printed: for LoRA at most 1.15, for full tuning 1.21 to 1.25 on the machine this was made
on. With --noise, a private step is compared with one whose noise is torch's own, which is not
secure.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from confide.client.training.dp_sgd import DpSgd, DpSgdStep, expect_hook_warning
from confide.config.compose import compose
from confide.models.compute import Compute
from confide.models.workload import Workload, build_workload
from confide.privacy.randomness import KeyedGenerator
from confide.tasks.task import LABELS, Examples


def make_workload(tuning: str, layers: int) -> Workload:
    """Build a text classifier on MiniLM."""
    config = compose([f"tuning={tuning}", f"backbone.num_hidden_layers={layers}"])
    return build_workload(config.task, config.backbone, config.tuning, compute=Compute(), seed=0)


def make_batch(batch_size: int, tokens: int) -> Examples:
    """Draw token ids at random; what they mean does not change the cost."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1000, 20_000, (batch_size, tokens), generator=generator)
    labels = torch.randint(0, 3, (batch_size,), generator=generator)
    return Examples({"input_ids": ids, "attention_mask": torch.ones_like(ids), LABELS: labels})


class TorchNoise(KeyedGenerator):
    """Draws noise with torch's own generator, which cryptographic noise is compared with."""

    def add_normal(self, targets: Sequence[Tensor], *, std: float) -> None:  # noqa: D102
        for target in targets:
            target.add_(torch.randn(len(target)), alpha=std)


def loss_of(workload: Workload, model: torch.nn.Module, examples: Examples) -> Tensor:
    inputs = {name: column for name, column in examples.columns.items() if name != LABELS}
    return workload.task.loss(model(**inputs), dict(examples.columns))


def make_plain_step(workload: Workload, examples: Examples) -> Callable[[], None]:
    workload.model.train()
    sgd = torch.optim.SGD([p for p in workload.model.parameters() if p.requires_grad], lr=0.1)

    def step() -> None:
        loss_of(workload, workload.model, examples).mean().backward()
        sgd.step()
        sgd.zero_grad(set_to_none=True)

    return step


def make_private_steps(
    workload: Workload, examples: Examples, noises: Sequence[KeyedGenerator]
) -> list[Callable[[], None]]:
    """Return a step for each source of noise, all on one model."""
    workload.model.train()
    dp_sgd = DpSgd(
        workload.model,
        lambda model, batch: loss_of(workload, model, examples),
        physical_batch_size=len(examples),
    )
    sgd = torch.optim.SGD([p for p in workload.model.parameters() if p.requires_grad], lr=0.1)
    shared = DpSgdStep(
        clipping_norm=1.0,
        noise_multiplier=1.0,
        sampling_rate=0.1,
        expected_batch_size=len(examples),
    )

    def make_step(noise: KeyedGenerator) -> Callable[[], None]:
        optimizer = dp_sgd.optimizer(sgd, shared, noise)

        def step() -> None:
            dp_sgd.private_gradient(optimizer, examples, torch.arange(len(examples)))
            sgd.step()

        return step

    return [make_step(noise) for noise in noises]


def compare(steps: dict[str, Callable[[], None]], *, repeats: int) -> dict[str, float]:
    """Run steps in turn and return the median seconds of each."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    with expect_hook_warning():
        for number in range(repeats + 2):
            for name, run in steps.items():
                started = time.perf_counter()
                run()
                if number >= 2:
                    seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tuning", default="lora", choices=("full", "lora"))
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--noise", action="store_true", help="compare with torch's noise too")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    examples = make_batch(arguments.batch_size, arguments.tokens)
    noises = [KeyedGenerator(bytes(32)), *([TorchNoise(bytes(32))] if arguments.noise else [])]
    private = make_private_steps(
        make_workload(arguments.tuning, arguments.layers), examples, noises
    )
    plain = make_plain_step(make_workload(arguments.tuning, arguments.layers), examples)
    names = ("private", "private with torch's noise")
    medians = compare(
        {"plain": plain, **dict(zip(names, private, strict=False))}, repeats=arguments.steps
    )
    for name in names[: len(private)]:
        ratio = medians[name] / medians["plain"]
        print(
            f"{arguments.tuning}: {name} {medians[name]:.3f} s, plain {medians['plain']:.3f} s a"
            f" step, ratio {ratio:.3f}"
        )
    if arguments.noise:
        ratio = medians[names[0]] / medians[names[1]]
        print(f"{arguments.tuning}: secure noise over torch's noise, ratio {ratio:.3f}")


if __name__ == "__main__":
    main()
