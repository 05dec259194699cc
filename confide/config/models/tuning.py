"""Which tensors of a model are trained."""

from dataclasses import dataclass
from typing import Any, ClassVar

from confide.config.fields import STRICT, setting


@dataclass
class TuningConfig:
    """Which tensors are trained, and so travel."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: str = setting(
        "???",
        "full: all; lora: adapters and head; head: the head on frozen features.",
        choices=("full", "lora", "head"),
    )
    rank: int = setting(8, "LoRA rank r.", ge=1, le=1024)
    alpha: float = setting(16.0, "LoRA scale: the adapter counts alpha / rank.", gt=0)
    # As BERT and its family name the matrices of attention.
    target_modules: list[str] = setting(
        lambda: ["query", "value"], "Modules that get an adapter, by the end of their name."
    )


__all__ = ["TuningConfig"]
