"""Compares a private training step with the same step without privacy.

    python benchmarks/dp_step.py
    python benchmarks/dp_step.py --model full --noise
    python benchmarks/dp_step.py --model lora --sample poisson --batch-size 128

Models: LoRA, whole and head-only (cached features) tuning of MiniLM, and a perceptron on 12
columns. A sample is 32 records of 64 tokens, or a Poisson sample of 32 expected with 8 to 64
tokens. Both steps are the trainer's own, run in turn on the same samples in one process: per-record
clipping, cryptographic noise and optimizer against gradient and optimizer. Processor time is
measured, so that other programs on the machine count little, and the ratio of sums is printed. With
--noise, a private step is compared with one whose noise is torch's own, which is not secure.
"""

import argparse
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from confide.client.training.private.dp_sgd import DpSgd, DpSgdStep, expect_hook_warning
from confide.config.composing.compose import compose
from confide.config.models.perceptrons import MlpConfig
from confide.config.tasks.columns import ColumnConfig
from confide.config.tasks.tabular import TabularConfig
from confide.config.tunings.tuning import TuningConfig
from confide.models.compute import Compute
from confide.models.workload import Workload, build_workload
from confide.privacy.randomness import KeyedGenerator
from confide.tasks.task import LABELS, Examples

CPU = Compute()
Step = Callable[[Tensor], None]
"""Takes one step on the records at some indices."""


def make_workload(model: str, layers: int, compute: Compute = CPU) -> Workload:
    """Build a text classifier on MiniLM, or a perceptron."""
    if model == "mlp":
        columns = {f"c{i}": ColumnConfig(minimum=0.0, maximum=1.0) for i in range(12)}
        task = TabularConfig(labels=["no", "yes"], columns=columns)
        backbone, tuning = MlpConfig(hidden=[64, 64]), TuningConfig(kind="full")
        return build_workload(task, backbone, tuning, compute=compute, seed=0)
    words = ["experiment=tweets", f"tuning={model}", f"backbone.num_hidden_layers={layers}"]
    config = compose(words)
    return build_workload(config.task, config.backbone, config.tuning, compute=compute, seed=0)


def make_examples(model: str, count: int, tokens: int, *, mixed: bool) -> Examples:
    """Draw records at random; what they mean does not change the cost."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (count,), generator=generator)
    if model in ("mlp", "head"):
        width = 12 if model == "mlp" else 384
        return Examples(
            {"features": torch.randn(count, width, generator=generator), LABELS: labels}
        )
    lengths = torch.full((count,), tokens)
    if mixed:
        lengths = torch.randint(min(8, tokens), tokens + 1, (count,), generator=generator)
    mask = (torch.arange(tokens) < lengths[:, None]).long()
    ids = torch.randint(1000, 20_000, (count, tokens), generator=generator) * mask
    columns = {"input_ids": ids, "attention_mask": mask, LABELS: labels}
    return Examples(columns, lengths, {"input_ids": 0, "attention_mask": 0})


def make_samples(count: int, batch_size: int, number: int, *, poisson: bool) -> list[Tensor]:
    """Draw the indices of each step's records."""
    generator = torch.Generator().manual_seed(1)
    if poisson:
        rate = batch_size / count
        drawn = [torch.rand(count, generator=generator) < rate for _ in range(number)]
        return [each.nonzero().flatten() for each in drawn]
    return [torch.randperm(count, generator=generator)[:batch_size] for _ in range(number)]


class TorchNoise(KeyedGenerator):
    """Draws noise with torch's own generator, which cryptographic noise is compared with."""

    def add_normal(self, targets: Sequence[Tensor], *, std: float) -> None:  # noqa: D102
        for target in targets:
            target.add_(torch.randn(len(target)), alpha=std)


def make_plain_step(workload: Workload, examples: Examples) -> Step:
    workload.model.train()
    sgd = torch.optim.SGD([p for p in workload.model.parameters() if p.requires_grad], lr=0.1)

    def step(indices: Tensor) -> None:
        for chunk in indices.split(workload.compute.physical_batch_size):
            losses = workload.losses(workload.model, examples.take(chunk))
            (losses.sum() / len(indices)).backward()
        sgd.step()
        sgd.zero_grad(set_to_none=True)

    return step


def make_private_steps(
    workload: Workload, examples: Examples, batch_size: int, noises: Sequence[KeyedGenerator]
) -> list[Step]:
    """Return a step for each source of noise, all on one model."""
    workload.model.train()
    dp_sgd = DpSgd(
        workload.model,
        workload.losses,
        physical_batch_size=workload.compute.physical_batch_size,
    )
    sgd = torch.optim.SGD([p for p in workload.model.parameters() if p.requires_grad], lr=0.1)
    shared = DpSgdStep(
        clipping_norm=1.0,
        noise_multiplier=1.0,
        sampling_rate=batch_size / len(examples),
        expected_batch_size=batch_size,
    )

    def make_step(noise: KeyedGenerator) -> Step:
        optimizer = dp_sgd.optimizer(sgd, shared, noise)

        def step(indices: Tensor) -> None:
            dp_sgd.private_gradient(optimizer, examples, indices)
            sgd.step()

        return step

    return [make_step(noise) for noise in noises]


def compare(
    steps: dict[str, Step],
    samples: Sequence[Tensor],
    *,
    rounds: int,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, float]:
    """Run steps in turn on the same samples; return the mean over samples of the best seconds."""
    best = {name: [float("inf")] * len(samples) for name in steps}
    with expect_hook_warning():
        for _ in range(rounds):
            for number, indices in enumerate(samples):
                for name, run in steps.items():
                    started = clock()
                    run(indices)
                    best[name][number] = min(best[name][number], clock() - started)
    return {name: sum(values) / len(samples) for name, values in best.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="lora", choices=("full", "head", "lora", "mlp"))
    parser.add_argument("--sample", default="exact", choices=("exact", "poisson"))
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--records", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--steps", type=int, default=4, help="samples")
    parser.add_argument("--rounds", type=int, default=3, help="times each sample is measured")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--noise", action="store_true", help="compare with torch's noise too")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    poisson = given.sample == "poisson"
    examples = make_examples(given.model, given.records, given.tokens, mixed=poisson)
    samples = make_samples(given.records, given.batch_size, given.steps, poisson=poisson)
    noises = [KeyedGenerator(bytes(32)), *([TorchNoise(bytes(32))] if given.noise else [])]
    workloads = [make_workload(given.model, given.layers) for _ in range(2)]
    names = ("private", "private with torch's noise")
    private = make_private_steps(workloads[0], examples, given.batch_size, noises)
    steps = {
        "plain": make_plain_step(workloads[1], examples),
        **dict(zip(names, private, strict=False)),
    }
    seconds = compare(steps, samples, rounds=given.rounds)
    what = f"{given.model}, {given.sample} {given.batch_size}"
    for name in names[: len(private)]:
        print(
            f"{what}: {name} {1e3 * seconds[name]:.2f} ms, plain {1e3 * seconds['plain']:.2f} ms a"
            f" step, ratio {seconds[name] / seconds['plain']:.3f}"
        )
    if given.noise:
        print(f"{what}: secure noise over torch's {seconds[names[0]] / seconds[names[1]]:.3f}")


if __name__ == "__main__":
    main()
