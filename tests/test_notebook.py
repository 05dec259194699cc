"""The quick start for notebooks runs from its first cell to its last."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent.parent / "docs" / "examples" / "quickstart.ipynb"
LARGEST_KB = 150


def test_outputs_are_small_and_name_no_machine() -> None:
    text = NOTEBOOK.read_text()
    assert len(text) < LARGEST_KB * 1024
    assert "/tmp/" not in text
    assert "site-packages" not in text
    cells = [cell for cell in nbformat.reads(text, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [
        output for cell in cells for output in cell.outputs if output.output_type == "error"
    ]


@pytest.mark.reader
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning")
def test_every_cell_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[2]))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    said = [_streams(cell) for cell in notebook.cells]
    NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    assert [_streams(cell) for cell in notebook.cells] == said
    assert (tmp_path / "runs" / "plain" / "report.html").is_file()


def _streams(cell: nbformat.NotebookNode) -> str:
    """Return what a cell prints, which is the same on any machine; warnings of libraries apart."""
    return "".join(
        output.text for output in cell.get("outputs", []) if output.get("name") == "stdout"
    )
