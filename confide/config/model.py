"""Settings of backbones and tuning."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from confide.config.fields import STRICT, setting

_MOST_LAYERS, _WIDEST_LAYER = 64, 10_000_000


@dataclass
class BackboneConfig:
    """The model every institution starts from."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: str = setting("???", "Kind of backbone.", choices=("transformer", "logistic", "mlp"))


@dataclass
class TransformerConfig(BackboneConfig):
    """A pretrained encoder in Hugging Face format, with safetensors weights."""

    kind: str = setting("transformer", "Kind of backbone.", choices=("transformer",))
    name: str = setting(
        "???", "A local folder, pkg://PACKAGE/FOLDER inside an installed package, or a hub name."
    )
    sha256: str | None = setting(
        None, "Expected hash of its files; null: taken from the coordinator's copy."
    )
    num_hidden_layers: int | None = setting(None, "Keep only the first layers; null: all.", ge=1)
    pooling: str = setting(
        "mean", "How token vectors become one text vector.", choices=("mean", "cls")
    )
    allow_download: bool = setting(False, "Whether a hub name may be downloaded.")


@dataclass
class LogisticConfig(BackboneConfig):
    """Multinomial logistic regression on the encoded columns."""

    kind: str = setting("logistic", "Kind of backbone.", choices=("logistic",))


@dataclass
class MlpConfig(BackboneConfig):
    """A multi-layer perceptron on the encoded columns, ReLU between layers."""

    kind: str = setting("mlp", "Kind of backbone.", choices=("mlp",))
    hidden: list[int] = setting(lambda: [32], "Width of each hidden layer.")

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        if not self.hidden or not 1 <= min(self.hidden) <= max(self.hidden) <= _WIDEST_LAYER:
            yield (
                f"hidden={self.hidden}: expected widths of 1 to {_WIDEST_LAYER}; for none choose"
                " backbone=logistic."
            )
        if len(self.hidden) > _MOST_LAYERS:
            yield f"hidden: expected at most {_MOST_LAYERS} layers, got {len(self.hidden)}."


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
    target_modules: list[str] = setting(
        lambda: ["query", "value"], "Modules that get an adapter, by the end of their name."
    )
