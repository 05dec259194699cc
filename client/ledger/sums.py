"""What a ledger remembers of masked sums: an event before a vector leaves, and one before a share.

Both are events of the run, durable with the ledger: whoever brings back an older copy of it to have
a sum opened for other survivors is noticed as with everything else that it holds.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ConfigDict, TypeAdapter

from confide.client.ledger.file import LedgerFile
from confide.client.ledger.runs import RunAccount
from confide.client.ledger.state import LedgerState
from confide.client.secure_sums.memory import MaskedBefore
from confide.errors import DeniedError, ProtocolError
from confide.protocol.refusals import Refusal

# In a list: of a dataclass by itself pydantic takes no config
_WRITTEN = TypeAdapter(
    list[MaskedBefore], config=ConfigDict(ser_json_bytes="hex", val_json_bytes="hex")
)


class LedgerSums:
    """The sums of one run: a :class:`~confide.client.secure_sums.memory.SumMemory` of events.

    Args:
        file: opened ledger.
        population: name of the population that the run is charged to.
        run: name of the run.
        named: what events of the run say of the federation that asks.
    """

    def __init__(
        self, file: LedgerFile, *, population: str, run: str, named: Mapping[str, str]
    ) -> None:
        self._file, self._population, self._run, self._named = file, population, run, named
        self._parsed: dict[str, tuple[Mapping[str, object], MaskedBefore]] = {}

    def get(self, digest: bytes) -> MaskedBefore | None:
        """Return what was masked in a context; None if nothing was."""
        run = self._run_of(self._file.read_again(), digest.hex())
        return None if run is None else self._read(run, digest.hex())

    def all(self) -> Iterator[tuple[bytes, MaskedBefore]]:
        """Yield every sum of the run, oldest first."""
        for run in list(self._runs(self._file.read_again())):
            for digest in list(run.masked):
                yield bytes.fromhex(digest), self._read(run, digest)

    def mask(self, digest: bytes, masked: MaskedBefore) -> None:
        """Remember a vector, durably, before it leaves.

        Raises:
            DeniedError: if the run has not begun, so that nothing could account for the vector.
            ProtocolError: if another process has put another vector under the same masks.
            LedgerError: if it cannot be written.
        """
        with self._file.transaction() as writing:
            population = writing.state.populations.get(self._population)
            if population is None or self._run not in population.runs:
                raise DeniedError(
                    f"Run {self._run} asks for a masked sum and has counted nothing in"
                    f" {self._file.path} before.",
                    code=Refusal.NOT_TRAINED,
                )
            known = self._run_of(writing.state, digest.hex())
            if known is None:
                writing.append("mask", self._content(digest, self._run, masked=_plain(masked)))
            elif self._read(known, digest.hex()).values != masked.values:
                raise ProtocolError(
                    "Other values are under these masks already, and two vectors under one mask"
                    " tell their difference.",
                    code=Refusal.SUM_COHORT,
                )

    def open(self, digest: bytes, survivors: Sequence[str]) -> None:
        """Remember whose sum is opened, durably, before a share leaves.

        Raises:
            ProtocolError: if nothing was put into it, or it was opened for others: by another
                process too, since whoever asked last.
            LedgerError: if it cannot be written.
        """
        names = sorted(survivors)
        with self._file.transaction() as writing:
            run = self._run_of(writing.state, digest.hex())
            if run is None:
                raise ProtocolError(
                    "This institution has put nothing into that sum.", code=Refusal.SUM_UNKNOWN
                )
            before = run.opened.get(digest.hex())
            if before is None:
                writing.append("unmask", self._content(digest, run.terms.name, survivors=names))
            elif list(before) != names:
                raise ProtocolError(
                    "This institution helped to open that sum for other survivors.",
                    code=Refusal.SUM_SURVIVORS,
                )

    def _runs(self, state: LedgerState) -> Iterator[RunAccount]:
        """Yield the run, after what was merged of it: the key that masks derive from is the same.

        Not other institutions' of the population, which may be in the very same sums.
        """
        population = state.populations.get(self._population)
        for run in population.runs.values() if population else ():
            if self._run in (run.terms.name, run.was):
                yield run

    def _run_of(self, state: LedgerState, digest: str) -> RunAccount | None:
        """Return the run that a sum is of; None if nothing is known of it."""
        return next((run for run in self._runs(state) if digest in run.masked), None)

    def _read(self, run: RunAccount, digest: str) -> MaskedBefore:
        """Return what was written of a sum, parsed once: a round looks at all before it."""
        content = run.masked[digest]
        known = self._parsed.get(digest)
        if known is None or known[0] is not content:
            (masked,) = _WRITTEN.validate_json(json.dumps([content]))
            known = self._parsed[digest] = content, masked
        return replace(known[1], survivors=run.opened.get(digest, ()))

    def _content(self, digest: bytes, run: str, **told: object) -> dict[str, object]:
        named = {"population": self._population, "run": run, "digest": digest.hex()}
        return {**named, **told, **self._named}


def _plain(masked: MaskedBefore) -> dict[str, Any]:
    """Return what is written of a sum: all but its survivors, who are known later."""
    (plain,) = _WRITTEN.dump_python([masked], mode="json")
    return {name: value for name, value in plain.items() if name != "survivors"}


__all__ = ["LedgerSums"]
