"""Tables of every command: no word is broken in the middle, however narrow the terminal is."""

import io
import re
from collections.abc import Sequence

import pytest
from rich.console import Console

from confide.tables import TIED, Table

FINGERPRINT = ":".join(f"{byte:02X}" for byte in range(32))
KEY = "SHA256:kHh0Nn0Yq8wZ5y3m9nP1qv7cV2xW4b6d8f0h2j4l6n8"
WIDTHS = (120, 80, 60, 40)


def budgets() -> Table:
    numbers = ("spent", "committed", "of", "left", "delta")
    table = Table("population", "unit", *numbers, "", numbers=numbers, title="Lifetime budgets")
    table.add_row("bank-1", "record", "3.00", "3.00", "12.00", "9.00", "1e-05", "███·········")
    table.add_row("the north", "group", "0.00", "0.00", "2.00", "2.00", "1e-05", "············")
    return table


def findings() -> Table:
    table = Table("check", "", "finding", "fix")
    table.add_row("ca.crt", "ok", f"fingerprint {FINGERPRINT}; compare it by telephone", "")
    path = "/srv/kits/institutions/north/node.key"
    table.add_row("node.key", "error", "has [mode] 0644 :AB: here", f"chmod 600 {path}")
    return table


def kits() -> Table:
    table = Table("institution", "kit", "node.key", "fingerprint of its public key")
    table.add_row("VA Long Beach", "unchanged", "at the institution", KEY)
    return table


def rules() -> Table:
    table = Table("rule", "asked", "allowed", "")
    hashes = f"logistic, {'0a' * 32}, mlp"
    table.add_row("allow_reproducible_noise", "transformer", hashes, "DENIED", style="bold red")
    return table


def shown(table: Table, width: int, *, terminal: bool = True) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=terminal, color_system=None)
    table.show(console)
    return file.getvalue()


def words(text: str) -> set[str]:
    return set(re.split(r"[\s│┃┏┓┡┩└┘━─┳╇┴]+", text))


WHOLE = {
    budgets: ["population", "committed", "record", "bank-1", "12.00", "1e-05", "███·········"],
    findings: ["node.key", "[mode]", ":AB:", "telephone", "fingerprint"],
    kits: ["unchanged", "institution", "Beach"],
    rules: ["allow_reproducible_noise", "transformer", "logistic,", "DENIED"],
}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("make", WHOLE)
def test_words_are_whole_at_every_width(
    monkeypatch: pytest.MonkeyPatch, make: object, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert callable(make)
    text = shown(make(), width)
    assert not set(WHOLE[make]) - words(text)  # type: ignore[index]
    longest = 0 if make is not rules else len("0a" * 32)  # a hash has no seam, and is not cut
    assert max(map(len, text.splitlines())) <= max(width, longest)


@pytest.mark.parametrize("width", WIDTHS)
def test_fingerprints_break_between_their_bytes(width: int) -> None:
    text = shown(findings(), width)
    assert set(re.findall(r"[0-9A-F]{2}(?=:)", text)) >= set(FINGERPRINT.split(":")[:-1])
    assert not re.search(r":[0-9A-F](\s|$)", text)


def test_what_is_no_terminal_has_no_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    text = shown(kits(), 80, terminal=False)
    assert KEY in text
    assert "│" in text  # a table, of one line a row: it can be searched by line
    monkeypatch.setenv("COLUMNS", "60")
    assert max(map(len, shown(kits(), 60, terminal=False).splitlines())) <= 60


def test_a_name_and_its_count_stay_together() -> None:
    table = Table("", "")
    counts = {"trestbps": 60, "chol": 202, "fbs": 90, "oldpeak": 62, "slope": 309, "ca": 611}
    table.add_row("missing values", ", ".join(f"{n}{TIED}{c}" for n, c in counts.items()))
    text = shown(table, 44)
    assert all(f"{name} {count}" in text for name, count in counts.items())


def test_an_empty_table_has_its_headers() -> None:
    assert "population" in shown(Table("population", "unit"), 80)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_row_may_become_a_line_where_columns_do_not_fit(width: int) -> None:
    def line(cells: Sequence[str]) -> str:
        return f"{cells[0]}{TIED * 2}{', '.join(cells[1:])}"

    table = Table("column", "kind", "missing", title="Columns", line_fn=line)
    names = [f"a_name_of_thirty_characters__{number}" for number in range(9)]
    for name in names:
        table.add_row(name, "numeric 0 to 8", "843")
    lines = shown(table, width).rstrip().splitlines()
    if width >= 60:
        assert lines[1].startswith("┏")
    else:
        # Broken between words, and what goes on is indented
        assert [found[:2] for found in lines[1:]] == ["a_", "  "] * len(names)
        assert " ".join(" ".join(lines[1:]).split()) == " ".join(
            f"{name} numeric 0 to 8, 843" for name in names
        )
