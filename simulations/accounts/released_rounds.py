"""What a private run without a seed has released, counted outside the checkpoints.

A run that falls back to an older checkpoint runs rounds again whose updates were released already,
now with other noise: both cost privacy. The count is written after a round's checkpoint and before
anybody hears of the round, so that it is never below what was released, and a process that is
killed in between costs nothing. The last scores come after the last checkpoint: that they are about
to be asked for is written before, since a process that goes on asks for them again.
"""

import json
from pathlib import Path

from confide.errors import UnreadableError
from confide.server.rounds.checkpoint import Checkpoint
from confide.storage.files import write_json


class ReleasedRounds:
    """The count of one run.

    Args:
        path: where it stands.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rounds = 0
        self._last = 0
        self._scored = 0

    @property
    def scored(self) -> int:
        """How often earlier processes asked for the last scores, once :meth:`after` was called."""
        return self._scored

    def after(self, checkpoint: Checkpoint | None) -> int:
        """Return how many rounds were released after a checkpoint, and go on counting from there.

        Raises:
            UnreadableError: if the count is gone.
            StorageError: if a new run's cannot be written.
        """
        if checkpoint is None:  # at once: a file that is missing later is one that was lost
            self.write()
            return 0
        try:
            kept = json.loads(self._path.read_text())
            self._rounds, self._scored = int(kept["rounds"]), int(kept.get("scored", 0))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UnreadableError(
                f"{self._path} cannot be read ({error}), so what this private run has released is"
                " not known; start it anew."
            ) from None
        self._last = checkpoint.state.server_round
        lost = max(0, self._rounds - int(checkpoint.extra["released"]))
        # Behind the checkpoint's, if a process was killed between writing the two
        self._rounds = max(self._rounds, int(checkpoint.extra["released"]))
        return lost

    def count(self, server_round: int) -> int:
        """Count a round unless it was counted, and return how many there are."""
        if server_round > self._last:
            self._rounds, self._last = self._rounds + 1, server_round
        return self._rounds

    def score(self) -> None:
        """Count, durably, that the last scores are about to be asked for.

        Raises:
            StorageError: if it cannot be written.
        """
        self._scored += 1
        self.write()

    def write(self) -> None:
        """Make the count durable.

        Raises:
            StorageError: if it cannot be written.
        """
        write_json(self._path, {"rounds": self._rounds, "scored": self._scored})


__all__ = ["ReleasedRounds"]
