"""Kinds of backbone and tuning: their schemas, and the table that says what implements each.

``BACKBONES`` is the one place that lists kinds; see docs/design/0021-tables.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, ClassVar, Protocol

from confide.config.fields import STRICT, setting
from confide.encodings.tree_cells import CELLS

# A plan may come from anybody: a model that it describes by its widths has to have some bound.
_MOST_LAYERS, _WIDEST_LAYER, _MOST_PAIRS = 64, 10_000_000, 64


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


class Pretrained(Protocol):
    """What names pretrained weights.

    Attributes:
        name: a local folder, ``pkg://PACKAGE/FOLDER`` or a hub name.
        sha256: expected content hash; None for any.
        allow_download: whether a hub name may be downloaded.
    """

    # Plain attributes, as of the config classes, which Hydra needs to be mutable.
    name: str
    sha256: str | None
    allow_download: bool


@dataclass
class Weights:
    """Pretrained weights outside any config: see :class:`Pretrained`."""

    name: str
    sha256: str | None = None
    allow_download: bool = False


@dataclass
class BackboneConfig:
    """The model every institution starts from."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    # A class variable: neither Hydra nor a plan sees it.
    is_linear: ClassVar[bool] = False
    """Whether outputs are linear in what it takes, or in products of that."""

    kind: str = setting("???", "Kind of backbone.")
    # Scaled in the model, whatever encoded a row: what a gradient can be then follows from the plan
    row_norm: float | None = setting(
        None,
        "L2 norm that an encoded row, or a text's features before the head, is scaled to; null: as"
        " it comes. With it a logistic regression starts at zero.",
        ge=1e-3,
        le=1e6,
    )

    @property
    def pretrained(self) -> Pretrained | None:
        """Where its weights come from; None for one that starts at random."""
        return None

    @property
    def tree_encoding(self) -> str | None:
        """How trees read columns (``TaskConfig.for_trees``); None for other models."""
        return None

    @property
    def needed_rounds(self) -> int | None:
        """Rounds that training takes, no more and no fewer; None for any number."""
        return None

    def pinned(self, sha256: str | None, *, folder: str | None = None) -> "BackboneConfig":
        """Return it with the weights that it must have; one without weights is returned as it is.

        Args:
            sha256: content hash of the weights.
            folder: where they are, so that nothing is downloaded; None: where the config says.
        """
        return self

    def describe(self, tuning: TuningConfig) -> str:
        """Say what is trained, as a report does."""
        return self.kind


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

    @property
    def pretrained(self) -> Pretrained:
        """Its weights are always pretrained."""
        return self

    def pinned(self, sha256: str | None, *, folder: str | None = None) -> "TransformerConfig":
        """Return it with the weights that it must have."""
        # A folder has it already, so that there is nothing to download.
        if folder is None:
            return replace(self, sha256=sha256)
        return replace(self, name=folder, sha256=sha256, allow_download=False)

    def describe(self, tuning: TuningConfig) -> str:
        """Name the encoder, and what of it is trained."""
        # By the package or the last part: the rest is a path of somebody's machine.
        path = PurePosixPath(self.name.removeprefix("pkg://"))
        name = path.parts[0] if self.name.startswith("pkg://") else path.name
        layers = f", first {self.num_hidden_layers} layers" if self.num_hidden_layers else ""
        ways = {
            "head": "a linear head on the frozen backbone {}",
            "lora": f"rank-{tuning.rank} adapters and a head on the backbone {{}}",
            "full": "all parameters of the backbone {} and a head",
        }
        return ways[tuning.kind].format(f"{name}{layers}")


@dataclass
class LogisticConfig(BackboneConfig):
    """Multinomial logistic regression on the encoded columns."""

    is_linear: ClassVar[bool] = True

    kind: str = setting("logistic", "Kind of backbone.", choices=("logistic",))

    def describe(self, tuning: TuningConfig) -> str:
        """Name the model."""
        return "a logistic regression"


@dataclass
class AdditiveConfig(LogisticConfig):
    """A sum of one curve a column, and of one surface for each pair of columns that is named.

    A logistic regression that starts at zero, and whose pairs are products of the columns' inputs
    (generalised additive models with pairwise interactions: Lou et al., KDD 2013).
    """

    kind: str = setting("additive", "Kind of backbone.", choices=("additive",))
    pairs: list[list[str]] = setting(
        list,
        "Pairs of columns that have a surface beside their two curves, such as [[age, sex]]: their"
        " inputs multiplied, as long as the geometric mean of both.",
    )

    def describe(self, tuning: TuningConfig) -> str:
        """Name the model and its pairs."""
        surfaces = f" and {len(self.pairs)} pairs of columns" if self.pairs else ""
        return f"an additive model, a sum of one curve a column{surfaces}"

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        for pair in self.pairs:
            if len(pair) != 2 or pair[0] == pair[1]:
                yield f"pairs={pair}: expected two columns."
        if len({frozenset(pair) for pair in self.pairs}) < len(self.pairs):
            yield f"pairs={self.pairs}: two of them are one pair; leave one out."
        if len(self.pairs) > _MOST_PAIRS:
            yield f"pairs: expected at most {_MOST_PAIRS}, got {len(self.pairs)}."


