"""How files of records are read, such as pictures and sounds: what a task's schema says of them."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class FileReading:
    """How a column of files is read: a class a kind of content.

    Attributes:
        column: name of the column.
        label_column: name of the column that folders of classes become; "" for none.
        classes: names that folders of classes may have.
        text_column: name of the column that texts beside files become, NAME.txt beside each; "" for
            none.
        beside: how a second column of files is read, such as masks; None for none.
    """

    what: ClassVar[str] = "files"
    """What they are, in words."""
    opener: ClassVar[str] = ""
    """Dotted name of an :class:`~confide.held.Opener`, made of what the schema says."""
    suffixes: ClassVar[tuple[str, ...]] = ()
    """How names of such files end."""

    column: str
    label_column: str = ""
    classes: tuple[str, ...] = ()
    text_column: str = ""
    beside: "FileReading | None" = None

    @property
    def each(self) -> "tuple[FileReading, ...]":
        """This column, and the one beside it."""
        return (self,) if self.beside is None else (self, *self.beside.each)

    def of(self, name: str) -> "FileReading | None":
        """Return how a column is read; None for one that holds no files."""
        return next((one for one in self.each if one.column == name), None)


__all__ = ["FileReading"]
