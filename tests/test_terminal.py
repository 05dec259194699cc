"""The edge to the terminal: names as they are, readers that leave, exceptions nobody foresaw."""

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.progress import Progress
from rich.table import Table

from confide import cli
from confide.errors import EXIT_FAILED
from confide.server.run.closing import closing_table
from confide.simulations.commands import simulate as command
from confide.terminal import make_console, plain

NAMES = [
    *[
        "Ward [/3] north",
        "Ward [b]",
        "[red]",
        "[/]",
        "[link=x]",
        ":cat:",
        "北京医院",
        "é🏥",
        "\\[x",
    ],
    *["a" * 300, "two\nlines", "][", "\\[x"],
]
TASK = """
kind: tabular
labels: ["no", "yes"]
label_column: ill
columns: {age: {kind: numeric, minimum: 0, maximum: 100}}
"""
BY_WARD = ["data.partitioner=natural", "data.partition_by=ward", "data.num_clients=4"]
ROOT = Path(__file__).parents[1]


def run(folder: Path, *words: str, stdout: Any = subprocess.PIPE, **environment: str) -> Any:
    """Run confide in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "confide.cli", *words],
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        cwd=folder,
        check=False,
    )


@pytest.mark.parametrize("name", NAMES)
def test_console_prints_every_name_as_it_is(name: str) -> None:
    stream = io.StringIO()
    console = make_console(file=stream)
    table = Table("institution", title=name)
    table.add_row(name)
    console.print(name, soft_wrap=True)
    console.print(table)
    assert name in stream.getvalue()


HOSTILE = [
    "\x1b[2J\x1b]0;title\x07",
    "over\rwritten",
    "\x9b2J",
    "a\u202eb\u2066c",
    "\u2028\x7f\x00",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_that_a_terminal_obeys_comes_from_a_name(name: str) -> None:
    stream = io.StringIO()
    console = make_console(file=stream)
    table = Table("institution", title=name)
    table.add_row(name)
    console.print(name, soft_wrap=True)
    console.print(table)
    with Progress(console=console) as bar:
        bar.add_task(name, total=1)
    told = stream.getvalue()
    assert plain(told) == told


def test_a_terminal_still_gets_its_styles() -> None:
    stream = io.StringIO()
    console = make_console(file=stream)
    console._force_terminal, console._color_system = True, 1  # type: ignore[assignment]
    console.print("no", style="bold")
    assert "\x1b[1m" in stream.getvalue()


@pytest.mark.parametrize("name", NAMES)
def test_closing_table_keeps_its_numbers_beside_every_name(name: str) -> None:
    client = {"num_examples": 61234, "records": 71234, "accuracy": 0.8125}
    summary = {
        "primary_metric": "accuracy",
        "privacy": {"unit": "none"},
        "baselines": {},
        "clients": {name: client},
        "federated": {"accuracy": 0.625},
    }
    stream = io.StringIO()
    console = make_console(file=stream)
    console.width = 80
    console.print(closing_table(summary))
    assert all(number in stream.getvalue() for number in ("71234", "0.625", "0.812"))
    assert " ".join(name.split())[:20] in stream.getvalue()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Write a small table of four wards with names of all kinds."""
    wards = ["Ward [/3] north", "北京医院", "../../etc", "é🏥"]
    rows = [f"{i},{wards[i % 4]},{20 + i % 60},{'yes' if i % 3 else 'no'}" for i in range(80)]
    path = tmp_path / "records.csv"
    path.write_text("\n".join(["id,ward,age,ill", *rows]) + "\n", encoding="utf-8")
    return path


def words(table: Path) -> list[str]:
    """Return what partitions it, by an own task beside it."""
    (table.parent / "conf" / "task").mkdir(parents=True)
    (table.parent / "conf" / "task" / "ward.yaml").write_text(TASK)
    chosen = ["task=ward", "backbone=logistic", "tuning=full", "privacy=none"]
    return [*chosen, f"data.path={table}", "data.id_column=id", "data.public=true", *BY_WARD]


def test_reader_that_leaves_takes_no_file_away(table: Path, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)  # as of `| head -0`
    done = run(tmp_path, "partition", "parts", *words(table), stdout=writing)
    os.close(writing)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "parts").iterdir())) == 4
    assert b"BrokenPipe" not in done.stderr


def test_stream_in_ascii_gets_what_it_can_encode(table: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "partition", "parts", *words(table), PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert rb"20 records of \u5317\u4eac\u533b\u9662" in done.stdout


def test_unforeseen_exception_is_one_line_and_its_traceback_a_private_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fail(words: list[str]) -> int:
        raise KeyError("no\nsuch thing")

    monkeypatch.setattr(command, "main", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    assert cli.main(["simulate"]) == EXIT_FAILED
    printed = capsys.readouterr().err
    assert printed.startswith("confide simulate: unforeseen KeyError: ")
    assert printed.count("\n") == 1
    (log,) = tmp_path.iterdir()
    assert str(log) in printed
    assert "Traceback" in log.read_text()
    assert log.stat().st_mode & 0o077 == 0


def test_whoever_looks_for_a_fault_gets_the_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(words: list[str]) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(command, "main", fail)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ZeroDivisionError):
        cli.main(["simulate"])


def test_a_line_on_stderr_is_there_at_once(tmp_path: Path) -> None:
    code = """
import os, sys
from confide.terminal import protect_streams
protect_streams()
print("expecting 3 institutions", file=sys.stderr)
os._exit(0)  # as killed: nothing is flushed any more
"""
    with (tmp_path / "log").open("wb") as file:
        subprocess.run([sys.executable, "-c", code], stderr=file, check=True)
    assert (tmp_path / "log").read_text() == "expecting 3 institutions\n"
