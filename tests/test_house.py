"""The house: what is packaged, what imports what, and what the front door costs."""

import ast
import contextlib
import importlib.util
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from setuptools import find_packages

ROOT = Path(__file__).parent.parent
ROOMS = ("client", "conf", "server", "simulations", "strategies")
PRIVATE = (
    "flwr.supercore",
    "flwr.superlink",
    "flwr.supernode",
    "flwr.common",
    "flwr.proto",
    "flwr.compat",
)
LONGEST_IMPORT_CPU_S = 0.5


def _sources() -> Iterator[Path]:
    for room in ("confide", *ROOMS):
        yield from (ROOT / room).rglob("*.py")


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_every_folder_with_code_is_in_the_wheel() -> None:
    listed = set(find_packages(str(ROOT), include=["confide*"]))
    folders = {
        path.parent.relative_to(ROOT)
        for room in ("confide", *ROOMS)
        for path in (ROOT / room).rglob("*.py")
    }
    assert {
        ".".join(folder.parts if folder.parts[0] == "confide" else ("confide", *folder.parts))
        for folder in folders
    } == listed


def test_nothing_beside_the_package_can_be_imported_through_it() -> None:
    for name in ("confide.tests", "confide.benchmarks", "confide.confide"):
        assert importlib.util.find_spec(name) is None, name


def test_only_one_folder_touches_private_corners_of_flower() -> None:
    for path in _sources():
        if "flower" not in path.relative_to(ROOT).parts[:2]:
            assert not [name for name in _imported(path) if name.startswith(PRIVATE)], path


def test_client_and_server_do_not_import_each_other() -> None:
    for room, other in (("client", "confide.server"), ("server", "confide.client")):
        for path in (ROOT / room).rglob("*.py"):
            assert not [
                name for name in _imported(path) if name.startswith((other, "confide.simulations"))
            ], path


def test_every_dotted_name_in_the_tree_is_found() -> None:
    """A logger, a launch command, a preloaded module, a layer or a `_target_` that moved fails in
    silence otherwise.
    """
    not_ours = re.compile(
        r"confide\.(json|log|py|trainer\.v\d.*|ledger)$"
    )  # files, and a gRPC service
    lost = [
        f"{path}: {name}"
        for path, name in _dotted_names()
        if not (not_ours.match(name) or _is_found(name))
    ]
    assert lost == []


def _dotted_names() -> Iterator[tuple[Path, str]]:
    folders = ("confide", *ROOMS, "tests", "benchmarks", "docs")
    files = [
        path
        for folder in folders
        for kind in ("*.py", "*.yaml", "*.md", "*.toml")
        for path in (ROOT / folder).rglob(kind)
    ]
    for path in {*files, *ROOT.glob("*.toml"), *ROOT.glob("*.md"), ROOT / "Makefile"} - {
        Path(__file__)
    }:
        for match in re.finditer(
            r"(?<![\w./-])confide(?:\.[A-Za-z_]\w*)+(?![\w(])", path.read_text()
        ):
            yield path, match[0]


def _is_found(name: str) -> bool:
    """Say whether a dotted name is a module, or an attribute of one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        with contextlib.suppress(ImportError):
            found: object = importlib.import_module(".".join(parts[:length]))
            return all(
                hasattr(found, part) and (found := getattr(found, part)) is not None
                for part in parts[length:]
            )
    return False


def test_public_names_exist_and_are_named_once() -> None:
    for path in _sources():
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts if parts[0] == "confide" else ("confide", *parts)).removesuffix(
            ".__init__"
        )
        module = importlib.import_module(name)
        names = getattr(module, "__all__", [])
        assert len(names) == len(set(names)), name
        assert all(hasattr(module, public) for public in names), name


@pytest.mark.parametrize("words", [["-c", "import confide"], ["-m", "confide.cli", "--help"]])
def test_the_front_door_is_cheap_and_imports_no_torch(words: list[str]) -> None:
    check = "import atexit, sys; atexit.register(lambda: 'torch' in sys.modules and print('TORCH'))"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = words if words[0] == "-m" else ["-c", f"{check}; {words[1]}"]
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=True, cwd=ROOT
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "TORCH" not in done.stdout
    assert (
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < LONGEST_IMPORT_CPU_S
    )


def test_help_names_every_command_and_unknown_ones_are_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "confide.cli", "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert "simulate" in done.stdout
    wrong = subprocess.run(
        [sys.executable, "-m", "confide.cli", "simulat"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert wrong.returncode == 2
    assert "expected one of: simulate" in wrong.stderr


def test_a_mistake_is_reported_before_torch_is_imported() -> None:
    call = "main(['simulate', 'privacy.epsilon=0', 'strateg=x'])"
    code = f"import sys; from confide.cli import main; print({call}, 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=os.environ | {"HYDRA_FULL_ERROR": "1"},
    )
    assert done.stdout.split() == ["2", "False"]
    assert "2 mistakes" in done.stderr


def test_every_long_test_exists_and_is_listed_once() -> None:
    listed = (ROOT / "tests" / "long_tests.txt").read_text().split()
    assert listed == sorted(set(listed))
    for name in listed:
        file, case = name.split("::")[:2]
        text = (ROOT / file).read_text()
        assert f"def {case}(" in text or f"{case} = " in text, name
