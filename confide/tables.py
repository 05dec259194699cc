"""Tables on a terminal, of every command: no name, number or hash is broken in the middle.

A cell breaks between words, and a very long word after the signs of a path or a fingerprint. Where
a terminal is too narrow for that, each row becomes a paragraph, or a line, of its own. What is not
a terminal has no width: there a table is as wide as its words need, the very long ones whole, and
wider up to what most screens show.
"""

import copy
import os
import re
from collections.abc import Callable, Collection, Iterable, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table as RichTable
from rich.text import Text

from confide.terminal import make_console

TIED = "\u00a0"
"""A space at which no line is broken, between a name and what belongs to it."""
_LONG, _WIDE = 24, 120
# What a word of more than _LONG characters may be broken after
_SEAMS = re.compile(r"(?<=[^\s/:][/,:.=?&;])(?=[^\s/])")


class Table:
    """A table of plain text.

    Args:
        headers: one a column; a line break in one is kept in a table.
        numbers: headers of the columns of numbers: at the right, and never broken.
        title: line above it.
        line_fn: cells of a row -> the line that it becomes on a narrow terminal, in place of a
            paragraph; for tables with many short rows.
    """

    def __init__(
        self,
        *headers: str,
        numbers: Collection[str] = (),
        title: str = "",
        line_fn: Callable[[Sequence[str]], str] | None = None,
    ) -> None:
        self.title = title
        self._line_fn = line_fn
        self._headers = headers
        self._is_number = [header in numbers for header in headers]
        self._rows: list[tuple[tuple[str, ...], str]] = []
        self._is_bounded = True

    @property
    def row_count(self) -> int:
        """Number of rows."""
        return len(self._rows)

    def add_row(self, *cells: str, style: str = "") -> None:
        """Add a row; cells that are missing at its end are empty."""
        self._rows.append((cells + ("",) * (len(self._headers) - len(cells)), style))

    def show(self, console: Console | None = None) -> None:
        """Print it: in a pipe as wide as its words, and not in the 80 columns that rich assumes."""
        console, shown = console or make_console(), copy.copy(self)
        shown._is_bounded = console.is_terminal or "COLUMNS" in os.environ
        console.print(shown, crop=False, highlight=False)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render as a table if no word has to be broken, else as paragraphs or lines."""
        lines = [self._headers, *(cells for cells, _ in self._rows)]
        columns = list(zip(*lines, strict=True))
        natural = [max(map(_width, column)) for column in columns]
        longest = _longest_piece if self._is_bounded else _longest_word
        needed = [
            wide if is_number else max(map(longest, column))
            for column, wide, is_number in zip(columns, natural, self._is_number, strict=True)
        ]
        frame = 3 * len(columns) + 1
        room = options.max_width - frame
        if not self._is_bounded:
            room = max(room, sum(needed), min(sum(natural), _WIDE - frame))
        if sum(needed) > room:
            yield from self._paragraphs(options.max_width)
            return
        table = self._table(_share(room, needed, natural))
        yield from console.render(table, options.update(width=room + frame))

    def _table(self, widths: Sequence[int]) -> RichTable:
        is_headed = any(self._headers)
        table = RichTable(
            title=Text(self.title) if self.title else None,
            title_justify="left",
            title_style="bold",
            show_header=is_headed,
            box=box.HEAVY_HEAD if is_headed else box.SQUARE,
        )
        for header, width, is_number in zip(self._headers, widths, self._is_number, strict=True):
            table.add_column(
                Text(_broken(header, width)),
                justify="right" if is_number else "left",
                width=width,
                no_wrap=True,
            )
        for cells, style in self._rows:
            texts = (Text(_broken(cell, width)) for cell, width in zip(cells, widths, strict=True))
            table.add_row(*texts, style=style or None)
        return table

    def _paragraphs(self, width: int) -> Iterable[Text]:
        if self.title:
            yield Text(self.title, style="bold")
        if self._line_fn is not None:
            for cells, style in self._rows:
                first, *rest = _broken(self._line_fn(cells), max(1, width - 2)).split("\n")
                text = "\n".join([first, *(f"  {line}" for line in rest)])
                yield Text(text, style=style, overflow="fold")
            yield Text()
            return
        names = [_one_line(header) for header in self._headers]
        indent = max(map(cell_len, names)) + 2
        for cells, style in self._rows:
            for name, cell in zip(names, cells, strict=True):
                if not cell:
                    continue
                first, *rest = _broken(_one_line(cell), max(1, width - indent)).split("\n")
                gap = " " * (indent - cell_len(name))
                text = "\n".join([f"{name}{gap}{first}", *(" " * indent + line for line in rest)])
                yield Text(text, style=style, overflow="fold")
            yield Text()


def _share(room: int, needed: Sequence[int], natural: Sequence[int]) -> list[int]:
    """Give columns their natural width, the narrow ones first, and the wide ones equal shares."""
    widths = list(needed)
    spare = room - sum(needed)
    order = sorted(range(len(widths)), key=natural.__getitem__)
    for place, column in enumerate(order):
        rest = order[place:]
        # What each of those that are left would have if they were all equally wide
        fair = (spare + sum(needed[other] for other in rest)) // len(rest)
        more = max(0, min(natural[column], fair) - needed[column])
        widths[column] += min(more, spare)
        spare -= min(more, spare)
    return widths


def _pieces(line: str) -> list[str]:
    """Split a line where it may be broken; each piece ends with its space, if there is one."""
    words = re.findall(r"[^ ]* |[^ ]+", line)
    return [
        piece
        for word in words
        for piece in (_SEAMS.split(word) if cell_len(word.rstrip()) > _LONG else [word])
    ]


def _width(cell: str) -> int:
    return max((cell_len(line) for line in cell.split("\n")), default=0)


def _longest_piece(cell: str) -> int:
    pieces = (piece for line in cell.split("\n") for piece in _pieces(line))
    return max((cell_len(piece.rstrip(" ")) for piece in pieces), default=0)


def _longest_word(cell: str) -> int:
    return max(map(cell_len, re.split(r"[ \n]", cell)))


def _broken(cell: str, width: int) -> str:
    """Break a cell into lines of at most a width, as far as its pieces allow."""
    lines = []
    for whole in cell.split("\n"):
        line = ""
        for piece in _pieces(whole):
            if line and cell_len(line) + cell_len(piece.rstrip(" ")) > width:
                lines.append(line.rstrip(" "))
                line = ""
            line += piece
        lines.append(line.rstrip(" "))
    return "\n".join(lines).replace(TIED, " ")


def _one_line(text: str) -> str:
    return text.replace(".\n", ".").replace("\n", " ")


__all__ = ["TIED", "Table"]
