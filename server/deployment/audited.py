"""The coordinator's audit log: what it starts, who takes part, what each round was made of.

Rounds are durable in a checkpoint before this log hears of them: a process that is killed in
between writes them when the run is resumed.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from confide.audit_log.compare import ENROLLED, ROUND, RUN
from confide.audit_log.log import AuditLog, signing_key
from confide.audit_log.user import user
from confide.errors import ConfideError, FlowerError
from confide.protocol.messages import Evaluation
from confide.protocol.plan import TrainingPlan, plan_sha256
from confide.security import certificates, ec_keys
from confide.security.ec_keys import PrivateKey
from confide.security.server_chain import read_all
from confide.server.deployment.kit import CoordinatorKit
from confide.server.run_folder import CONFIG
from confide.version import __version__

if TYPE_CHECKING:  # torch would come with them, into processes that need none
    from confide.server.rounds.state import RoundRecord, RunState

_LONGEST_REASON = 500


def open_audit_log(kit: CoordinatorKit) -> AuditLog:
    """Open a kit's log, whose heads ``heads.key`` signs; an earlier kit gets a key for it.

    Raises:
        ConfideError: if it is not whole, or cannot be written.
    """
    return AuditLog(kit.audit_log, side="coordinator", name=kit.name, key=_key(kit))


def _key(kit: CoordinatorKit) -> PrivateKey:
    return signing_key(kit.heads, kit.audit_log)


def start_of(kit: CoordinatorKit) -> dict[str, Any]:
    """Return what is told of a start: version, who, and the fingerprints of keys."""
    keys = {path.name: certificates.fingerprint(read_all(path)[0]) for path in kit.own_certificates}
    keys["audit head"] = ec_keys.key_fingerprint(_key(kit).public_key())
    return {"process": "server", "version": __version__, "user": user(), "keys": keys}


class RunAudit:
    """Writes of a run what an auditor asks for; a run's observer.

    Args:
        log: the coordinator's.
        kit: its kit, which has the institutions' keys.
        run_dir: RUN, whose config is told by its hash.
        job: the run's name.
    """

    def __init__(self, log: AuditLog, kit: CoordinatorKit, run_dir: Path, *, job: str) -> None:
        self._log, self._kit, self._run_dir = log, kit, run_dir
        self._job = job
        self._absent: dict[str, str] = {}

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Write why the run ends without a result, if it does.

        What Flower's processes do ends a process and no run: another one goes on.
        """
        try:
            yield
        except FlowerError:
            raise
        except ConfideError as error:
            with contextlib.suppress(ConfideError):  # such as of this very log
                self._failed(str(error))
            raise

    def planned(self, plan: TrainingPlan) -> None:
        """Write what institutions are about to be asked, by the hash that they know it by."""
        self._log.append(
            RUN,
            {
                "state": "planned",
                # Of a release before the run another one than the run's
                "job": plan.job,
                "plan": plan_sha256(plan.to_json()),
                "config": hashlib.sha256((self._run_dir / CONFIG).read_bytes()).hexdigest(),
                "unit": plan.privacy.unit,
                "epsilon": plan.privacy.epsilon if plan.private else None,
                "rounds": plan.num_rounds,
                "releases": plan.releases,
                "sums_alone": plan.sums is not None,
            },
        )

    def absent(self, absent: Mapping[str, str]) -> None:
        """Remember who does not take part, and by which code, until it is known who does."""
        self._absent = dict(absent)

    def revoked(self, name: str, key: str) -> None:
        """Write that an institution's key was revoked while the run goes on, without it."""
        content = {"institution": name, "job": self._job, "why": "revoked", "key": key}
        self._log.append("withdrawn", content)

    def started(self, clients: Mapping[str, int]) -> None:
        """Write who takes part, with the key that each is known by, and who does not and why."""
        for name in clients:
            path = self._kit.institutions.get(name)
            key = ec_keys.key_fingerprint(ec_keys.read_public_key(path)) if path else None
            self._log.append(ENROLLED, {"institution": name, "job": self._job, "key": key})
        content = {"job": self._job, "absent": self._absent}
        self._log.append(RUN, {"state": "begun", **content})

    def resumed(self, state: "RunState") -> None:
        """Write that an earlier process's rounds go on, and those that it could not write."""
        last = next(
            (
                int(event.content["round"])
                for event in self._log.newest_first()
                if event.kind == ROUND and event.content["job"] == self._job
            ),
            0,
        )
        self._log.append(
            RUN, {"state": "resumed", "job": self._job, "after_round": state.server_round}
        )
        for record in state.history:
            if record.server_round > last:
                self._write(record)

    def round_done(self, state: "RunState") -> None:
        """Write who was in a round, who was not and why, and how much travelled."""
        self._write(state.history[-1])

    def evaluated(
        self, split: str, server_round: int, evaluations: Mapping[str, Evaluation]
    ) -> None:
        """Write that models were scored, and of whom scores came; no score."""
        scored: Sequence[str] = sorted(evaluations)
        content = {"split": split, "round": server_round, "scored": scored}
        self._log.append(RUN, {"state": "scored", "job": self._job, **content})

    def finished(self, model_sha256: str | None) -> None:
        """Write which model came of it; None for statistics, of which none comes."""
        self._log.append(RUN, {"state": "finished", "job": self._job, "model_sha256": model_sha256})

    def _failed(self, reason: str) -> None:
        told = reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}..."
        self._log.append(RUN, {"state": "failed", "job": self._job, "failed": told})

    def _write(self, record: "RoundRecord") -> None:
        self._log.append(
            ROUND,
            {
                "job": self._job,
                "round": record.server_round,
                "accepted": list(record.accepted),
                "refused": dict(record.refused),
                "bytes_up": record.bytes_up,
                "bytes_down": record.bytes_down,
                "seconds": round(record.seconds, 3),
                "by_arrival": bool(record.staleness),
            },
        )


__all__ = ["RunAudit", "open_audit_log", "start_of"]
