"""What folders of files say of a draft: classes, and institutions, by their names."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from confide.client.records.sources.files import Found
from confide.errors import DataError

LOOKED_AT = 500
"""Files that are looked at, at most."""
_MOST_CLASSES = 100


@dataclass(frozen=True, kw_only=True)
class Folders:
    """Classes and institutions, as folders name them.

    Attributes:
        labels: names of classes, sorted.
        institutions: names of institutions, sorted; [] if there are none.
        subdivided: whether there are folders within classes, such as patients.
    """

    labels: list[str]
    institutions: list[str]
    subdivided: bool

    def choices(self) -> Iterator[str]:
        """Yield what whoever reads the draft should decide."""
        if self.subdivided:
            yield (
                "Folders within classes are values of column folder: data.group_column=folder, if"
                " each is a patient."
            )

    def notes(self) -> Iterator[str]:
        """Yield what whoever holds the files should know."""
        if self.institutions:
            shown = ", ".join(self.institutions[:5])
            yield f"Folders name {len(self.institutions)} institutions: {shown}."


def read_folders(folder: Path, found: Sequence[Found], what: str) -> Folders:
    """Read CLASS/FILE or INSTITUTION/CLASS/FILE.

    Args:
        folder: the source.
        found: its files.
        what: what they are, for errors.

    Raises:
        DataError: if folders name no classes.
    """
    level = _class_level(found)
    labels = sorted({one.within[level] for one in found if len(one.within) > level})
    if not 2 <= len(labels) <= _MOST_CLASSES:
        raise DataError(
            f"data.path={folder}: folders name {len(labels)} classes; expected CLASS/FILE or"
            f" INSTITUTION/CLASS/FILE with 2 to {_MOST_CLASSES} classes, or a table that names the"
            f" {what}."
        )
    return Folders(
        labels=labels,
        institutions=sorted({one.within[0] for one in found}) if level == 1 else [],
        subdivided=any(len(one.within) > level + 1 for one in found),
    )


def _class_level(found: Sequence[Found]) -> int:
    """Return 1 where the same folders are found in several others, as classes in institutions."""
    outer: defaultdict[str, set[str]] = defaultdict(set)
    for one in found:
        if len(one.within) > 1:
            outer[one.within[1]].add(one.within[0])
    return int(any(len(names) > 1 for names in outer.values()))


__all__ = ["LOOKED_AT", "Folders", "read_folders"]
