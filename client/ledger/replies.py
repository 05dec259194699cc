"""Replies that were made durable before they were sent.

A question asked again is answered from here, at no cost.
"""

import hashlib
import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from confide.protocol.messages import Reply
from confide.protocol.tensors import Tensors, encode, sha256
from confide.storage.files import folder_name, replace_file

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
        whole = {name: tensor.contiguous() for name, tensor in update.items()}
        checksum = _checksum(text, whole)
        path = self._path(
            job, number, checksum
        )  # of its own: another process may have computed the same round
        for folder in (self._folder, path.parent):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace_file(
            path, lambda temporary: save_file(whole, temporary, metadata={_REPLY: text}), mode=0o600
        )
        return checksum

    def load(self, job: str, number: int, checksum: str) -> Reply | None:
        """Return a reply; None if it is not there any more, or is not the one that was saved."""
        try:
            with safe_open(self._path(job, number, checksum), framework="pt") as file:
                text = (file.metadata() or {})[_REPLY]
                update: Tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            raw = json.loads(text)
            if _checksum(text, update) != checksum:
                return None
            arrays = encode({name: update[name] for name in raw.pop("order")})
        except (OSError, SafetensorError, KeyError, ValueError):
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
