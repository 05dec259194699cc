"""Results of a benchmark, one JSON file a run, so that it goes on where it was stopped."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Figures = Mapping[str, float | None]
"""What is measured -> its figure; None where it is not defined, or the run failed."""


def kept_figures(path: Path, words: Sequence[str]) -> Figures | None:
    """Return what was measured with these settings; None where nothing was, or with others.

    Args:
        path: the run's file.
        words: settings that decide its figures, folders aside.
    """
    if not path.exists():
        return None
    found = json.loads(path.read_text())
    figures: Figures = found["figures"]
    return figures if found["settings"] == list(words) else None


def measured(path: Path, words: Sequence[str], measure_fn: Callable[[], Figures]) -> Figures:
    """Return a run's figures, from its file or else measured and written there."""
    figures = kept_figures(path, words)
    if figures is not None:
        return figures
    figures = measure_fn()
    path.parent.mkdir(parents=True, exist_ok=True)
    # Renamed into place: a benchmark that is killed leaves no half of a file
    half = path.with_suffix(".half")
    half.write_text(json.dumps({"settings": list(words), "figures": figures}, indent=1) + "\n")
    os.replace(half, path)
    return figures
