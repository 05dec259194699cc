"""Low-rank adapters: h = W x + s B A x, where A [r, d] and B [p, r] are trained and W is not.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, arXiv 2106.09685. B
starts at zero, so that a model starts as its backbone. The scale s is alpha / r, or alpha / sqrt(r)
where it is stabilised (Kalajdzievski, "A Rank Stabilization Scaling Factor for Fine-Tuning with
LoRA", 2023, arXiv 2312.03732).

With A frozen (FFA-LoRA: Sun et al., "Improving LoRA in Privacy-preserving Federated Learning", ICLR
2024, arXiv 2403.12313) the mean of institutions' B is the mean of their B A, half as much travels,
and noise enters once and not as a product of two.

With both trained, mean(B) mean(A) is another matrix than mean(B A). What it leaves out can be added
to W, which then has to travel: :mod:`confide.strategies.algorithms.exact_lora`.
"""

import warnings

from torch import nn

from confide.config.tunings.lora import ExactLoraConfig, FfaLoraConfig, LoraConfig
from confide.errors import ModelError
from confide.models.tuning.frozen import freeze_at_random
from confide.models.tuning.places import QUERY_AND_VALUE, endings_of


def add_lora(encoder: nn.Module, tuning: LoraConfig) -> nn.Module:
    """Freeze an encoder, and add adapters that are trained.

    Raises:
        ModelError: if no module matches ``tuning.target_modules``.
    """
    import peft

    encoder.requires_grad_(False)
    named = tuning.target_modules
    config = peft.LoraConfig(
        r=tuning.rank,
        lora_alpha=tuning.alpha,
        lora_dropout=0.0,  # as in load_encoder: equal seeds, equal weights
        target_modules=endings_of(encoder, QUERY_AND_VALUE) if named is None else list(named),
        use_rslora=tuning.rank_stabilised,
    )
    try:
        with warnings.catch_warnings():
            # peft reads a property that transformers is renaming
            warnings.filterwarnings(
                "ignore", message=".*is_gradient_checkpointing", category=FutureWarning
            )
            # GPT-2's matrices are transposed, which peft sees by itself, and says
            warnings.filterwarnings("ignore", message="fan_in_fan_out is set to False")
            adapted: nn.Module = peft.get_peft_model(encoder, config)
    except ValueError as error:
        raise ModelError(f"tuning.target_modules={named}: {error}") from None
    return adapted


def add_ffa_lora(encoder: nn.Module, tuning: FfaLoraConfig) -> nn.Module:
    """Add adapters whose A is frozen where the plan's seed starts it.

    Raises:
        ModelError: if no module matches ``tuning.target_modules``.
    """
    if tuning.seed is None:
        raise ValueError("A plan says the seed of frozen tensors; use FfaLoraConfig.seeded().")
    adapted = add_lora(encoder, tuning)
    names = adapted.named_parameters()
    freeze_at_random((one for one in names if ".lora_A." in one[0]), seed=tuning.seed)
    return adapted


def add_exact_lora(encoder: nn.Module, tuning: ExactLoraConfig) -> nn.Module:
    """Add adapters whose weights travel too, so that a coordinator can add to them.

    Raises:
        ModelError: if no module matches ``tuning.target_modules``, or one is no linear layer.
    """
    adapted = add_lora(encoder, tuning)
    for name, module in adapted.named_modules():
        if not name.endswith(".base_layer"):
            continue
        if not isinstance(module, nn.Linear):  # GPT-2's matrices are transposed
            raise ModelError(
                f"tuning=lora_exact adds to the weights of linear layers, and {name} is"
                f" {type(module).__name__}; choose tuning=lora_ffa, whose mean is exact too."
            )
        module.weight.requires_grad_(True)
    return adapted


__all__ = ["add_exact_lora", "add_ffa_lora", "add_lora"]
