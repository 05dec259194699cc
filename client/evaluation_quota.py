"""A limit on how many exact scores of validation and test records ever leave a population.

An exact score reveals little by itself. Scores of many models chosen for the purpose reveal labels:
whoever knows the features of a record can infer its label from a few of them. So there is one
count, over rounds, evaluations and runs. A repeated request about the same model is answered the
same and not counted again.

Exact counts of records by score tell many labels at once, so that they leave for one model a job
and split: the one that a run evaluates when it ends. Those by group leave for one declaration of
groups.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from confide.errors import DeniedError, UnreadableError, words_of
from confide.protocol.refusals import Refusal
from confide.storage.files import locked, make_private_folder, write_text

_LOCK_S = 60.0


class Evaluations:
    """The exact scores that were given, stored on disk before each is given.

    Args:
        path: path of the file; created with the first score.
        most: largest number of scores, over all jobs.
    """

    def __init__(self, path: Path, *, most: int) -> None:
        self._path, self._most = path, most

    def admit(self, job: str, digest: str) -> None:
        """Count one score.

        Args:
            job: name of the job that asks.
            digest: identifier of plan, tensors and records that are scored.

        Raises:
            ConfigError: if another process holds the count for a minute.
            DeniedError: if all scores were given.
            StorageError: if the count cannot be stored.
        """
        with self._held():
            given = dict(_read(self._path))
            if digest in given.get(job, ()):
                return
            count = sum(map(len, given.values()))
            if count >= self._most:
                raise DeniedError(
                    f"policy.max_evaluations: asked {count + 1} exact scores, allowed"
                    f" {self._most}. Raise it, or set policy.metrics_privacy=noisy.",
                    code=Refusal.POLICY_MAX_EVALUATIONS,
                    figures={"asked": count + 1.0, "allowed": float(self._most)},
                )
            # Before the score leaves: a crash in between costs one and never gives one away
            stored = given | {job: [*given.get(job, ()), digest]}
            write_text(self._path, json.dumps(stored), mode=0o600)

    def admits_counts(self, job: str, split: str, digest: str) -> bool:
        """Tell whether counts may leave beside a score: those of the first model, and again.

        Args:
            job: name of the job that asks.
            split: whose records are counted.
            digest: identifier of plan, tensors and records that are scored.

        Raises:
            ConfigError, StorageError: as :meth:`admit`.
        """
        path = self._path.with_name(f"{self._path.name}.counts")
        with self._held():
            given = dict(_read(path))
            first = given.setdefault(f"{split}/{job}", [digest])
            if first == [digest]:
                write_text(path, json.dumps(given), mode=0o600)
            return first == [digest]

    def admits_groups(self, declared: str) -> bool:
        """Tell whether sums by group may leave: of the first groups that were declared, and again.

        Bands that move from job to job would tell of the few between them.

        Args:
            declared: identifier of the groups.

        Raises:
            ConfigError, StorageError: as :meth:`admit`.
        """
        path = self._path.with_name(f"{self._path.name}.groups")
        with self._held():
            given = dict(_read(path))
            first = given.setdefault("groups", [declared])
            if first == [declared]:
                write_text(path, json.dumps(given), mode=0o600)
            return list(first) == [declared]

    def _held(self) -> AbstractContextManager[None]:
        """Keep other processes from the files."""
        make_private_folder(self._path.parent)
        lock = self._path.with_name(f"{self._path.name}.lock")
        return locked(
            lock, otherwise=f"Another process holds {lock}; end it first.", wait_s=_LOCK_S
        )


def _read(path: Path) -> Mapping[str, Sequence[str]]:
    try:
        read: Mapping[str, Sequence[str]] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UnreadableError(
            f"{path} cannot be read ({words_of(error)}): how many exact scores were given is not"
            " known. Restore it, or set policy.metrics_privacy=noisy."
        ) from None
    return read


__all__ = ["Evaluations"]
