"""A private training step over the same step without privacy: MiniLM with LoRA, batch 32, 64 tokens.

    python benchmarks/dp_step.py

Both are the trainer's own steps, run in turn in one process: per-record gradients, clipping, cryptographic noise and
optimizer against gradient and optimizer. The ratio of medians is printed: at most 1.15 on the machine this was made on.
"""

import argparse
import statistics
import time

import torch

from confide.client.dp_sgd import DpSgd, DpSgdStep, expect_hook_warning
from confide.compose import compose
from confide.privacy.randomness import KeyedGenerator
from confide.tasks.task import LABELS, Examples
from confide.workload import Compute, Workload, build_workload


def make_workload(tuning: str, layers: int) -> Workload:
    """Build a text classifier on MiniLM."""
    config = compose([f"tuning={tuning}", f"backbone.num_hidden_layers={layers}"])
    return build_workload(config.task, config.backbone, config.tuning, compute=Compute(), seed=0)


def make_batch(batch_size: int, tokens: int) -> Examples:
    """Invent token ids; what they say does not change the cost."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1000, 20_000, (batch_size, tokens), generator=generator)
    labels = torch.randint(0, 3, (batch_size,), generator=generator)
    return Examples({"input_ids": ids, "attention_mask": torch.ones_like(ids), LABELS: labels})


def compare(tuning: str, *, batch_size: int, tokens: int, layers: int, steps: int) -> float:
    """Return the ratio of median step times."""
    plain, private = make_workload(tuning, layers), make_workload(tuning, layers)
    examples, everyone = make_batch(batch_size, tokens), torch.arange(batch_size)

    def loss_of(workload: Workload, model: torch.nn.Module) -> torch.Tensor:
        inputs = {name: column for name, column in examples.columns.items() if name != LABELS}
        return workload.task.loss(model(**inputs), dict(examples.columns))

    plain.model.train()
    plain_sgd = torch.optim.SGD([p for p in plain.model.parameters() if p.requires_grad], lr=0.1)

    def plain_step() -> None:
        loss_of(plain, plain.model).mean().backward()
        plain_sgd.step()
        plain_sgd.zero_grad(set_to_none=True)

    private.model.train()
    dp_sgd = DpSgd(private.model, lambda model, batch: loss_of(private, model), physical_batch_size=batch_size)
    private_sgd = torch.optim.SGD([p for p in private.model.parameters() if p.requires_grad], lr=0.1)
    step = DpSgdStep(clipping_norm=1.0, noise_multiplier=1.0, sampling_rate=0.1, expected_batch_size=batch_size)
    optimizer = dp_sgd.optimizer(private_sgd, step, KeyedGenerator(bytes(32)))

    def private_step() -> None:
        dp_sgd.private_gradient(optimizer, examples, everyone)
        private_sgd.step()

    seconds: dict[str, list[float]] = {"plain": [], "private": []}
    with expect_hook_warning():
        for number in range(steps + 2):
            for name, run in (("plain", plain_step), ("private", private_step)):
                started = time.perf_counter()
                run()
                if number >= 2:
                    seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratio = medians["private"] / medians["plain"]
    print(f"{tuning}: private {medians['private']:.3f} s, plain {medians['plain']:.3f} s a step, ratio {ratio:.3f}")
    return ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tuning", default="lora", choices=("full", "lora"))
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    compare(
        arguments.tuning,
        batch_size=arguments.batch_size,
        tokens=arguments.tokens,
        layers=arguments.layers,
        steps=arguments.steps,
    )


if __name__ == "__main__":
    main()
