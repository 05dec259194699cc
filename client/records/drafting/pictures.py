"""A task drafted from a folder of pictures: its classes, by the names of folders."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from confide.client.records.drafting.draft import Draft
from confide.client.records.drafting.folders import LOOKED_AT, Folders, read_folders
from confide.client.records.drafting.values import PICTURE_SIZE
from confide.client.records.sources.files import Found, found_files
from confide.config.tasks.media.image_classification import ImageClassificationConfig
from confide.config.tasks.media.pictures import PictureReading
from confide.held import FILE, Held
from confide.pictures.findings import NOTES, PROBLEMS
from confide.pictures.opening import Pictures

# Of one channel: colour is then told, and grey is not
_READING = PictureReading(column="", channels=1)


def draft_pictures(folder: Path) -> Draft:
    """Draft a task from a folder of pictures.

    Args:
        folder: CLASS/FILE, or INSTITUTION/CLASS/FILE.

    Raises:
        DataError: if folders name no classes.
    """
    found = list(found_files(folder, _READING))
    folders = read_folders(folder, found, _READING.what)
    step = -(-len(found) // LOOKED_AT)
    looked = list(_looked(found[::step]))
    is_grey = not any("colour" in one.findings for one in looked)
    task = ImageClassificationConfig(
        labels=folders.labels, size=PICTURE_SIZE, channels=1 if is_grey else 3
    )
    return Draft(
        task=task,
        records=len(found),
        folders=len(folders.institutions),
        choices=list(_choices(folders, is_grey)),
        notes=[*folders.notes(), *_notes(looked)],
    )


def _looked(found: Sequence[Found]) -> Iterator[Held]:
    opened = Pictures(_READING)
    for one in found:
        yield opened.look(FILE, str(one.path))


def _choices(folders: Folders, is_grey: bool) -> Iterator[str]:
    yield (
        f"Pictures are resized to size: {PICTURE_SIZE}; a pretrained model (backbone=vision) may"
        " want size: null, for its own."
    )
    if is_grey:
        yield "All that were looked at are grey: channels: 1."
    yield from folders.choices()


def _notes(looked: Sequence[Held]) -> Iterator[str]:
    for name, meaning in {**PROBLEMS, **NOTES}.items():
        count = sum(name in one.findings for one in looked)
        if count and name != "colour":
            yield f"{count} of {len(looked)} pictures that were looked at {meaning}."


__all__ = ["draft_pictures"]
