"""The page of explanations: one file, no script, nothing loaded."""

from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import NamedTuple

from markupsafe import Markup

from confide.explaining.attribution import Attribution
from confide.explaining.case import Case, Unit
from confide.explaining.drawings import (
    MapPictures,
    Panel,
    curve_panel,
    dependence_panel,
    map_pictures,
)
from confide.explaining.explanation import WARNING, Explained, Explanations
from confide.explaining.sentences import (
    completeness,
    counterexample_sentence,
    piece_sentences,
    signed,
    told,
)
from confide.pages.page import style, templates_of
from confide.version import __version__

_BARS, _PANELS, _OUTPUTS = 12, 30, 4
_FAINT, _NUMBERED = 0.05, 0.15
"""Shares of the largest attribution from which on a token has a colour, and a number."""


class Bar(NamedTuple):
    """A row of a chart of bars.

    Attributes:
        name: of the unit.
        value: what the record has there.
        text: the number, with its sign.
        share: length, -100 to 100, of the longest.
        low: end of an interval, as such a share; None for none.
        high: the other end.
    """

    name: str
    value: str
    text: str
    share: float
    low: float | None = None
    high: float | None = None


class Word(NamedTuple):
    """A token.

    Attributes:
        text: of it.
        number: its attribution with a sign; "" where it is nearly nothing.
        side: for, against or none.
        strength: 0 to 1.
        joined: whether it goes on the word before it.
    """

    text: str
    number: str
    side: str
    strength: float
    joined: bool


class Heat(NamedTuple):
    """What was written by what was given.

    Attributes:
        columns: units, from left to right.
        rows: pieces, from top to bottom: text, what the record adds to it, a cell a unit.
        total: a cell a unit, of all pieces together.
        what: what a unit is.
    """

    columns: Sequence[str]
    rows: Sequence[tuple[str, str, Sequence[Word]]]
    total: Sequence[Word]
    what: str


class RecordView(NamedTuple):
    """One record on the page; what its layout does not have is empty."""

    heading: str
    score: str
    bars: Sequence[Bar]
    more: Sequence[Bar]
    words: Sequence[Word]
    heat: Heat | None
    pieces: Sequence[str]
    pictures: MapPictures | None
    axes: str
    complete: str
    is_complete: bool
    counterexample: str
    changes: Sequence[tuple[str, str, str]]


def page_of(made: Explanations) -> str:
    """Write the page."""
    units = list(dict.fromkeys(it.target.unit for it in made.records))
    return (
        templates_of("confide.explaining")
        .get_template("explain.html.j2")
        .render(
            made=made,
            records=[_record(one, made, is_one=len(units) == 1) for one in made.records],
            units=units,
            adds_up=all(it.attribution is None or it.attribution.adds_up for it in made.records),
            importance=_importance(made),
            importance_of="" if made.importance is None else _importance_title(made),
            dependence=[
                dependence_panel(it, made.dependence_on) for it in made.dependence[:_PANELS]
            ],
            curves=list(_curves(made)),
            left_out=_left_out(made),
            warning=WARNING,
            style=style() + _own_style(),
            version=__version__,
        )
    )


def _own_style() -> Markup:
    return Markup((files("confide.explaining") / "templates" / "explain.css").read_text())


def _record(one: Explained, made: Explanations, *, is_one: bool) -> RecordView:
    found, case, layout = one.attribution, one.case, made.layout
    bars: list[Bar] = []
    words: list[Word] = []
    heat, pieces = None, list[str]()
    pictures, axes, complete = None, "", ""
    if found is not None and case is not None:
        complete = completeness(found)
        bars = list(_bars(case.units, found.values.tolist()))
        if layout == "words":
            words, bars = list(_words(case, found)), []
        if found.pieces is not None:
            heat, pieces = _heat(one, made.what), list(piece_sentences(one, found))
            bars = []
        if case.canvas is not None:
            entries = found.entries
            if entries is None:
                assert case.groups is not None
                entries = found.values[case.groups]
            pictures = map_pictures(case.canvas.picture, case.canvas.map_fn(entries))
            axes = f"{case.canvas.rows}, {case.canvas.columns}."
    changes = one.counterexample.changes if one.counterexample is not None else ()
    place = f"Record {one.number}" + (f", {one.place}" if one.place else "")
    return RecordView(
        heading=f"{place}: predicted {one.target.prediction}",
        score=_score(one, is_one=is_one),
        bars=bars[:_BARS],
        more=bars[_BARS:] if layout == "bars" else [],
        words=words,
        heat=heat,
        pieces=pieces,
        pictures=pictures,
        axes=axes,
        complete=complete,
        is_complete=found is None or found.is_complete or not found.adds_up,
        counterexample=counterexample_sentence(one) if one.goal else "",
        changes=[(it.column, it.before, it.after) for it in changes],
    )


