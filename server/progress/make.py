"""The progress view that ``server.progress`` names."""

import sys

from rich.console import Console

from confide.server.progress.lines import LineProgress, QuietProgress
from confide.server.progress.view import ProgressView


def make_progress(mode: str, metric: str) -> ProgressView:
    """Make the view that is chosen.

    Args:
        mode: ``server.progress``; auto chooses by whether somebody watches.
        metric: the primary one.
    """
    console = Console(file=sys.stderr)
    if mode == "live" or (mode == "auto" and console.is_terminal):
        from confide.server.progress.live import LiveProgress

        return LiveProgress(console, metric=metric)
    if mode == "json":
        from confide.server.progress.json_lines import JsonProgress

        return JsonProgress(sys.stdout, metric=metric)
    return QuietProgress(metric=metric) if mode == "quiet" else LineProgress(console, metric=metric)


__all__ = ["make_progress"]
