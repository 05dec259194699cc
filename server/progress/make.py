"""The progress view that ``server.progress`` names."""

import sys

from confide.server.progress.lines import LineProgress, QuietProgress
from confide.server.run.progress_view import ProgressView
from confide.terminal import make_console


def make_progress(mode: str, metric: str) -> ProgressView:
    """Return the chosen view.

    Args:
        mode: value of ``server.progress``; auto chooses by whether stderr is a terminal.
        metric: name of the primary metric.
    """
    # Progress goes to stderr, so that stdout has only results; JSON events are results
    console = make_console(file=sys.stderr)
    if mode == "live" or (mode == "auto" and console.is_terminal):
        from confide.server.progress.live import LiveProgress

        return LiveProgress(console, metric=metric)
    if mode == "json":
        from confide.server.progress.json_lines import JsonProgress

        return JsonProgress(sys.stdout, metric=metric)
    return QuietProgress(metric=metric) if mode == "quiet" else LineProgress(console, metric=metric)


__all__ = ["make_progress"]
