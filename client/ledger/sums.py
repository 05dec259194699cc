"""What a ledger remembers of masked sums: an event before a vector leaves, and one before a share.

Both are events of the run, durable with the ledger: whoever brings back an older copy of it to have
a sum opened for other survivors is noticed as with everything else that it holds.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from pydantic import ConfigDict, TypeAdapter

from confide.client.ledger.file import LedgerFile
from confide.client.ledger.state import LedgerState, RunAccount
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

    def get(self, digest: bytes) -> MaskedBefore | None:
        """Return what was masked in a context; None if nothing was."""
        run = self._run_of(self._file.read_again(), digest.hex())
        return None if run is None else _read(run, digest.hex())

    def all(self) -> Iterator[tuple[bytes, MaskedBefore]]:
        """Yield every sum of the run, oldest first."""
        population = self._file.read_again().populations.get(self._population)
        run = population.runs.get(self._run) if population else None
        if run is not None:
            for digest in list(run.masked):
                yield bytes.fromhex(digest), _read(run, digest)

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
                (content,) = _WRITTEN.dump_python([masked], mode="json")
                content.pop("survivors")
                writing.append("mask", self._content(digest, self._run, masked=content))
            elif _read(known, digest.hex()).values != masked.values:
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

    def _run_of(self, state: LedgerState, digest: str) -> RunAccount | None:
        """Return the run that a sum is of, if it is known.

        In all runs: those of a ledger that was merged into this one have other names, and the key
        of the job, from which masks derive, has not changed.
        """
        population = state.populations.get(self._population)
        runs = population.runs if population else {}
        own = runs.get(self._run)
        if own is not None and digest in own.masked:
            return own
        return next((run for run in runs.values() if digest in run.masked), None)

    def _content(self, digest: bytes, run: str, **told: object) -> dict[str, object]:
        named = {"population": self._population, "run": run, "digest": digest.hex()}
        return {**named, **told, **self._named}


def _read(run: RunAccount, digest: str) -> MaskedBefore:
    (masked,) = _WRITTEN.validate_json(json.dumps([run.masked[digest]]))
    return replace(masked, survivors=run.opened.get(digest, ()))


__all__ = ["LedgerSums"]
