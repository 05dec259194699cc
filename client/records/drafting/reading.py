"""Records read for a draft: all columns that a source has."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from confide.client.records.drafting.draft import Draft, Named, draft_task
from confide.client.records.drafting.roles import is_first_line_a_record
from confide.client.records.sources.by_client.folders import institution_in, layout_of, no_inputs
from confide.client.records.sources.files import is_folder_of_files, is_text_beside
from confide.client.records.sources.formats import EXTENSIONS
from confide.client.records.sources.reading import READ_AS_TEXT, Reading
from confide.client.records.sources.sources import (
    FILE_COLUMN,
    SourceRecords,
    load_records,
    shared_columns,
    source_file,
)
from confide.config.data import DataConfig
from confide.config.tasks.media.pictures import PictureReading
from confide.config.tasks.media.sounds import SoundReading
from confide.tasks.values import UnsupportedColumnError

_SOUNDS = SoundReading(column="", rate=16_000, seconds=1.0, text_column="text")


def draft_source(
    source: str,
    named: Named | None = None,
    *,
    query: str | None = None,
    reading: Reading = READ_AS_TEXT,
) -> Draft:
    """Read records and draft their task.

    Args:
        source: a file, a folder, ``pkg://PACKAGE/FILE`` or a database's URL.
        named: what is known of the columns.
        query: SQL query, for a database.
        reading: how they are read.

    Raises:
        DataError: if the records cannot be read, or hold nothing to learn.
    """
    place = source_file(source)
    if place is not None and place.is_dir() and layout_of(place) is None:
        tables = tuple(EXTENSIONS)
        if _holds_sounds(place) and is_folder_of_files(place, tables, _SOUNDS):
            from confide.client.records.drafting.sounds import draft_sounds

            return draft_sounds(place)
        if is_folder_of_files(place, tables, PictureReading(column="")):
            # Here: only who has pictures waits for Pillow
            from confide.client.records.drafting.pictures import draft_pictures

            return draft_pictures(place)
    names = shared_columns(source, query=query, reading=reading)
    if place is not None and place.is_dir():
        names = tuple(name for name in names if name not in no_inputs(place))
    named = named or Named()
    loaded, odd = _loaded(source, names, named, query, reading)
    records = loaded.records
    if FILE_COLUMN in records.column_names:
        records = records.remove_columns([FILE_COLUMN])
    if place is not None and place.is_dir():
        named = replace(named, institution=institution_in(place))
    draft = draft_task(records, named)
    notes = [*loaded.notes, *draft.notes]
    if is_first_line_a_record(names):
        notes.append(
            f"The columns are called {', '.join(names[:3])}, ...: is the first line a record? Then"
            " it is none now; write the names of the columns above it."
        )
    return replace(draft, notes=notes, left_out={**odd, **draft.left_out})


def _loaded(
    source: str, names: Sequence[str], named: Named, query: str | None, reading: Reading
) -> tuple[SourceRecords, dict[str, str]]:
    """Load the columns that can be read; of others, unless a person names them, say why not."""
    odd: dict[str, str] = {}
    while True:
        kept = [name for name in names if name not in odd]
        try:
            loaded = load_records(
                source, kept, in_memory_mb=DataConfig.in_memory_mb, query=query, reading=reading
            )
        except UnsupportedColumnError as error:
            if error.column in (named.label, named.identifier, named.text) or len(kept) == 1:
                raise
            odd[error.column] = f"holds values of type {error.kind}, which no schema reads"
        else:
            return loaded, odd


def _holds_sounds(folder: Path) -> bool:
    """Say whether most files are sounds: others beside them are then told as odd ones."""
    files = [
        path
        for path in folder.rglob("*")
        if path.is_file() and path.name[0] != "." and not is_text_beside(path, _SOUNDS)
    ]
    sounds = sum(path.suffix.lower() in SoundReading.suffixes for path in files)
    return 2 * sounds > len(files)


__all__ = ["draft_source"]