def _score(one: Explained, *, is_one: bool) -> str:
    """Say what is shown of a record, and what its numbers add to unless all add to the same."""
    text = f"The {one.target.shown} is {told(one.shown)}"
    if one.baseline_shown is not None:
        text += f", that of the baseline {told(one.baseline_shown)}"
    return f"{text}." if is_one else f"{text}. Numbers below add to {one.target.unit}."


def _bars(units: Sequence[Unit], values: Sequence[float]) -> Iterator[Bar]:
    largest = max((abs(value) for value in values), default=0.0) or 1.0
    for place in sorted(range(len(values)), key=lambda it: -abs(values[it])):
        unit, value = units[place], values[place]
        yield Bar(unit.name, unit.value, signed(value), 100 * value / largest)


def _words(case: Case, found: Attribution) -> Iterator[Word]:
    values = found.values.tolist()
    largest = max((abs(value) for value in values), default=0.0) or 1.0
    for unit, value, joined in zip(case.units, values, case.joined, strict=True):
        yield _word(unit.name, value / largest, value, joined=joined)


def _word(text: str, share: float, value: float, *, joined: bool = False) -> Word:
    strength = abs(share)
    side = "none" if strength < _FAINT else "for" if share > 0 else "against"
    number = "" if strength < _NUMBERED else signed(float(f"{value:.2g}"))
    return Word(text, number, side, round(strength, 2), joined)


def _heat(one: Explained, what: str) -> Heat:
    assert one.attribution is not None
    assert one.attribution.pieces is not None
    assert one.case is not None
    found = one.attribution.pieces
    largest = float(found.values.abs().max()) or 1.0
    of_all = float(one.attribution.values.abs().max()) or 1.0
    gained = found.differences.tolist()
    return Heat(
        columns=[str(unit) for unit in one.case.units],
        rows=[
            (text, signed(round(by, 2)), [_word("", it / largest, it) for it in row])
            for text, by, row in zip(one.target.pieces, gained, found.values.tolist(), strict=True)
        ],
        total=[_word("", it / of_all, it) for it in one.attribution.values.tolist()],
        what=what,
    )


def _importance(made: Explanations) -> list[Bar]:
    if made.importance is None:
        return []
    columns = made.importance.columns
    largest = max((max(abs(it.low), abs(it.high)) for it in columns), default=0.0) or 1.0
    return [
        Bar(
            it.column,
            f"{signed(it.low)} to {signed(it.high)}",
            signed(it.loss),
            100 * it.loss / largest,
            100 * it.low / largest,
            100 * it.high / largest,
        )
        for it in columns
    ]


def _importance_title(made: Explanations) -> str:
    assert made.importance is not None
    it = made.importance
    return f"{it.metric} is {it.value:.3f} on {it.records} labelled records."


def _curves(made: Explanations) -> Iterator[Panel]:
    if made.curves is None or len(made.curves["outputs"]) > _OUTPUTS:
        return
    columns = made.curves["columns"]

    def reach(name: str) -> float:
        return float(max(max(one) - min(one) for one in columns[name]["y"]))

    for name in sorted(columns, key=lambda it: -reach(it))[:_PANELS]:
        is_whole = name in made.whole
        yield curve_panel(name, columns[name], made.curves["outputs"], is_whole=is_whole)


def _left_out(made: Explanations) -> str:
    """Say that there are more columns than are drawn; "" where all are."""
    count = max(len(made.dependence), 0 if made.curves is None else len(made.curves["columns"]))
    if count <= _PANELS:
        return ""
    return f"{_PANELS} of {count} columns are drawn, those that move it furthest; JSON has all."


__all__ = ["page_of"]
