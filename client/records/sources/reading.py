"""How a source is read: the encoding of text files, and whether values keep their types."""

from dataclasses import dataclass

from confide.config.tasks.media.files import FileReading


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a source is read.

    Attributes:
        encoding: codec of text files.
        errors: ``strict``, or ``replace`` to have U+FFFD, counted, for what cannot be decoded.
        whole: whether values are kept as they are, to be written again; else they become canonical
            text.
        files: how pictures or sounds are read; None where the task has none.
    """

    encoding: str = "utf-8"
    errors: str = "strict"
    whole: bool = False
    files: FileReading | None = None


READ_AS_TEXT = Reading()
"""How UTF-8, strictly, becomes canonical text."""

__all__ = ["READ_AS_TEXT", "Reading"]
