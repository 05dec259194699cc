"""Tensors of the encoder itself: all of them, none, its biases, or its norms."""

from torch import nn

from confide.config.tunings.tuning import TuningConfig
from confide.errors import ModelError


def train_all(encoder: nn.Module, tuning: TuningConfig) -> nn.Module:
    """Train what the family trains; its own fixed tensors, such as sines of positions, stay."""
    return encoder


def train_none(encoder: nn.Module, tuning: TuningConfig) -> nn.Module:
    """Freeze every tensor."""
    return encoder.requires_grad_(False)


def train_biases(encoder: nn.Module, tuning: TuningConfig) -> nn.Module:
    """Train every bias (Ben Zaken, Goldberg, Ravfogel, "BitFit", ACL 2022, arXiv 2106.10199).

    Raises:
        ModelError: if there is none.
    """
    encoder.requires_grad_(False)
    biases = [p for name, p in encoder.named_parameters() if name.split(".")[-1] == "bias"]
    _train(encoder, tuning, biases, "biases")
    return encoder


def train_norms(encoder: nn.Module, tuning: TuningConfig) -> nn.Module:
    """Train the weights and biases of norms (Zhao et al., ICLR 2024, arXiv 2312.11420).

    Raises:
        ModelError: if there is none.
    """
    encoder.requires_grad_(False)
    # Each family has its own RMSNorm
    norms = (m for m in encoder.modules() if type(m).__name__.endswith("Norm"))
    found = [p for norm in norms for p in norm.parameters(recurse=False)]
    _train(encoder, tuning, found, "weights of norms")
    return encoder


def _train(
    encoder: nn.Module, tuning: TuningConfig, parameters: list[nn.Parameter], what: str
) -> None:
    if not parameters:
        family = getattr(encoder.config, "model_type", None)
        raise ModelError(
            f"tuning.kind={tuning.kind}: this backbone (model_type={family}) has no {what}; choose"
            " tuning=lora."
        )
    for parameter in parameters:
        parameter.requires_grad_(True)


__all__ = ["train_all", "train_biases", "train_none", "train_norms"]
