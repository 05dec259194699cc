"""A task drafted from a folder of pictures: its classes, by the names of folders."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from confide.client.records.drafting.draft import Draft
from confide.client.records.sources.files import Found, found_files
from confide.config.tasks.media.image_classification import ImageClassificationConfig
from confide.config.tasks.media.pictures import PictureReading
from confide.errors import DataError
from confide.held import FILE, Held
from confide.pictures.findings import NOTES, PROBLEMS
from confide.pictures.opening import Pictures

# Of one channel: colour is then told, and grey is not
_READING = PictureReading(column="", channels=1)
_SIZE = 64
_LOOKED_AT = 500
_MOST_CLASSES = 100


def draft_pictures(folder: Path) -> Draft:
    """Draft a task from a folder of pictures.

    Args:
        folder: CLASS/FILE, or INSTITUTION/CLASS/FILE.

    Raises:
        DataError: if folders name no classes.
    """
    found = list(found_files(folder, _READING))
    level = _class_level(found)
    labels = sorted({one.within[level] for one in found if len(one.within) > level})
    if not 2 <= len(labels) <= _MOST_CLASSES:
        raise DataError(
            f"data.path={folder}: folders name {len(labels)} classes; expected CLASS/FILE or"
            f" INSTITUTION/CLASS/FILE with 2 to {_MOST_CLASSES} classes, or a table that names the"
            " pictures."
        )
    step = -(-len(found) // _LOOKED_AT)
    looked = list(_looked(found[::step]))
    is_grey = not any("colour" in one.findings for one in looked)
    task = ImageClassificationConfig(labels=labels, size=_SIZE, channels=1 if is_grey else 3)
    names = sorted({one.within[0] for one in found}) if level == 1 else []
    return Draft(
        task=task,
        records=len(found),
        folders=len(names),
        choices=list(_choices(found, level, is_grey)),
        notes=[
            *(
                [f"Folders name {len(names)} institutions: {', '.join(names[:5])}."]
                if names
                else []
            ),
            *_notes(looked),
        ],
    )


def _class_level(found: Sequence[Found]) -> int:
    """Return 1 where the same folders are found in several others, as classes in institutions."""
    outer: defaultdict[str, set[str]] = defaultdict(set)
    for one in found:
        if len(one.within) > 1:
            outer[one.within[1]].add(one.within[0])
    return int(any(len(names) > 1 for names in outer.values()))


def _looked(found: Sequence[Found]) -> Iterator[Held]:
    opened = Pictures(_READING)
    for one in found:
        yield opened.look(FILE, str(one.path))


def _choices(found: Sequence[Found], level: int, is_grey: bool) -> Iterator[str]:
    yield (
        f"Pictures are resized to size: {_SIZE}; a pretrained model (backbone=vision) may want"
        " size: null, for its own."
    )
    if is_grey:
        yield "All that were looked at are grey: channels: 1."
    if any(len(one.within) > level + 1 for one in found):
        yield (
            "Folders within classes are values of column folder: data.group_column=folder, if each"
            " is a patient."
        )


def _notes(looked: Sequence[Held]) -> Iterator[str]:
    for name, meaning in {**PROBLEMS, **NOTES}.items():
        count = sum(name in one.findings for one in looked)
        if count and name != "colour":
            yield f"{count} of {len(looked)} pictures that were looked at {meaning}."


__all__ = ["draft_pictures"]
