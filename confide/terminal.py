"""What commands print to: consoles that take names as they are, and streams whose reader may leave.

Names of institutions, columns and labels come from records, others from the other side. A console
of rich would read ``[/3]`` in them as markup and ``:cat:`` as an emoji; a terminal obeys the
control characters in them, by which a name clears the screen or writes over the lines above; a
stream in ASCII would refuse what it cannot encode; and ``confide partition ... | head -2`` would
end the command before its files are written.
"""

import io
import re
import sys
from collections.abc import Iterable
from typing import IO, TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

# C0 and C1 but tab and end of line; what turns the direction of the text after it; other ends of
# lines; halves of characters. Joiners, which some scripts need, stay.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(text: str) -> str:
    r"""Return a text with what a terminal would obey, and not show, written as its escape.

    >>> print(plain("Mill\x1b[2J"))
    Mill\x1b[2J
    """
    return _OBEYED.sub(lambda found: ascii(found[0])[1:-1], text)


class PlainStream:
    """A terminal that texts of others are written to: it is sent what :func:`plain` makes of them.

    Args:
        terminal: the stream.
    """

    def __init__(self, terminal: IO[str]) -> None:
        self._terminal = terminal

    def write(self, text: str, /) -> int:
        """Write a text."""
        return self._terminal.write(plain(text))

    def writelines(self, texts: Iterable[str], /) -> None:
        """Write several."""
        for text in texts:
            self.write(text)


def make_console(
    *, stderr: bool = False, file: IO[str] | None = None, quiet: bool = False
) -> "Console":
    """Make a console that prints text as it is.

    Args:
        stderr: whether it prints there, and not to stdout.
        file: stream that it prints to instead.
        quiet: whether it prints nothing.
    """
    from rich.console import Console

    class PlainConsole(Console):
        def render(
            self, renderable: "RenderableType", options: "ConsoleOptions | None" = None
        ) -> "Iterable[Segment]":
            # Its own control codes come beside texts, and its styles after them
            for part in super().render(renderable, options):
                yield part if part.control else part._replace(text=plain(part.text))

    return PlainConsole(stderr=stderr, file=file, quiet=quiet, markup=False, emoji=False)


class _UntilGone(io.RawIOBase):
    """A stream of bytes that takes everything, also once its reader is gone.

    Args:
        raw: the stream.
    """

    def __init__(self, raw: io.FileIO) -> None:
        self._raw, self.is_gone = raw, False

    def writable(self) -> bool:
        """Say that it can be written to."""
        return True

    def fileno(self) -> int:
        """Return the number of its file."""
        return self._raw.fileno()

    def isatty(self) -> bool:
        """Say whether it is a terminal."""
        return self._raw.isatty()

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write; what nobody reads any more is dropped."""
        if not self.is_gone:
            try:
                return self._raw.write(data) or 0
            except BrokenPipeError:
                self.is_gone = True
        return len(memoryview(data).cast("B"))


def protect_streams() -> None:
    """Let this process print whatever happens to the readers of stdout and stderr."""
    sys.stdout, sys.stderr = _protected(sys.stdout), _protected(sys.stderr, by_line=True)


def _protected(stream: TextIO, *, by_line: bool = False) -> TextIO:
    try:
        raw = io.FileIO(stream.fileno(), "w", closefd=False)
    except (AttributeError, OSError, ValueError):  # none, or not a file: a notebook's, a test's
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_UntilGone(raw)),
        encoding=stream.encoding,
        # What a stream cannot encode is printed as \N{...} or \u....
        errors="backslashreplace" if stream.errors == "strict" else stream.errors,
        # A server's lines are read while it runs, also in a file.
        line_buffering=by_line or bool(stream.line_buffering),
    )


def is_reader_gone() -> bool:
    """Tell whether nobody reads stdout any more, so that going on would be for nothing."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return isinstance(raw, _UntilGone) and raw.is_gone


__all__ = ["PlainStream", "is_reader_gone", "make_console", "plain", "protect_streams"]
