"""The table of tunings.

``TUNINGS`` is the one place that lists kinds; see docs/design/0041-tunings.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from confide.config.tunings.bottleneck import BottleneckConfig
from confide.config.tunings.lora import (
    OF_BERT,
    AlternatingLoraConfig,
    ExactLoraConfig,
    FfaLoraConfig,
    HeadFirstLoraConfig,
    LoraConfig,
)
from confide.config.tunings.prefix import PrefixConfig
from confide.config.tunings.tuning import TuningConfig

_FORMS = ("hf", "merged", "onnx", "int8")


@dataclass(frozen=True, kw_only=True)
class TuningKind:
    """A kind of tuning: an entry of :data:`TUNINGS`.

    Attributes:
        schema: dataclass of its settings, ``kind`` among them.
        tune: dotted name of what freezes an encoder and adds what is trained: a
            :data:`~confide.models.networks.TuneFn`; imported when first used.
        described: what is trained, in a report; ``{backbone}`` and settings are filled in.
        learning_rates: client learning rates of SGD, without privacy and with it.
        folder: folder beside a saved model that transformers loads, or peft; "" for none.
        forms: forms that a model can be exported to.
        turns: in the names of the trained tensors that stay in each turn, None where all are
            trained; which turn a round is, the tuning says: one after the other, over and over,
            unless it says otherwise. () where all are trained in every round.
        unfreezes: whether a turn trains all that turns before it have trained, and none comes back.
    """

    schema: type[TuningConfig]
    tune: str
    described: str
    learning_rates: tuple[float, float]
    folder: str = ""
    forms: tuple[str, ...] = _FORMS
    turns: tuple[str | None, ...] = ()
    unfreezes: bool = False

    def describe(self, tuning: TuningConfig, backbone: str) -> str:
        """Say what of a backbone is trained, as a report does."""
        return self.described.format(backbone=backbone, tuning=tuning)


TUNINGS: dict[str, TuningKind] = {
    "full": TuningKind(
        schema=TuningConfig,
        tune="confide.models.tuning.whole.train_all",
        described="all parameters of the backbone {backbone} and a head",
        learning_rates=(0.01, 0.1),
        folder="encoder",
    ),
    "lora": TuningKind(
        schema=LoraConfig,
        tune="confide.models.tuning.lora.add_lora",
        described="rank-{tuning.rank} adapters and a head on the backbone {backbone}",
        learning_rates=(0.1, 0.5),
        folder="adapter",
    ),
    "head": TuningKind(
        schema=TuningConfig,
        tune="confide.models.tuning.whole.train_none",
        described="a linear head on the frozen backbone {backbone}",
        learning_rates=(0.3, 1.0),
    ),
    "lora_ffa": TuningKind(
        schema=FfaLoraConfig,
        tune="confide.models.tuning.lora.add_ffa_lora",
        described=(
            "rank-{tuning.rank} adapters, one half of each frozen, and a head on the backbone"
            " {backbone}"
        ),
        learning_rates=(0.1, 0.5),
        folder="adapter",
    ),
    "lora_alternating": TuningKind(
        schema=AlternatingLoraConfig,
        tune="confide.models.tuning.lora.add_lora",
        described=(
            "rank-{tuning.rank} adapters, the halves of each in turns, and a head on the backbone"
            " {backbone}"
        ),
        learning_rates=(0.1, 0.5),
        folder="adapter",
        # B first: it starts at zero, so that A has no gradient before
        turns=(".lora_A.", ".lora_B."),
    ),
    "lora_after_head": TuningKind(
        schema=HeadFirstLoraConfig,
        tune="confide.models.tuning.lora.add_lora",
        described=(
            "a head and, after round {tuning.head_rounds}, rank-{tuning.rank} adapters on the"
            " backbone {backbone}"
        ),
        learning_rates=(0.1, 0.5),
        folder="adapter",
        turns=(".lora_", None),
        unfreezes=True,
    ),
    "lora_exact": TuningKind(
        schema=ExactLoraConfig,
        tune="confide.models.tuning.lora.add_exact_lora",
        described=(
            "rank-{tuning.rank} adapters, averaged exactly by the weights that they belong to, and"
            " a head on the backbone {backbone}"
        ),
        learning_rates=(0.1, 0.5),
        forms=("merged", "onnx", "int8"),  # the backbone's own weights are no longer what it adapts
        # In every round: local steps never change them
        turns=(".base_layer.weight",),
    ),
    "bottleneck": TuningKind(
        schema=BottleneckConfig,
        tune="confide.models.tuning.bottleneck.add_bottlenecks",
        described=("adapters of width {tuning.bottleneck} and a head on the backbone {backbone}"),
        learning_rates=(0.1, 0.5),
        forms=("hf", "onnx", "int8"),  # it has no linear form that weights could take up
    ),
    "prefix": TuningKind(
        schema=PrefixConfig,
        tune="confide.models.tuning.prefix.add_prefix",
        described=(
            "keys and values of {tuning.length} places before each text, and a head on the backbone"
            " {backbone}"
        ),
        learning_rates=(0.1, 0.5),
        forms=("hf", "onnx", "int8"),  # no weights of the backbone could take it up
    ),
    "bias": TuningKind(
        schema=TuningConfig,
        tune="confide.models.tuning.whole.train_biases",
        described="the biases of the backbone {backbone} and a head",
        learning_rates=(0.1, 0.5),
        folder="encoder",
    ),
    "norm": TuningKind(
        schema=TuningConfig,
        tune="confide.models.tuning.whole.train_norms",
        described="the norms of the backbone {backbone} and a head",
        learning_rates=(0.1, 0.5),
        folder="encoder",
    ),
}
"""Kinds of tuning, by name."""

_PER_RECORD = "its parameters lie outside layers that per-record gradients cover"
REFUSED: dict[str, str] = {
    "adalora": (
        "it prunes ranks by gradients of local records, a release that no epsilon covers, and"
        " differently at each institution; choose tuning=lora or lora_ffa."
    ),
    "ia3": f"{_PER_RECORD}; choose tuning=norm or bias, which are as small.",
    "vera": f"{_PER_RECORD}; choose tuning=lora_ffa, whose random half is frozen too.",
    "dora": f"{_PER_RECORD}; choose tuning=lora.",
    "oft": f"{_PER_RECORD}; choose tuning=lora.",
    "prompt": (
        "its vectors are looked up once for a whole batch, so that no record has a gradient of its"
        " own; choose tuning=prefix or lora."
    ),
}
"""Kinds that are known and not offered -> why, and what to choose."""

_FIRST_KINDS = ("full", "head")
_OF_LORA: dict[str, Any] = {"rank": 8, "alpha": 16.0, "target_modules": OF_BERT}
"""What plans say of LoRA where everything is trained, or the head alone: the first releases wrote
its settings whatever the kind, and approvals know a plan by its text."""


def own_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a plan or config says of its tuning, without what its kind never read."""
    is_first = values.get("kind") in _FIRST_KINDS
    return {key: value for key, value in values.items() if not (is_first and key in _OF_LORA)}


def written_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of a tuning as plans have always written them."""
    if values["kind"] in _FIRST_KINDS:
        return {**values, **_OF_LORA}
    # A setting that is younger than plans with adapters: where it says nothing, it is not there
    written = {key: value for key, value in values.items() if key != "ranks" or value}
    if values["kind"] != "lora":
        return written
    written["target_modules"] = values["target_modules"] or OF_BERT
    if not values["rank_stabilised"]:
        del written["rank_stabilised"]
    return written


__all__ = ["REFUSED", "TUNINGS", "TuningKind", "own_settings", "written_settings"]
