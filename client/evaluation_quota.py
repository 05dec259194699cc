"""How often an institution scores what a coordinator sends, on records that nobody protects.

A score on validation or test records is exact. One says little; with a score for each of many
models chosen for it, whoever knows the features of a test record reads its label. So a run may ask
for few of them, and only a run that has paid: one whose training the ledger has charged. Asked
again about the same model, an institution answers without counting.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from confide.errors import DeniedError, UnreadableError
from confide.protocol.refusals import Refusal
from confide.storage.files import make_private_folder, write_text


class Evaluations:
    """Which models each job had scored, on disk before an answer is given.

    Args:
        path: of the file; made when something is scored.
        most: different models a job.
    """

    def __init__(self, path: Path, *, most: int) -> None:
        self._path, self._most = path, most

    def admit(self, job: str, digest: str, *, has_trained: bool) -> None:
        """Count one model.

        Args:
            job: that asks.
            digest: of the model's tensors.
            has_trained: whether the ledger has charged a round of the job.

        Raises:
            DeniedError: if the job has not trained here, or had as many others scored.
            StorageError: if it cannot be written down.
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
