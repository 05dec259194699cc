"""What every kind of backbone says."""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from confide.config.fields import STRICT, setting
from confide.config.models.tuning import TuningConfig


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


__all__ = ["BackboneConfig", "Pretrained", "Weights"]
