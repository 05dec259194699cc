"""Draws how a run's model gets better, while it does: the report's figure, from what is there."""

import re
from dataclasses import replace
from pathlib import Path

import yaml

from confide.errors import UnreadableError
from confide.pages.figures import Picture
from confide.server.run_folder import CONFIG

_METRICS = "metrics.jsonl"
_STYLE = re.compile(r' style="([^"]*)"')


class Convergence:
    """Draws the figure of a run anew when its metrics have changed; not by two threads at once."""

    def __init__(self) -> None:
        self._stamp: tuple[Path, int, int] | None = None
        self._drawn: Picture | None = None

    def __call__(self, run_dir: Path) -> Picture | None:
        """Return the figure of a run; None if there is nothing to draw, or it cannot be read."""
        path = run_dir / _METRICS
        try:
            status = path.stat()
            stamp = (path, status.st_size, status.st_mtime_ns)
            if stamp != self._stamp:
                self._drawn, self._stamp = _draw(run_dir), stamp
        except (OSError, UnreadableError, yaml.YAMLError, KeyError, TypeError, ValueError):
            return None
        return self._drawn


def _draw(run_dir: Path) -> Picture | None:
    # Here and not above: the page comes before what draws is loaded
    from confide.server.report.metrics_file import read_metrics
    from confide.server.report.round_by_round import round_by_round

    config = yaml.safe_load((run_dir / CONFIG).read_text())
    metrics = read_metrics(run_dir)
    # Of a masked sum the scores of all together alone are known, and belong to nobody
    summed = bool(metrics.loc[metrics["phase"] == "validation", "client"].isna().any())
    drawn = round_by_round(metrics, str(config["task"]["primary_metric"]), summed=summed)
    return None if drawn is None else replace(drawn, svg=without_styles(drawn.svg))


def without_styles(svg: str) -> str:
    """Write the styles of a figure's elements as attributes, which no page's policy keeps out.

    >>> without_styles('<path d="M 0 0" style="fill: none; stroke: red"/>')
    '<path d="M 0 0" fill="none" stroke="red"/>'
    """
    return _STYLE.sub(_attributes, svg)


def _attributes(found: re.Match[str]) -> str:
    pairs = (declared.partition(":") for declared in found[1].split(";") if declared.strip())
    return "".join(f' {name.strip()}="{value.strip()}"' for name, _, value in pairs)


__all__ = ["Convergence", "without_styles"]
