"""What every kind of backbone says."""

from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, ClassVar, Protocol, Self

from confide.config.fields import STRICT, setting
from confide.config.tunings.tuning import TuningConfig


class Pretrained(Protocol):
    """What names pretrained weights.

    Attributes:
        name: a local folder, ``pkg://PACKAGE/FOLDER`` or a hub name.
        sha256: expected content hash; None for any.
        allow_download: whether a hub name may be downloaded.
        absent: what to do where the folder is not there, if it is never on a hub; else "".
    """

    # Plain attributes, as of the config classes, which Hydra needs to be mutable.
    name: str
    sha256: str | None
    allow_download: bool
    absent: ClassVar[str]


@dataclass
class Weights:
    """Pretrained weights outside any config: see :class:`Pretrained`."""

    absent: ClassVar[str] = ""
    name: str
    sha256: str | None = None
    allow_download: bool = False


NAME = "A local folder, pkg://PACKAGE/FOLDER inside an installed package, or a hub name."
SHA256 = "Expected hash of its files; null: taken from the coordinator's copy."
DOWNLOAD = "Whether a hub name may be downloaded."


class OfFolder:
    """What every backbone does whose config names pretrained weights, in these three fields.

    They are each config's own, since a plan tells fields in the order of its class.
    """

    absent: ClassVar[str] = ""
    name: str
    sha256: str | None
    allow_download: bool

    @property
    def pretrained(self) -> Pretrained:
        """Its weights are always pretrained."""
        return self

    @property
    def short_name(self) -> str:
        """The package or the last part of its name: the rest is a path of somebody's machine."""
        path = PurePosixPath(self.name.removeprefix("pkg://"))
        return path.parts[0] if self.name.startswith("pkg://") else path.name

    def pinned(self, sha256: str | None, *, folder: str | None = None) -> Self:
        """Return it with the weights that it must have."""
        config: Any = self
        # A folder has it already, so that there is nothing to download.
        moved = {} if folder is None else {"name": folder, "allow_download": False}
        made: Self = replace(config, sha256=sha256, **moved)
        return made


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
