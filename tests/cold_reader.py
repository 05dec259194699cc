"""A reader who knows nothing.

Finds the commands of a page, runs each, and holds what it prints against what the page shows.

A fenced block is one of

- commands, each line beginning with a program's name; a line that ends in a backslash goes on;
- commands behind ``$ ``, each followed by what it prints;
- what one of the commands in the block of commands above it prints;
- Python, if the fence says so, and then it is run;
- a file or code in another language, and then it is left alone.

``...`` in what is shown stands for any lines. What is not the same twice (seconds, dates, paths,
names of jobs, process numbers, fingerprints, hashes of models) may differ: hashes are held against
another run on the same machine, elsewhere. Scores depend on the processor's last bits: a figure
between 0 and 2 with at least three decimals may be off by what two test records make, those of the
line, or of an institution in its row, or 166; macro F1, where a record of a rare label weighs more,
by three times as much, log loss by 0.02. All else is compared to the letter, epsilon too. A comment
``<!-- reader: WORDS -->`` on the line before a block says how it is run instead.
"""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

PROGRAMS = ("cat ", "confide ", "head ", "make ", "python ")
GAP = "..."
_FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NOTE = re.compile(r"<!-- reader: ([^\n]+?) -->\n\Z")
_VARYING = (
    (re.compile(r"\d{4}-\d\d-\d\d[ /T]\d\d[:-]\d\d[:-]\d\d"), "DATE"),
    (re.compile(r"(?<![\w.])/[^\s,;'\"]+"), "PATH"),
    (re.compile(r"\b\d+(\.\d+)? s\b"), "N s"),
    (re.compile(r"\b\d\d:\d\d(:\d\d)?\b"), "TIME"),
    (re.compile(r"\b[\w%]+-[0-9a-f]{6,8}\b"), "JOB"),
    (re.compile(r"\bprocess \d+"), "process N"),
    (re.compile(r"\bSHA256:\S+|\b([0-9A-F]{2}:){4,}[0-9A-F.]*"), "FINGERPRINT"),
    (re.compile(r"\b[0-9a-f]{12}\b"), "HASH"),
)
# Epsilon and other settings have two decimals, or more than 2 before the point.
_SCORE = re.compile(r"(log_loss |macro_f1 )?(?<![\w.])([01]\.\d{3,})(?![\w]|\.\d)")
_POOLED = re.compile(r"(\d+) pooled test records")
_INSTITUTION_ROW = re.compile(r"│ [^│]+│ +(\d+) │")
_TEST_SHARE = 0.15
_FEWEST = 166
"""Test records of a line that tells no number: those of the smaller experiment."""
_ROUNDING = 1e-3
"""Of two figures with three decimals."""


@dataclass
class Command:
    """One command of a page.

    Attributes:
        text: for a shell.
        shown: what the page says it prints; empty if it says nothing.
    """

    text: str
    shown: list[str] = field(default_factory=list)


@dataclass
class Block:
    """Commands that stand together.

    Attributes:
        line: of the page, where it begins.
        commands: in order.
        note: how it is run instead; '' for as it stands.
        printed: what one of its commands prints.
    """

    line: int
    commands: list[Command]
    note: str = ""
    printed: list[str] = field(default_factory=list)


def blocks(page: str) -> list[Block]:
    """Find the blocks of commands of a page.

    Raises:
        ValueError: if a block is neither commands nor what one of them prints.
    """
    found: list[Block] = []
    for fence in _FENCE.finditer(page):
        language, lines = fence.group(1), fence.group(2).splitlines()
        line, note = page.count("\n", 0, fence.start()) + 1, _NOTE.search(page[: fence.start()])
        if language and language != "python":
            continue
        commands = [_script(lines)] if language else _found(lines)
        if commands:
            found.append(Block(line, commands, note.group(1) if note else ""))
        elif not found or found[-1].printed:
            raise ValueError(
                f"line {line}: neither commands nor what a block of commands above it prints"
            )
        else:
            found[-1].printed = lines
    return found


def _script(lines: list[str]) -> Command:
    return Command("\n".join(["python - <<'END'", *lines, "END"]))


def _found(lines: list[str]) -> list[Command]:
    return list(_session(lines) if any(map(_is_prompt, lines)) else _commands(lines))


def _is_prompt(line: str) -> bool:
    return line.startswith("$ ")


def _joined(lines: list[str]) -> Iterator[list[str]]:
    """Group each line with those that it goes on in."""
    group: list[str] = []
    for line in lines:
        group.append(line)
        if not line.endswith("\\"):
            yield group
            group = []


def _session(lines: list[str]) -> Iterator[Command]:
    command: Command | None = None
    for group in _joined(lines):
        if _is_prompt(group[0]):
            if command is not None:
                yield command
            command = Command("\n".join(group).removeprefix("$ "))
        elif command is not None:
            command.shown += group
    if command is not None:
        yield command


def _commands(lines: list[str]) -> Iterator[Command]:
    groups = [group for group in _joined(lines) if group[0].strip()]
    if all(group[0].startswith(PROGRAMS) for group in groups):
        yield from (Command("\n".join(group)) for group in groups)


def difference(shown: list[str], printed: str) -> str:
    """Say what is shown and was not printed; '' if all of it was, in that order."""
    actual = [_normal(line) for line in printed.splitlines()]
    at = 0
    for part in _parts(shown):
        starts = range(at, len(actual) - len(part) + 1)
        start = next((n for n in starts if all(map(_agree, part, actual[n:]))), None)
        if start is None:
            return "\n".join(["these lines are shown and were not printed:", *part])
        at = start + len(part)
    return ""


def _agree(shown: str, printed: str) -> bool:
    """Whether two lines are equal, apart from scores that are near each other."""
    if _SCORE.sub(r"\1SCORE", shown) != _SCORE.sub(r"\1SCORE", printed):
        return False
    two_records = 2 / _test_records(shown)
    most = {"": two_records, "macro_f1 ": 3 * two_records, "log_loss ": 0.02}
    pairs = zip(_SCORE.findall(shown), _SCORE.findall(printed), strict=True)
    return all(
        abs(float(one) - float(other)) < most[name] + _ROUNDING for (name, one), (_, other) in pairs
    )


def _test_records(line: str) -> float:
    """Return how many test records the scores of a line are of, at least."""
    if pooled := _POOLED.search(line):
        return int(pooled.group(1))
    row = _INSTITUTION_ROW.match(line)
    return _TEST_SHARE * int(row.group(1)) if row else _FEWEST


def _parts(shown: list[str]) -> Iterator[list[str]]:
    """Split what is shown where lines are left out."""
    for is_gap, lines in itertools.groupby(shown, lambda line: line.strip() == GAP):
        if not is_gap:
            yield [_normal(line) for line in lines]


def _normal(line: str) -> str:
    for pattern, name in _VARYING:
        line = pattern.sub(name, line)
    return line.rstrip()
