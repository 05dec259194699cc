"""Combines several trackers into one that cannot end a run."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from confide.errors import ConfigError
from confide.server.trackers.tracker import Metric, Tracker

log = logging.getLogger(__name__)


class FanOut:
    """A tracker that passes all calls on to several others.

    One that fails is named in the log and left out from then on.

    Args:
        trackers: the trackers by their names in the config.
    """

    def __init__(self, trackers: Mapping[str, Tracker]) -> None:
        self._trackers = dict(trackers)

    def begin(self, name: str, config: Mapping[str, object], run_dir: Path) -> None:
        """Begin with all of them.

        Raises:
            ConfigError: if one cannot work with its settings.
        """
        self._each(lambda tracker: tracker.begin(name, config, run_dir))

    def log(self, metrics: Sequence[Metric]) -> None:
        """Pass metrics on."""
        self._each(lambda tracker: tracker.log(metrics))

    def finish(self, summary: Mapping[str, Any] | None) -> None:
        """End with all of them; a second call does nothing."""
        self._each(lambda tracker: tracker.finish(summary))
        self._trackers.clear()

    def _each(self, call_fn: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                call_fn(tracker)
            except ConfigError:
                raise
            # A tracker calls other people's code, and whatever that raises, the run goes on.
            except Exception as error:
                del self._trackers[name]
                log.warning(
                    "Tracker %s failed and is left out from here on (%s: %s). The run goes on, and"
                    " metrics.jsonl has every metric; fix the cause, or leave %s out of"
                    " tracking.trackers.",
                    name,
                    type(error).__name__,
                    " ".join(str(error).split()),
                    name,
                )


__all__ = ["FanOut"]
