"""What an institution has to remember of masked sums, so that none is opened twice.

In a deployment these are events of the ledger; without a ledger they are lines of a file, or gone
with the process.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from confide.errors import ProtocolError, UnreadableError
from confide.protocol.refusals import Refusal
from confide.storage.files import folder_name, locked, make_private_folder, write_secret
from confide.storage.lines import DurableLines

_WAIT_S = 30.0


SCORES = "scores/"
"""Begins what is remembered in place of an update where a sum is of scores alone."""


@dataclass(frozen=True, kw_only=True)
class MaskedBefore:
    """A sum that the institution has put a vector into.

    Attributes:
        update: SHA-256 of the update, before it was weighted and scaled; of scores alone what was
            asked, after :data:`SCORES`.
        values: HMAC-SHA-256 of the vector, before it was masked, under a key of the job.
        scores: SHA-256 of each split's scores in that sum.
        threshold: t of the sum.
        signers: everybody in its cohort -> the trainer's public key, as
            :func:`~confide.secure_aggregation.survivors.key_to_text` writes it.
        unproved: digests of the sums before which had been opened here, and which too few were
            shown to have signed.
        survivors: names of those whose sum it helped to open, sorted; empty before it did.
    """

    update: str
    values: str
    scores: tuple[str, ...] = ()
    threshold: int = 0
    signers: Mapping[str, str] = field(default_factory=dict)
    unproved: tuple[bytes, ...] = ()
    survivors: tuple[str, ...] = ()

    @property
    def is_of_scores(self) -> bool:
        """Whether no update is in it."""
        return self.update.startswith(SCORES)


class SumMemory(Protocol):
    """Remembers the sums of one job."""

    def get(self, digest: bytes) -> MaskedBefore | None:
        """Return what was masked in a context; None if nothing was."""

    def all(self) -> Iterable[tuple[bytes, MaskedBefore]]:
        """Return every sum of the job, in the order in which they were masked."""

    def mask(self, digest: bytes, masked: MaskedBefore) -> None:
        """Remember a vector, before it leaves."""

    def open(self, digest: bytes, survivors: Sequence[str]) -> None:
        """Remember whose sum is opened, before a share leaves."""


def mask_once(memory: SumMemory, digest: bytes, masked: MaskedBefore) -> None:
    """Remember a vector before it leaves; the same one again changes nothing.

    Args:
        memory: of the job.
        digest: of the sum's context.
        masked: what is put into the sum.

    Raises:
        ProtocolError: if another vector went into this sum, or the same update into another.
    """
    before = memory.get(digest)
    if before is not None and before.values != masked.values:
        raise ProtocolError(
            "Other values are under these masks already, and two vectors under one mask tell"
            " their difference.",
            code=Refusal.SUM_COHORT,
        )
    for one, other in memory.all():
        if one != digest and masked.update == other.update:
            # Sums over two cohorts with equal updates differ by whoever is in one alone.
            raise ProtocolError("The same update went into another sum.", code=Refusal.SUM_COHORT)
    if before is None:
        memory.mask(digest, masked)


def check_opens_once(memory: SumMemory, digest: bytes, alive: Sequence[str]) -> None:
    """Check that a sum, which is known, may be opened for these survivors.

    Args:
        memory: of the job.
        digest: of the sum's context.
        alive: names of the survivors, sorted.

    Raises:
        ProtocolError: if it was opened for others, or a later one was masked since.
    """
    before = memory.get(digest)
    if before is not None and before.survivors:
        if list(before.survivors) != list(alive):
            raise ProtocolError(
                "This institution helped to open that sum for other survivors.",
                code=Refusal.SUM_SURVIVORS,
            )
        return
    last = [one for one, _ in memory.all()][-1]
    # When the later one was masked, nobody had to show whom this one was opened for
    if last != digest:
        raise ProtocolError(
            "This institution put a vector into a later sum, and opens that one no more.",
            code=Refusal.SUM_SURVIVORS,
        )


@dataclass
class SumsInMemory:
    """A :class:`SumMemory` that ends with the process."""

    sums: dict[bytes, MaskedBefore] = field(default_factory=dict)

    def get(self, digest: bytes) -> MaskedBefore | None:
        """Return what was masked in a context; None if nothing was."""
        return self.sums.get(digest)

    def all(self) -> Iterable[tuple[bytes, MaskedBefore]]:
        """Return every sum of the job, in the order in which they were masked."""
        return self.sums.items()

    def mask(self, digest: bytes, masked: MaskedBefore) -> None:
        """Remember a vector."""
        self.sums[digest] = masked

    def open(self, digest: bytes, survivors: Sequence[str]) -> None:
        """Remember whose sum is opened."""
        self.sums[digest] = replace(self.sums[digest], survivors=tuple(survivors))


class SumsInFolder:
    """A :class:`SumMemory` of one institution and job, durable before it returns.

    Several processes may have one of the same folder.

    Args:
        folder: nothing else writes there; it is made with the first sum.
    """

    def __init__(self, folder: Path) -> None:
        self._lines = DurableLines(
            folder / "sums.jsonl", fix="bring the whole file back, or go on under another job"
        )
        self._sums: dict[bytes, MaskedBefore] = {}

    def get(self, digest: bytes) -> MaskedBefore | None:
        """Return what was masked in a context; None if nothing was."""
        return self._known().get(digest)

    def all(self) -> Iterable[tuple[bytes, MaskedBefore]]:
        """Return every sum of the job, in the order in which they were masked."""
        return list(self._known().items())

    def mask(self, digest: bytes, masked: MaskedBefore) -> None:
        """Remember a vector, before it leaves.

        Raises:
            ProtocolError: if another process has put another vector under the same masks.
            StorageError: if it cannot be written or read.
        """
        with self._lines.alone():
            before = self._known().get(digest)
            if before is None:
                parts = asdict(masked)
                del parts["survivors"]
                parts["unproved"] = [one.hex() for one in masked.unproved]
                self._lines.append(_json({"mask": digest.hex(), **parts}))
            elif replace(before, survivors=()) != masked:
                raise ProtocolError(
                    "Other values are under these masks already, and two vectors under one mask"
                    " tell their difference.",
                    code=Refusal.SUM_COHORT,
                )

    def open(self, digest: bytes, survivors: Sequence[str]) -> None:
        """Remember whose sum is opened, before a share leaves.

        Raises:
            ProtocolError: if another process helped to open it for others.
            StorageError: if it cannot be written or read.
        """
        with self._lines.alone():
            before = self._known()[digest]
            if not before.survivors:
                told = {"open": digest.hex(), "survivors": list(survivors)}
                self._lines.append(_json(told))
            elif before.survivors != tuple(survivors):
                raise ProtocolError(
                    "This institution helped to open that sum for other survivors.",
                    code=Refusal.SUM_SURVIVORS,
                )

    def _known(self) -> dict[bytes, MaskedBefore]:
        for line in self._lines.read_new():
            parts = json.loads(line)
            if "mask" in parts:
                digest = bytes.fromhex(parts.pop("mask"))
                parts["unproved"] = tuple(bytes.fromhex(one) for one in parts["unproved"])
                parts["scores"] = tuple(parts["scores"])
                self._sums[digest] = MaskedBefore(**parts)
            else:
                digest, alive = bytes.fromhex(parts["open"]), tuple(parts["survivors"])
                self._sums[digest] = replace(self._sums[digest], survivors=alive)
        return self._sums


def _json(parts: Mapping[str, Any]) -> str:
    return json.dumps(parts, separators=(",", ":"))


def run_key_in(folder: Path, job: str) -> X25519PrivateKey:
    """Return an institution's key of a job: made and kept at its first use, the same from then on.

    Args:
        folder: of the institution's keys; made if it is not there.
        job: name of the job.

    Raises:
        StorageError: if it cannot be written.
        UnreadableError: if it is not what was written.
    """
    path = folder / f"{folder_name(job)}.key"
    make_private_folder(folder)
    busy = f"Another process has been making {path} for {_WAIT_S:g} s; end it."
    # One of two processes that come first makes it, the other reads it
    with locked(folder / ".keys.lock", otherwise=busy, wait_s=_WAIT_S):
        if not path.exists():
            key = X25519PrivateKey.generate()
            public = key.public_key().public_bytes_raw()
            write_secret(path, f"{key.private_bytes_raw().hex()} {public.hex()}\n".encode())
    return _read_run_key(path)


def _read_run_key(path: Path) -> X25519PrivateKey:
    try:
        private, public = (bytes.fromhex(part) for part in path.read_text().split())
        key = X25519PrivateKey.from_private_bytes(private)
        # A changed byte is another key, and looks like one
        if key.public_key().public_bytes_raw() != public:
            raise ValueError
    except (OSError, ValueError):
        raise UnreadableError(
            f"{path} is no key that was written there; bring the file back, or go on under another"
            " job."
        ) from None
    return key


__all__ = [
    "SCORES",
    "MaskedBefore",
    "SumMemory",
    "SumsInFolder",
    "SumsInMemory",
    "check_opens_once",
    "mask_once",
    "run_key_in",
]
