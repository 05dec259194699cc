"""Replies on disk, each made durable before it is sent.

A question that is asked again is answered from here: computing it anew would cost privacy.
"""

import hashlib
import json
from pathlib import Path

from torch import Tensor

from confide.errors import ProtocolError, StorageError
from confide.protocol.masked_sums import SumAnswer
from confide.protocol.messages import Reply
from confide.protocol.tensors import Tensors, encode
from confide.protocol.words import MASKED, Words, encode_words
from confide.storage.files import folder_name, make_private_folder
from confide.storage.tensor_files import read_tensors, sha256, write_tensors

_REPLY = "reply"


class Replies:
    """The newest replies of one institution, a folder a job.

    Args:
        folder: made with the first reply; readable by its owner alone.
        kept: number of replies of a job that stay: the rounds that a coordinator may go back.
    """

    def __init__(self, folder: Path, *, kept: int) -> None:
        self._folder = folder
        self._kept = kept

    def save(self, job: str, number: int, reply: Reply, update: Tensors) -> str:
        """Make a reply durable.

        Args:
            job: job of the plan.
            number: number of the reservation, from 1 in each job.
            reply: the reply without its tensors.
            update: its tensors; of an answer to a masked sum the masked vector, as signed integers
                of the same bits.

        Returns:
            The reply's checksum, which :meth:`load` takes.

        Raises:
            StorageError: if it cannot be written.
        """
        told = {
            "institution": reply.institution,
            "num_examples": reply.num_examples,
            "figures": dict(reply.figures),
            "evaluations": {split: dict(got) for split, got in reply.evaluations.items()},
            "order": list(update),
        }
        if reply.sum is not None:
            told["sum"] = reply.sum.to_text()
        text = json.dumps(told)
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
            update = {name: read.tensors[name] for name in raw.pop("order")}
            if "sum" not in raw:
                return Reply(arrays=encode(update), **raw)
            answer = SumAnswer.from_text(raw.pop("sum"))
            return Reply(arrays=encode_words(_words(update[MASKED])), sum=answer, **raw)
        except (StorageError, ProtocolError, KeyError, ValueError):
            return None

    def forget(self, job: str, *, before: int) -> None:
        """Remove replies that no coordinator goes back to."""
        for path in self._path(job, 0, "").parent.glob("*.safetensors"):
            if int(path.stem.partition("-")[0]) <= before - self._kept:
                path.unlink(missing_ok=True)

    def _path(self, job: str, number: int, checksum: str) -> Path:
        return self._folder / folder_name(job) / f"{number:05}-{checksum[:16]}.safetensors"


def _words(signed: Tensor) -> Words:
    """Return integers of the same bits, without a sign: torch cannot compute with these."""
    words: Words = signed.numpy().view(f"u{signed.element_size()}")
    return words


def _checksum(text: str, update: Tensors) -> str:
    # Over both: the ledger's event vouches for text and tensors alike.
    return hashlib.sha256(f"{text}\0{sha256(update)}".encode()).hexdigest()


__all__ = ["Replies"]
