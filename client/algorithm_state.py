"""Tensors that an algorithm or a codec keeps at an institution between rounds, a version a round.

Round r always starts from the newest version before r, and writes version r: asked again for r, by
a coordinator that lost its answer or went back to an older checkpoint, an institution starts from
where it started before.
"""

from dataclasses import dataclass, field
from pathlib import Path

from confide.config.strategies.codecs import CODECS
from confide.errors import ProtocolError, StorageError, UnreadableError
from confide.protocol.codecs.travel import travel_of
from confide.protocol.plan import TrainingPlan
from confide.protocol.refusals import Refusal
from confide.protocol.tensors import Tensors, shapes_of, split_prefix
from confide.storage.files import folder_name
from confide.storage.tensor_files import read_checked, write_checked
from confide.strategies.algorithm import prefixed
from confide.strategies.parts import build_algorithm


class ClientStates:
    """Versions of one institution's tensors.

    Args:
        folder: the institution's own, made when something is kept, readable by its owner alone.
        kept: number of versions of a job that stay; one more than the coordinator has checkpoints,
            so that it may go back to any.
    """

    def __init__(self, folder: Path, *, kept: int) -> None:
        self._folder = folder
        self._kept = kept

    def version(self, job: str, *, before: int) -> int | None:
        """Return the newest version before a round; None if there is none."""
        return max((number for number in self._versions(job) if number < before), default=None)

    def load(self, job: str, *, before: int, plan: str | None = None) -> Tensors | None:
        """Return what was kept after the newest round before a round; None if nothing was.

        Args:
            job: name of the job.
            before: the round.
            plan: SHA-256 of the plan that asks: what a job kept under another one, perhaps without
                privacy, is not there for it. None for whoever asks for none.

        Raises:
            UnreadableError: if it is damaged.
        """
        number = self.version(job, before=before)
        if number is None:
            return None
        try:
            found = read_checked(self._path(job, number))
            return found.tensors if plan in (None, found.metadata.get(_PLAN)) else None
        except UnreadableError as error:
            raise UnreadableError(
                f"{error} It holds what the algorithm keeps here; start a new run."
            ) from None

    def save(self, job: str, server_round: int, tensors: Tensors, *, plan: str) -> None:
        """Keep what a round left; later versions, of rounds that are to be done again, go.

        Args:
            job: name of the job.
            server_round: the round.
            tensors: what it left.
            plan: SHA-256 of its plan.

        Raises:
            StorageError: if it cannot be written; earlier versions stand.
        """
        path = self._path(job, server_round)
        try:
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            for folder in (self._folder, path.parent):
                folder.mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise StorageError(f"{path.parent} cannot be made: {error}.") from None
        write_checked(path, tensors, metadata={_PLAN: plan})
        earlier = sorted(
            (number for number in self._versions(job) if number < server_round), reverse=True
        )
        for number in self._versions(job):
            if number != server_round and number not in earlier[: self._kept - 1]:
                self._path(job, number).unlink(missing_ok=True)

    def _path(self, job: str, number: int) -> Path:
        return self._folder / folder_name(job) / f"round-{number:05}.safetensors"

    def _versions(self, job: str) -> list[int]:
        folder = self._folder / folder_name(job)
        return [
            int(path.stem.removeprefix("round-")) for path in folder.glob("round-*.safetensors")
        ]


_PLAN = "plan"
"""Key of a version's metadata."""
_CODEC = "codec/"
"""Prefix of what a codec keeps, beside what the algorithm does."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What an institution keeps between its rounds.

    Attributes:
        algorithm: the algorithm's own tensors.
        codec: what earlier messages left out, and what else the upload's codec keeps.
    """

    algorithm: Tensors = field(default_factory=dict)
    codec: Tensors = field(default_factory=dict)

    @property
    def joined(self) -> Tensors:
        """All of it, as it is stored and as it names a mechanism."""
        return self.algorithm | prefixed(_CODEC, self.codec)


def keeps_state(plan: TrainingPlan) -> bool:
    """Say whether an institution keeps tensors between the rounds of a plan."""
    return build_algorithm(plan.objective).first_kept is not None or remembers(plan)


def remembers(plan: TrainingPlan) -> bool:
    """Say whether what an update's message leaves out goes with the next one."""
    return CODECS[plan.upload.kind].remembers


def kept_before(
    states: ClientStates | None, plan: TrainingPlan, params: Tensors, *, before: int
) -> Kept:
    """Return what was kept before a round; nothing where a plan keeps nothing.

    Args:
        states: the institution's; None if it has no folder for them.
        plan: names the algorithm and the codec.
        params: tensors that a first round starts from.
        before: the round.

    Raises:
        ProtocolError: if state is kept, and there is no folder for it.
        UnreadableError: if what was kept is damaged.
    """
    if not keeps_state(plan):
        return Kept()
    if states is None:
        who = f"upload.kind={plan.upload.kind}" if remembers(plan) else _named(plan)
        raise ProtocolError(
            f"{who} keeps state, and there is no folder for it.", code=Refusal.NO_STATE
        )
    found = states.load(plan.job, before=before, plan=plan.sha256)
    if found is not None:
        own, codec = split_prefix(_CODEC, found)
        return Kept(algorithm=own, codec=codec)
    algorithm = build_algorithm(plan.objective)
    shapes = algorithm.reply_shapes(shapes_of(params))
    return Kept(
        algorithm=algorithm.first_kept(params) if algorithm.first_kept is not None else {},
        codec=travel_of(plan.upload).first_state(shapes),
    )


def _named(plan: TrainingPlan) -> str:
    return f"objective.kind={plan.objective.kind}"


__all__ = ["ClientStates", "Kept", "keeps_state", "kept_before"]
