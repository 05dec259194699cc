"""From a plan's word to one of torch's optimizers, without torch's compiler.

An optimizer of torch loads ``torch._dynamo`` with its first step, to keep the compiler away from
it: half a second, more than all steps of a small model take, where nothing is compiled.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from confide.config.client import OptimizerConfig


def make_optimizer(config: OptimizerConfig, params: list[nn.Parameter]) -> Optimizer:
    """Map a plan's word to an optimizer."""
    settings = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    if is_bare(config):
        return _bare_sgd()(params, **settings)
    if config.kind == "sgd":
        return _uncompiled(SGD)(params, momentum=config.momentum, **settings)
    return _uncompiled(Adam if config.kind == "adam" else AdamW)(params, **settings)


def is_bare(config: OptimizerConfig) -> bool:
    """Tell whether a step is the learning rate times the gradient, and nothing else."""
    return config.kind == "sgd" and not config.momentum and not config.weight_decay


@functools.cache
def _uncompiled(cls: type[Optimizer]) -> Callable[..., Optimizer]:
    """Return the same optimizer, its methods without the wrappers that load the compiler."""
    return _with_step(cls, torch.no_grad()(inspect.unwrap(cls.step)))


def _with_step(cls: type[Optimizer], step: Any) -> Callable[..., Optimizer]:
    # Or else a constructor wraps it anew, for torch's profiler: a tenth of a small model's step.
    step.hooked = True
    methods = {
        "add_param_group": inspect.unwrap(cls.add_param_group),
        "zero_grad": inspect.unwrap(cls.zero_grad),
        "step": step,
    }
    return type(cls.__name__, (cls,), methods)


@functools.cache
def _bare_sgd() -> Callable[..., Optimizer]:
    """Return SGD with a step that does what torch's comes to, without asking what it could be."""

    @torch.no_grad()
    def step(optimizer: Optimizer, closure: object = None) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.add_(parameter.grad, alpha=-group["lr"])

    return _with_step(SGD, step)


__all__ = ["is_bare", "make_optimizer"]
