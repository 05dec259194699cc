"""A limit on how many distinct models a job may have evaluated on unprotected records.

A score on validation or test records is exact. One reveals little; with scores for many models
chosen for the purpose, anyone who knows the features of a test record can infer its label. So a run
may ask for few of them, and only after the ledger has charged it for training. A repeated request
about the same model is not counted again.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from confide.errors import DeniedError, UnreadableError
from confide.protocol.refusals import Refusal
from confide.storage.files import make_private_folder, write_text


class Evaluations:
    """The models that each job had evaluated, stored on disk before a score is given.

    Args:
        path: path of the file; created when a model is evaluated first.
        most: largest number of distinct models for a job.
    """

    def __init__(self, path: Path, *, most: int) -> None:
        self._path, self._most = path, most

    def admit(self, job: str, digest: str, *, has_trained: bool) -> None:
        """Count one model.

        Args:
            job: name of the job that asks.
            digest: digest of the model's tensors.
            has_trained: whether the ledger has charged a round of the job.

        Raises:
            DeniedError: if the job has not trained here, or has used up its evaluations.
            StorageError: if the count cannot be stored.
        """
        if not has_trained:
            raise DeniedError(
                f"Job {job} asks for scores and has not trained here.", code=Refusal.NOT_TRAINED
            )
        scored = dict(self._read())
        known = list(scored.get(job, ()))
        if digest in known:
            return
        if len(known) >= self._most:
            raise DeniedError(
                f"policy.max_evaluations: job {job} had {len(known)} models scored, allowed"
                f" {self._most}.",
                code=Refusal.POLICY_MAX_EVALUATIONS,
                figures={"asked": len(known) + 1.0, "allowed": float(self._most)},
            )
        # Before the score leaves: a crash in between costs an evaluation and never gives one away
        make_private_folder(self._path.parent)
        write_text(self._path, json.dumps(scored | {job: [*known, digest]}), mode=0o600)

    def _read(self) -> Mapping[str, Sequence[str]]:
        try:
            read: Mapping[str, Sequence[str]] = json.loads(self._path.read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise UnreadableError(
                f"{self._path} cannot be read ({error}); remove it if no run is under way."
            ) from None
        return read


__all__ = ["Evaluations"]
