"""What the documentation names exists, and its site needs nothing from elsewhere."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "sharp_edges.md").read_text()
NAMED = re.findall(r"(tests/[\w/]+\.py)(?:::(\w+))?", PAGE)
TRAPS = re.findall(r"^- \*\*.*?(?=^- |^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
WITHOUT_TEST = {"Floating point"}
FETCHED = re.compile(
    r"""(?:\bsrc=|url\(|@import |<link\b[^>]*\bhref=)["']?(?:https?:)?//[^"')>\s]+"""
)


@pytest.mark.parametrize(("path", "test"), NAMED, ids=[f"{path}::{test}" for path, test in NAMED])
def test_every_test_named_exists(path: str, test: str) -> None:
    tree = ast.parse((ROOT / path).read_text())
    assert not test or test in {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef)
    }


@pytest.mark.parametrize("trap", TRAPS)
def test_every_trap_has_a_test(trap: str) -> None:
    title = re.findall(r"\*\*(.*?)\*\*", trap, re.DOTALL)[0]
    assert ("::test_" in trap) != (title in WITHOUT_TEST)


def test_traps_are_found() -> None:
    assert len(TRAPS) == PAGE.count("\n- ") > 20


def test_the_site_builds_without_a_warning_and_fetches_nothing(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    subprocess.run(words, check=True, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"})
    pages = [path for path in tmp_path.rglob("*") if path.suffix in (".html", ".css")]
    assert len(pages) > 30
    assert not {found for page in pages for found in FETCHED.findall(page.read_text())}


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda path: path.name
)
def test_links_into_the_repository_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text())
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_decision_is_listed() -> None:
    listed = re.findall(
        r"\((0\d+-[\w-]+\.md)\)", (ROOT / "docs" / "design" / "README.md").read_text()
    )
    assert listed == sorted(path.name for path in (ROOT / "docs" / "design").glob("0*.md"))


def test_no_file_holds_both_sides_of_a_merge() -> None:
    marks = ["-e", "^<<<<<<< ", "-e", "^>>>>>>> "]
    found = subprocess.run(
        ["git", "grep", "-lI", *marks], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode in (0, 1, 128), found.stderr  # 128: no repository around it
    assert found.stdout == ""
