"""Measures training on one GPU, and writes a table.

    python benchmarks/gpu.py [--out build/gpu.md]
    python benchmarks/gpu.py --device cpu --small

Steps of MiniLM with LoRA and of all its parameters, in float32 and bf16: a bare loop of PyTorch,
the same without privacy and with it as confide takes them, and Opacus, in turn on the same samples;
and rounds of many small models, inline and as one program. Seconds are of the wall, with nothing
left in the GPU's queue, and the best of several. What is begun after --minutes is left out, and the
table says so. With --device cpu --small the script is tried without a GPU; what it then prints says
nothing about one.
"""

import argparse
import datetime
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import opacus
import torch
from dp_step import Step, compare, make_examples, make_private_steps, make_samples, make_workload
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import Tensor
from vectorised import SHAPES
from vectorised import compare as compare_engines

from confide.client.training.plain_steps import plain_gradients
from confide.models.compute import Compute
from confide.models.workload import Workload
from confide.privacy.randomness import KeyedGenerator
from confide.tasks.task import Examples

_BARE, _PLAIN, _PRIVATE, _OPACUS = "bare loop", "confide", "confide, private", "Opacus"
_NOTE = "not begun: --minutes were over"


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured.

    Attributes:
        layers: of MiniLM.
        records: that samples are drawn from.
        batch_size: expected records of a step.
        tokens: most of a record.
        steps: samples.
        rounds: times each is measured.
        clients: of a round of small models.
    """

    layers: int = 6
    records: int = 2000
    batch_size: int = 256
    tokens: int = 64
    steps: int = 4
    rounds: int = 5
    clients: int = 1000


SMALL = Size(layers=1, records=32, batch_size=4, tokens=16, steps=1, rounds=1, clients=6)


def clock_of(device: torch.device) -> Callable[[], float]:
    """Return a clock that waits for what is in a device's queue."""

    def clock() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    return clock


# --- steps of a text classifier


def make_bare_step(workload: Workload, examples: Examples) -> Step:
    """Return the step that a tutorial of PyTorch takes."""
    workload.model.train()
    sgd = torch.optim.SGD([p for p in workload.model.parameters() if p.requires_grad], lr=0.1)

    def step(indices: Tensor) -> None:
        sgd.zero_grad(set_to_none=True)
        workload.losses(workload.model, examples.take(indices)).mean().backward()
        sgd.step()

    return step


def make_plain_step(workload: Workload, examples: Examples) -> Step:
    """Return a trainer's step without privacy."""
    params = [p for p in workload.model.train().parameters() if p.requires_grad]
    sgd = torch.optim.SGD(params, lr=0.1)

    def step(indices: Tensor) -> None:
        def losses(batch: dict[str, Tensor]) -> Tensor:
            return workload.losses(workload.model, batch)

        for _ in plain_gradients(losses, examples, [indices], compute=workload.compute):
            sgd.step()
            sgd.zero_grad(set_to_none=True)

    return step


