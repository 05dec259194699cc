"""What the documentation names exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "sharp_edges.md").read_text()
NAMED = re.findall(r"(tests/[\w/]+\.py)(?:::(\w+))?", PAGE)
TRAPS = re.findall(r"^- \*\*.*?(?=^- |^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
WITHOUT_TEST = {"Floating point"}


@pytest.mark.parametrize(("path", "test"), NAMED, ids=[f"{path}::{test}" for path, test in NAMED])
def test_every_test_named_exists(path: str, test: str) -> None:
    tree = ast.parse((ROOT / path).read_text())
    assert not test or test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("trap", TRAPS)
def test_every_trap_has_a_test(trap: str) -> None:
    title = re.findall(r"\*\*(.*?)\*\*", trap, re.DOTALL)[0]
    assert ("::test_" in trap) != (title in WITHOUT_TEST)


def test_traps_are_found() -> None:
    assert len(TRAPS) == PAGE.count("\n- ") > 20
