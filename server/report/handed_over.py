"""A run as it is handed to others: institutions by number, and no path of the machine."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from confide.server.report.read import RunFiles


def handed_over(run: RunFiles, *, named: bool) -> RunFiles:
    """Return a run without what is nobody's business who gets its model.

    Args:
        run: as its files have it.
        named: whether institutions keep their names.
    """
    summary = {**run.summary, "data": _data(run.summary.get("data", {}), named=named)}
    if named:
        return replace(run, summary=summary)
    names = _names(run)
    renamed = _renamed(summary, names)
    if run.many:  # of so many the summary names the first and the last
        ends = {place: names[run.many[place]] for place in ("first", "last")}
        renamed = {**renamed, "institutions": {**renamed["institutions"], **ends}}
    shown = replace(run, summary=renamed)
    if run.many:  # rows are read from a file beside the summary
        vars(shown)["rows"] = run.rows.rename(index=names)
    return shown


def _data(data: Mapping[str, Any], *, named: bool) -> dict[str, Any]:
    """Return where records came from: of a file its name, and notes, which may quote names."""
    told = dict(data)
    path = str(told.get("path", ""))
    if path and "://" not in path:
        told["path"] = PurePath(path).name
    if not named:
        told.pop("notes", None)
    return told


def _names(run: RunFiles) -> dict[str, str]:
    """Return what each institution is called instead."""
    known = list(run.rows.index) if run.many else [*run.clients]
    failed = [name for told in run.summary.get("failures", {}).values() for name in told]
    others = dict.fromkeys([*run.summary.get("withdrawn", {}), *failed])
    known += [name for name in others if name not in known]
    return {name: f"institution {place}" for place, name in enumerate(known, start=1)}


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """Return JSON in which keys and lists that are names of institutions are others.

    Whose keys are not all names is no list of institutions: one that is called as a metric, or as a
    part of the summary, renames neither. Nor is a word that stands alone, such as the unit of
    privacy, which is "none" without one, as an institution may be called.
    """
    if isinstance(value, Mapping):
        own = names if value.keys() <= names.keys() else {}
        return {own.get(key, key): _renamed(one, names) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [
            names.get(one, one) if isinstance(one, str) else _renamed(one, names) for one in value
        ]
    return value


__all__ = ["handed_over"]
