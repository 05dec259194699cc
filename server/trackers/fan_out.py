"""Several trackers as one, none of which can end a run."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from confide.errors import ConfigError
from confide.server.trackers.tracker import Metric, Tracker

log = logging.getLogger(__name__)


class FanOut:
    """A tracker that passes on what it is told.

    One that fails is named once and left out from then on.

    Args:
        trackers: by the name that chose each.
    """

    def __init__(self, trackers: Mapping[str, Tracker]) -> None:
        self._trackers = dict(trackers)

    def begin(self, name: str, config: Mapping[str, object], run_dir: Path) -> None:
        """Begin with all of them.

        Raises:
            ConfigError: of one that cannot work as it is set.
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
            except (
                Exception
            ) as error:  # other people's code: whatever it raises, the run is worth more
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
