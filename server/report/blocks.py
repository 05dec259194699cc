"""A part of a page that anything may fill: sentences, figures and tables under one heading."""

from collections.abc import Sequence
from dataclasses import dataclass

from confide.pages.figures import Picture
from confide.server.report.render import PageTable


@dataclass(frozen=True, kw_only=True)
class Block:
    """One part of a section.

    Attributes:
        title: heading; '' for none.
        paragraphs: sentences above the figures.
        pictures: figures.
        tables: tables below them.
        notes: sentences in small print at the end.
    """

    title: str = ""
    paragraphs: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[PageTable] = ()
    notes: Sequence[str] = ()


__all__ = ["Block"]
