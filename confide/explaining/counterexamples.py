"""The nearest row for which a model decides otherwise: few columns changed, and little.

Counterfactual explanations as Wachter, Mittelstadt, Russell (Harvard JOLT 2018, arXiv 1711.00399)
define them, by a search that needs predictions alone, so that it holds for every model. What is
nearest: the fewest columns changed and, among those, the least sum of changes in units of columns'
public ranges, a category counting as one.

First all values of a grid of one column each are tried, then of two, then of three. What decides
otherwise is then moved back towards the row, by halving, to the last value that still does. So
fewest is among the values of the grid, and least where the model is monotone between two of them.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from confide.config.tasks.columns import ColumnConfig
from confide.explaining.rows import Rows, plain
from confide.tasks.reading import number_of

MOST_COLUMNS = 3
"""Columns that are changed together, at most."""
_GRID = 33
_TRIED = 120_000
"""Rows that are tried for one number of changed columns, at most."""
_REFINED = 48
"""Of the rows that decide otherwise, how many are moved back."""
_FINE = 1000
"""Steps of a column's range that values are rounded to, about."""
_NARROWED = {1: 1000, 2: 24, 3: 10}
"""Columns changed together -> columns that are looked at, those that move the decision furthest."""

ReachedFn = Callable[[Tensor], Tensor]
"""Outputs [b, ...] -> whether that is what is wanted, bool [b]."""
NearFn = Callable[[Tensor], Tensor]
"""Outputs [b, ...] -> how near that is to what is wanted, larger is nearer, [b]."""


class Change(NamedTuple):
    """One column's change.

    Attributes:
        column: its name.
        before: value of the row.
        after: value of the counter-example.
    """

    column: str
    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class Counterexample:
    """A row that decides otherwise.

    Attributes:
        changes: what differs from the row; () if there is none within bounds.
        distance: sum of the changes in units of ranges.
        tried: rows that were predicted to find it.
        outputs: of the model for it, predicted anew, [1, ...]; None where there is none.
    """

    changes: Sequence[Change]
    distance: float
    tried: int
    outputs: Tensor | None


@dataclass(frozen=True, kw_only=True)
class Search:
    """What may be changed, and what for.

    Attributes:
        rows: the model.
        columns: names of the columns that may change.
        whole: names of those whose values are whole numbers.
        reached_fn: whether outputs are what is wanted.
        near_fn: how near they are to that.
    """

    rows: Rows
    columns: Sequence[str]
    whole: frozenset[str]
    reached_fn: ReachedFn
    near_fn: NearFn


class _Values(NamedTuple):
    """Values that a column may take, as text, and how far each is from the row's."""

    texts: list[str]
    costs: list[float]


@dataclass
class _Found:
    """A row that decides otherwise: column -> value, and its distance."""

    values: dict[str, str]
    distance: float


def nearest_counterexample(
    search: Search, row: Mapping[str, str | None], *, most: int = MOST_COLUMNS
) -> Counterexample:
    """Find the nearest row that decides otherwise.

    Args:
        search: what may be changed, and what for.
        row: column -> value, as text; columns that are no inputs stay as they are.
        most: columns that may be changed together.
    """
    finder = _Finder(search, row)
    for count in range(1, min(most, len(search.columns)) + 1):
        found = finder.of_columns(count)
        if found is not None:
            outputs = finder.outputs([found.values])
            changes = [
                Change(name, search.rows.shown(name, row[name]), value)
                for name, value in found.values.items()
            ]
            return Counterexample(
                changes=changes, distance=found.distance, tried=finder.tried, outputs=outputs
            )
    return Counterexample(changes=(), distance=math.inf, tried=finder.tried, outputs=None)