def make_opacus_step(workload: Workload, examples: Examples, batch_size: int) -> Step:
    """Return the step that Opacus documents, with noise of torch's own generator."""
    params = [p for p in workload.model.train().parameters() if p.requires_grad]
    module = GradSampleModule(workload.model, batch_first=True, loss_reduction="mean")
    optimizer = DPOptimizer(
        torch.optim.SGD(params, lr=0.1),
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        expected_batch_size=batch_size,
    )

    def step(indices: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        workload.losses(module, examples.take(indices)).mean().backward()
        optimizer.step()

    return step


def measure_steps(model: str, compute: Compute, size: Size) -> dict[str, float]:
    """Return milliseconds a step of each way to take it."""
    examples = make_examples(model, size.records, size.tokens, mixed=True).to(compute.device)
    samples = make_samples(size.records, size.batch_size, size.steps, poisson=True)
    # Each on a model of its own: hooks and wrappers stay.
    workloads = [make_workload(model, size.layers, compute) for _ in range(4)]
    noise = [KeyedGenerator(bytes(32))]
    steps = {
        _BARE: make_bare_step(workloads[0], examples),
        _PLAIN: make_plain_step(workloads[1], examples),
        _PRIVATE: make_private_steps(workloads[2], examples, size.batch_size, noise)[0],
        _OPACUS: make_opacus_step(workloads[3], examples, size.batch_size),
    }
    warm = samples[:1]
    compare(steps, warm, rounds=1, clock=clock_of(compute.device))
    seconds = compare(steps, samples, rounds=size.rounds, clock=clock_of(compute.device))
    return {name: 1e3 * taken for name, taken in seconds.items()}


# --- the table


def step_rows(compute: Compute, size: Size, *, is_late: Callable[[], bool]) -> Iterator[str]:
    """Yield lines of the first table."""
    yield (
        f"| model | precision | {_BARE}, ms | {_PLAIN}, ms | {_PRIVATE}, ms | {_OPACUS}, ms |"
        " private over plain | Opacus over private |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for model in ("lora", "full"):
        for name, autocast in (("float32", None), ("bf16", torch.bfloat16)):
            if is_late():
                yield f"| MiniLM, {model} | {name} | {_NOTE} | | | | | |"
                continue
            found = measure_steps(model, replace(compute, autocast=autocast), size)
            told = " | ".join(f"{value:.2f}" for value in found.values())
            yield (
                f"| MiniLM, {model} | {name} | {told} | {found[_PRIVATE] / found[_PLAIN]:.2f} |"
                f" {found[_OPACUS] / found[_PRIVATE]:.2f} |"
            )


def client_rows(compute: Compute, size: Size, *, is_late: Callable[[], bool]) -> Iterator[str]:
    """Yield lines of the second table."""
    yield "| clients | inline, a second | vectorised, a second | ratio | 95 % |"
    yield "|---|---|---|---|---|"
    for name in ("mlp", "mlp-unequal", "mlp-private"):
        shape = replace(SHAPES[name], clients=size.clients, compute=compute)
        if is_late():
            yield f"| {name}, {shape.clients} | {_NOTE} | | | |"
            continue
        found = compare_engines(shape, rounds=2 * size.rounds, clock=clock_of(compute.device))
        low, high = found.bounds
        yield (
            f"| {name}, {shape.clients} | {1e6 / found.inline:.0f} | {1e6 / found.vectorised:.0f} |"
            f" {found.ratio:.1f} | {low:.1f} to {high:.1f} |"
        )


def head(compute: Compute, size: Size) -> Sequence[str]:
    """Say what was measured, where and with which versions."""
    device = compute.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return [
        "# One GPU" if device.type == "cuda" else "# A trial without a GPU",
        "",
        f"{datetime.date.today()}, {name or device}, torch {torch.__version__}, opacus"
        f" {opacus.__version__}. MiniLM: {size.layers} layers, {size.batch_size} records expected,"
        f" of {size.tokens} tokens at most; wall seconds, the best of {size.rounds}.",
        "",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--small", action="store_true", help="try the script in a minute")
    parser.add_argument("--minutes", type=float, default=7.0, help="begin nothing after these")
    parser.add_argument("--out", type=Path, help="file of the table")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        print(
            f"--device={given.device}: torch {torch.__version__} sees no such device; --device cpu"
            " --small tries the script without one.",
            file=sys.stderr,
        )
        return 1
    end = time.monotonic() + 60 * given.minutes
    compute, size = Compute(device=torch.device(given.device)), SMALL if given.small else Size()
    lines: list[str] = []

    def tell(more: Sequence[str] | Iterator[str]) -> None:
        for line in more:
            print(line, flush=True)
            lines.append(line)

    def is_late() -> bool:
        return time.monotonic() >= end

    tell(head(compute, size))
    tell(step_rows(compute, size, is_late=is_late))
    tell([""])
    tell(client_rows(compute, size, is_late=is_late))
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
