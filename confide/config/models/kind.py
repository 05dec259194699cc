"""What an entry of the table of backbones says."""

from collections.abc import Collection
from dataclasses import dataclass

from confide.config.models.backbone import BackboneConfig


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
        has_features: whether a record is one vector before the last layer, which training changes.
        maker: dotted name of a function of the schema, which makes its files where they are not.
    """

    schema: type[BackboneConfig]
    inputs: tuple[str, ...]
    network: Network
    tunings: Collection[str]
    has_weights: bool
    choice: str
    tasks: tuple[str, ...] | None = None
    outcomes: tuple[str, ...] | None = None
    algorithm: str | None = None
    forms: tuple[str, ...] = ("hf", "merged", "onnx", "int8")
    has_features: bool = False
    maker: str | None = None


__all__ = ["BackboneKind", "Network"]
