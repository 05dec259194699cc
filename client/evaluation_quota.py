"""A limit on how many exact scores of validation and test records ever leave a population.

An exact score reveals little by itself. Scores of many models chosen for the purpose reveal labels:
whoever knows the features of a record can infer its label from a few of them. So there is one
count, over rounds, evaluations and runs. A repeated request about the same model is answered the
same and not counted again.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from confide.errors import DeniedError, UnreadableError
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
        make_private_folder(self._path.parent)
        lock = self._path.with_name(f"{self._path.name}.lock")
        busy = f"Another process holds {lock}; end it first."
        with locked(lock, otherwise=busy, wait_s=_LOCK_S):
            given = dict(self._read())
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

    def _read(self) -> Mapping[str, Sequence[str]]:
        try:
            read: Mapping[str, Sequence[str]] = json.loads(self._path.read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise UnreadableError(
                f"{self._path} cannot be read ({error}): how many exact scores were given is not"
                " known. Restore it, or set policy.metrics_privacy=noisy."
            ) from None
        return read


__all__ = ["Evaluations"]
