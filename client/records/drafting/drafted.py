"""A drafted task, and what people say of the columns that it is drafted from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from confide.config.tasks.task import TaskConfig


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A drafted task.

    Attributes:
        task: the schema, with ``task.drafted``.
        records: number of records that it was drafted from.
        left_out: column -> why it is no input.
        choices: sentences on what was chosen; without counts, since a draft may travel.
        notes: sentences that the records' owner should read.
        remarks: input column -> what to look at in it.
        id_column: column that names a record.
        group_column: column that names a record's owner.
        owners: number of its values.
        institution: column that names the institution, with the number of its values.
        folders: number of folders that are institutions, 0 for none, in a folder of pictures; None
            for any other source.
    """

    task: TaskConfig
    records: int
    left_out: Mapping[str, str] = field(default_factory=dict)
    choices: Sequence[str] = ()
    notes: Sequence[str] = ()
    remarks: Mapping[str, str] = field(default_factory=dict)
    id_column: str | None = None
    group_column: str | None = None
    owners: int = 0
    institution: tuple[str, int] | None = None
    folders: int | None = None


@dataclass(frozen=True, kw_only=True)
class Named:
    """What a person says of the columns; None where the draft is to find out.

    Attributes:
        label: the label.
        identifier: the id of a record.
        text: the text to classify.
        institution: the institution, where the records' layout says it.
    """

    label: str | None = None
    identifier: str | None = None
    text: str | None = None
    institution: str | None = None


__all__ = ["Draft", "Named"]