class _Finder:
    """Looks around one row."""

    def __init__(self, search: Search, row: Mapping[str, str | None]) -> None:
        self._search, self._row, self.tried = search, row, 0
        self._values = {name: self._values_of(name) for name in search.columns}
        self._reach = dict.fromkeys(search.columns, -math.inf)

    def outputs(self, changed: Sequence[Mapping[str, str]]) -> Tensor:
        """Return outputs of the row with some columns changed, of each of several changes."""
        self.tried += len(changed)
        columns = {
            name: [one.get(name, value) for one in changed] for name, value in self._row.items()
        }
        return self._search.rows.outputs(columns)

    def of_columns(self, count: int) -> _Found | None:
        """Return the nearest with so many columns changed; None where there is none."""
        kept = sorted(self._values, key=lambda name: -self._reach[name])[: _NARROWED[count]]
        names = [name for name in self._values if name in kept and self._values[name].texts]
        groups = list(itertools.combinations(names, count))
        grids = self._thinned(groups)
        hits: list[_Found] = []
        batch: list[_Found] = []
        for group in groups:
            for values in itertools.product(*(grids[name] for name in group)):
                texts = {name: text for name, (text, _) in zip(group, values, strict=True)}
                batch.append(_Found(texts, sum(cost for _, cost in values)))
            if len(batch) >= _TRIED // 4:
                hits += self._hits(batch, count)
                batch = []
        hits += self._hits(batch, count)
        hits.sort(key=lambda it: it.distance)
        refined = self._moved_back(hits[:_REFINED])
        return min(refined, key=lambda it: it.distance) if refined else None

    def _thinned(self, groups: Sequence[Sequence[str]]) -> dict[str, list[tuple[str, float]]]:
        """Return values of each column, so few that all groups together are not too many."""
        whole = {
            name: list(zip(values.texts, values.costs, strict=True))
            for name, values in self._values.items()
        }
        for most in (10_000, _GRID, 17, 11, 7, 5, 3):
            grids = {name: _evenly(values, most) for name, values in whole.items()}
            if sum(math.prod(len(grids[name]) for name in group) for group in groups) <= _TRIED:
                break
        return grids

    def _hits(self, batch: Sequence[_Found], count: int) -> list[_Found]:
        if not batch:
            return []
        outputs = self.outputs([one.values for one in batch])
        if count == 1:
            for one, near in zip(batch, self._search.near_fn(outputs).tolist(), strict=True):
                (name,) = one.values
                self._reach[name] = max(self._reach[name], near)
        reached = self._search.reached_fn(outputs).tolist()
        return [one for one, it in zip(batch, reached, strict=True) if it]

    def _moved_back(self, hits: Sequence[_Found]) -> list[_Found]:
        """Move numbers of rows that decide otherwise towards the row, in both orders of columns."""
        made: list[_Found] = []
        for backwards in (False, True):
            moved = [_Found(dict(one.values), one.distance) for one in hits]
            most = max((len(one.values) for one in hits), default=0)
            for turn in reversed(range(most)) if backwards else range(most):
                self._halve(moved, turn)
            made += moved
        return made

    def _halve(self, moved: Sequence[_Found], turn: int) -> None:
        """Move one number of each row back, to the last step that still decides otherwise."""
        todo = []
        for one in moved:
            name = list(one.values)[turn]
            start = self._start(name)
            if start is not None:
                step = self._step(name)
                first, last = round(start / step), round(number_of(one.values[name]) / step)
                todo.append((one, name, step, [first, last]))
        # The near end decides as the row did, or is not tried; the far end decides otherwise
        while open_ends := [it for it in todo if abs(it[3][1] - it[3][0]) > 1]:
            trials = []
            for one, name, step, ends in open_ends:
                trials.append({**one.values, name: _written((ends[0] + ends[1]) // 2, step)})
            reached = self._search.reached_fn(self.outputs(trials)).tolist()
            for (_, _, _, ends), it in zip(open_ends, reached, strict=True):
                ends[1 if it else 0] = (ends[0] + ends[1]) // 2
        for one, name, step, ends in todo:
            text = _written(ends[1], step)
            one.distance += self._cost(name, text) - self._cost(name, one.values[name])
            one.values[name] = text

    def _values_of(self, name: str) -> _Values:
        column = self._search.rows.schema[name]
        is_numeric = column.kind == "numeric"
        texts = self._numbers(name, column) if is_numeric else list(column.categories)
        own = self._row[name]
        own_text = self._search.rows.shown(name, own)
        others = [text for text in texts if text != own_text and self._cost(name, text) > 0]
        return _Values(others, [self._cost(name, text) for text in others])

    def _numbers(self, name: str, column: ColumnConfig) -> list[str]:
        assert column.minimum is not None
        assert column.maximum is not None
        step = self._step(name)
        low, high = math.ceil(column.minimum / step), math.floor(column.maximum / step)
        places = {round(low + (high - low) * part / (_GRID - 1)) for part in range(_GRID)}
        inner = {min(max(round(edge / step), low), high) for edge in column.edges}
        return [_written(place, step) for place in sorted(places | inner)]

    def _start(self, name: str) -> float | None:
        """Return the row's own number; None for categories, and where it is missing."""
        if self._search.rows.schema[name].kind != "numeric":
            return None
        return self._search.rows.number(name, self._row[name])

    def _step(self, name: str) -> float:
        column = self._search.rows.schema[name]
        assert column.minimum is not None
        assert column.maximum is not None
        step = 10.0 ** math.floor(math.log10((column.maximum - column.minimum) / _FINE))
        return max(step, 1.0) if name in self._search.whole else step

    def _cost(self, name: str, text: str) -> float:
        """Return how far a value is from the row's, in units of the range."""
        column, start = self._search.rows.schema[name], self._start(name)
        if start is None:
            return float(text != self._search.rows.shown(name, self._row[name]))
        assert column.minimum is not None
        assert column.maximum is not None
        return abs(number_of(text) - start) / (column.maximum - column.minimum)


def _evenly(values: list[tuple[str, float]], most: int) -> list[tuple[str, float]]:
    """Return at most so many of some values, the first and the last among them."""
    if len(values) <= most:
        return values
    return [values[round(place * (len(values) - 1) / (most - 1))] for place in range(most)]


def _written(place: int, step: float) -> str:
    """Return a multiple of a step as text, without digits that the step does not have."""
    digits = max(0, -math.floor(math.log10(step)))
    return plain(round(place * step, digits))


def whole_columns(rows: Rows, columns: Mapping[str, Sequence[str | None]]) -> frozenset[str]:
    """Name numeric columns all of whose values, and both ends of the range, are whole numbers.

    Args:
        rows: the model.
        columns: of records, as text.
    """
    found = []
    for name, column in rows.schema.items():
        if column.kind != "numeric":
            continue
        numbers = [rows.number(name, value) for value in set(columns[name])]
        ends = [column.minimum, column.maximum]
        if all(number is None or float(number).is_integer() for number in [*numbers, *ends]):
            found.append(name)
    return frozenset(found)


__all__ = [
    "MOST_COLUMNS",
    "Change",
    "Counterexample",
    "Search",
    "nearest_counterexample",
    "whole_columns",
]
