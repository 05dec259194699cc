"""Replies that were made durable before they were sent.

A question asked again is answered from here, at no cost.
"""

import hashlib
import json
from pathlib import Path

from confide.errors import StorageError
from confide.protocol.messages import Reply
from confide.protocol.tensors import Tensors, encode
from confide.storage.files import folder_name, make_private_folder
from confide.storage.tensor_files import read_tensors, sha256, write_tensors

_REPLY = "reply"


class Replies:
    """Replies of one institution, a folder a job, the newest of them.

    Args:
        folder: made when there is a reply; readable by its owner alone.
        kept: how many of a job stay: as many as rounds that a coordinator may go back.
    """

    def __init__(self, folder: Path, *, kept: int) -> None:
        self._folder = folder
        self._kept = kept

    def save(self, job: str, number: int, reply: Reply, update: Tensors) -> str:
        """Make a reply durable.

        Args:
            job: of the plan.
            number: of the reservation, from 1 in each job.
            reply: without tensors.
            update: its tensors.

        Returns:
            Its checksum, which :meth:`load` wants back.

        Raises:
            StorageError: if it cannot be written.
        """
        text = json.dumps(
            {
                "institution": reply.institution,
                "num_examples": reply.num_examples,
                "figures": dict(reply.figures),
                "evaluations": {
                    split: dict(evaluation) for split, evaluation in reply.evaluations.items()
                },
                "order": list(update),
            }
        )
        checksum = _checksum(text, update)
        # Named by its checksum: another process may have computed the same round.
        path = self._path(job, number, checksum)
        make_private_folder(path.parent)
        write_tensors(path, update, metadata={_REPLY: text})
        return checksum

    def load(self, job: str, number: int, checksum: str) -> Reply | None:
        """Return a reply; None if it is not there any more, or is not the one that was saved."""
        try:
            read = read_tensors(self._path(job, number, checksum))
            text = read.metadata[_REPLY]
            if _checksum(text, read.tensors) != checksum:
                return None
            raw = json.loads(text)
            arrays = encode({name: read.tensors[name] for name in raw.pop("order")})
        except (StorageError, KeyError, ValueError):
            return None
        return Reply(arrays=arrays, **raw)

    def forget(self, job: str, *, before: int) -> None:
        """Remove those that no coordinator goes back to."""
        for path in self._path(job, 0, "").parent.glob("*.safetensors"):
            if int(path.stem.partition("-")[0]) <= before - self._kept:
                path.unlink(missing_ok=True)

    def _path(self, job: str, number: int, checksum: str) -> Path:
        return self._folder / folder_name(job) / f"{number:05}-{checksum[:16]}.safetensors"


def _checksum(text: str, update: Tensors) -> str:
    return hashlib.sha256(f"{text}\0{sha256(update)}".encode()).hexdigest()


__all__ = ["Replies"]