@dataclass
class MlpConfig(BackboneConfig):
    """A multi-layer perceptron on the encoded columns, ReLU between layers."""

    kind: str = setting("mlp", "Kind of backbone.", choices=("mlp",))
    hidden: list[int] = setting(lambda: [32], "Width of each hidden layer.")

    def describe(self, tuning: TuningConfig) -> str:
        """Name the model and its widths."""
        widths = [str(width) for width in self.hidden]
        # "64", "64 and 32", "64, 32 and 16"
        listed = " and ".join(filter(None, (", ".join(widths[:-1]), widths[-1])))
        return f"a perceptron with hidden layers of {listed}"

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
class TreesConfig(BackboneConfig):
    """Boosted trees on the cells of columns; grown level by level on summed histograms."""

    kind: str = setting("trees", "Kind of backbone.", choices=("trees",))
    num_trees: int = setting(
        60, "Trees grown one after the other; of several classes each has so many.", ge=1, le=5000
    )
    depth: int = setting(4, "Levels of a tree; each takes a round.", ge=1, le=10)
    cells: str = setting(
        "grid",
        "Where a number may be split. grid: at the edges of a public grid of its range, 162 cells;"
        " edges: at the edges of its column (numeric.edges, numeric.bins).",
        choices=CELLS,
    )

    @property
    def tree_encoding(self) -> str:
        """Cells of the public grid, or of columns' own edges."""
        return self.cells

    @property
    def needed_rounds(self) -> int:
        """One round a level."""
        return self.num_trees * self.depth

    def describe(self, tuning: TuningConfig) -> str:
        """Name the model and its size."""
        return f"boosted trees, {self.num_trees} of depth {self.depth} one after the other"

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        if self.row_norm is not None:
            yield f"row_norm={self.row_norm}: trees split columns one by one; leave it out."


@dataclass(frozen=True, kw_only=True)
class Network:
    """What implements a model, by dotted names that are imported when first used.

    Attributes:
        builder: a :data:`~confide.models.workload.BuildFn`.
        exporter: class of an :class:`~confide.inference.exporter.Exporter`.
    """

    builder: str
    exporter: str


@dataclass(frozen=True, kw_only=True)
class BackboneKind:
    """A kind of backbone: an entry of :data:`BACKBONES`.

    Attributes:
        schema: dataclass of its settings, ``kind`` among them.
        inputs: columns of encoded records that it takes.
        network: what builds and exports its model.
        tunings: kinds of tuning that it allows.
        has_weights: whether it starts from pretrained weights, known by their content hash; one
            without is described by its widths, and a policy allows it by its kind.
        choice: what to write after ``backbone=``, in words.
        tasks: kinds of task that it is for; None for all whose records it takes.
        outcomes: kinds of outcome that it predicts; None for all.
        algorithm: the algorithm that trains it, and trains no other; None for every other one.
        forms: forms that it can be exported to.
    """

    schema: type[BackboneConfig]
    inputs: tuple[str, ...]
    network: Network
    tunings: tuple[str, ...]
    has_weights: bool
    choice: str
    tasks: tuple[str, ...] | None = None
    outcomes: tuple[str, ...] | None = None
    algorithm: str | None = None
    forms: tuple[str, ...] = ("hf", "merged", "onnx", "int8")


_PERCEPTRON = Network(
    builder="confide.models.perceptron.build_perceptron",
    exporter="confide.inference.features_form.FeaturesExporter",
)

BACKBONES: dict[str, BackboneKind] = {
    "transformer": BackboneKind(
        schema=TransformerConfig,
        inputs=("input_ids", "attention_mask"),
        network=Network(
            builder="confide.models.encoder.build_encoder",
            exporter="confide.inference.tokens_form.TokensExporter",
        ),
        tunings=("full", "lora", "head"),
        has_weights=True,
        choice="minilm or another transformer",
    ),
    "logistic": BackboneKind(
        schema=LogisticConfig,
        inputs=("features",),
        network=_PERCEPTRON,
        tunings=("full",),
        has_weights=False,
        choice="logistic",
    ),
    "additive": BackboneKind(
        schema=AdditiveConfig,
        inputs=("features",),
        network=_PERCEPTRON,
        tunings=("full",),
        has_weights=False,
        choice="additive",
    ),
    "mlp": BackboneKind(
        schema=MlpConfig,
        inputs=("features",),
        network=_PERCEPTRON,
        tunings=("full",),
        has_weights=False,
        choice="mlp",
    ),
    "trees": BackboneKind(
        schema=TreesConfig,
        inputs=("features",),
        network=Network(
            builder="confide.models.trees.build_trees",
            exporter="confide.inference.trees_form.TreesExporter",
        ),
        tunings=("full",),
        has_weights=False,
        choice="trees",
        tasks=("tabular",),
        outcomes=("classes",),
        algorithm="boosting",
        forms=("xgboost", "onnx"),
    ),
}
"""Kinds of backbone, by name."""


def without_weights() -> tuple[str, ...]:
    """Name the kinds of backbone that start at random."""
    return tuple(name for name, kind in BACKBONES.items() if not kind.has_weights)


__all__ = [
    "BACKBONES",
    "AdditiveConfig",
    "BackboneConfig",
    "BackboneKind",
    "LogisticConfig",
    "MlpConfig",
    "Network",
    "Pretrained",
    "TransformerConfig",
    "TreesConfig",
    "TuningConfig",
    "Weights",
    "without_weights",
]
