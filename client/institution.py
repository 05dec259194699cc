"""The one door to an institution: a request in, a reply out.

Simulated grids and the deployed service both knock here and nowhere else. Whatever goes wrong inside becomes a coded
refusal: the text of an exception stays in the institution's own log.
"""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

from flwr.app import ArrayRecord

from confide.client.data import InstitutionData
from confide.client.schedule import LocalSchedule, make_schedule
from confide.client.state import ClientStates
from confide.client.trainer import Trainer
from confide.errors import ConfideError, PrivacyError, ProtocolError, StorageError
from confide.exchange import Evaluation, Reply, Request
from confide.plan import TrainingPlan
from confide.privacy.randomness import derive_key
from confide.records import LARGEST_FLOAT32, Tensors, decode, encode, sha256
from confide.strategies.objectives import first_state, keeps_state, next_state

log = logging.getLogger(__name__)

KeyFn = Callable[[str, str], bytes]
"""(job, mechanism) -> a 32-byte secret known to this institution alone; another mechanism has another secret."""


_RECENT = 4


@dataclass(frozen=True)
class Spent:
    """What a job has computed from an institution's training records.

    Attributes:
        count: mechanisms carried out; what the job has spent follows from it.
        recent: names of the last few. The same request names the same mechanism, which may be replayed at no cost; one that
            is no longer among these counts anew: a count may only be too high.
    """

    count: int = 0
    recent: tuple[str, ...] = ()

    def plus(self, mechanism: str) -> "Spent":
        """Count a mechanism, unless it is one of the recent ones."""
        if mechanism in self.recent:
            return self
        return Spent(self.count + 1, (*self.recent, mechanism)[-_RECENT:])


class SharedTensors:
    """Decodes a record once, however many institutions of this process are given it."""

    def __init__(self, trainer: Trainer) -> None:
        self._shapes = trainer.shapes
        self._record: ArrayRecord | None = None
        self._tensors: Tensors = {}
        self._digest = ""

    def decode(self, record: ArrayRecord) -> Tensors:
        """Check and decode a record.

        Raises:
            ProtocolError: naming the tensor that does not fit.
        """
        if self._record is not record:
            self._tensors = decode(record, self._shapes, max_value=LARGEST_FLOAT32)
            self._record, self._digest = record, ""
        return self._tensors

    def digest(self) -> str:
        """Return the SHA-256 of the tensors decoded last."""
        if not self._digest:
            self._digest = sha256(self._tensors)
        return self._digest


class Institution:
    """One institution: its records, its trainer, its count of rounds.

    Args:
        name: as the coordinator knows it.
        data: encoded records.
        trainer: may be shared by the institutions of a simulation.
        key_fn: where each round's randomness comes from.
        tensors: decoder, shared like the trainer.
        serves: the plan that the trainer was built for; a request must agree in task, backbone, tuning and unit.
        states: where tensors are kept between rounds, for algorithms that keep any; None declines these.
    """

    def __init__(  # noqa: PLR0913 - what an institution is made of
        self,
        name: str,
        *,
        data: InstitutionData,
        trainer: Trainer,
        key_fn: KeyFn,
        tensors: SharedTensors,
        serves: TrainingPlan,
        states: ClientStates | None = None,
    ) -> None:
        self._name = name
        self._serves = serves
        self.data = data
        self._trainer = trainer
        self._key_fn = key_fn
        self._tensors = tensors
        self._states = states
        self._spent: dict[str, Spent] = {}
        self._plans: dict[str, str] = {}
        self._schedules: dict[str, LocalSchedule] = {}
        self._handlers = {"query": self._describe, "train": self._train, "evaluate": self._evaluate}

    @property
    def name(self) -> str:
        """As the coordinator knows it."""
        return self._name

    def spent(self, job: str) -> Spent:
        """Return what a job has computed from training records here."""
        return self._spent.get(job, Spent())

    def recall(self, job: str, spent: Spent) -> None:
        """Take over what another process of the same simulation knows of a job, in place of what is known here."""
        self._spent[job] = spent

    def handle(self, kind: str, request: Request) -> Reply:
        """Answer one request.

        Args:
            kind: query, train or evaluate.
            request: from the coordinator, not trusted.

        Returns:
            An answer, or a refusal with a code; never raises for what a coordinator can cause.
        """
        try:
            plan = TrainingPlan.from_json(request.plan)
            return self._handlers[kind](plan, request)
        except ProtocolError as error:
            log.warning("%s declines a %s request: %s", self.name, kind, error)
            return self._refuse(error.code)
        except PrivacyError as error:
            log.warning("%s declines a %s request: %s", self.name, kind, error)
            return self._refuse("privacy")
        except StorageError as error:
            log.warning("%s declines a %s request: %s", self.name, kind, error)
            return self._refuse("storage")
        except ConfideError as error:
            log.warning("%s declines a %s request: %s", self.name, kind, error)
            return self._refuse("cannot_comply")
        except Exception:
            log.exception("%s failed to answer a %s request.", self.name, kind)
            return self._refuse("internal_error")

    def _refuse(self, code: str, **figures: float) -> Reply:
        return Reply(institution=self.name, refusal=code, figures=figures)

    def _describe(self, plan: TrainingPlan, request: Request) -> Reply:
        schedule = self._schedule(plan, request.plan)
        figures: dict[str, float] = {}
        if plan.private:
            total = schedule.epsilon_after(schedule.max_rounds, delta=plan.privacy.delta, accountant=plan.privacy.accountant)
            figures = {
                "noise_multiplier": schedule.noise_multiplier,
                "sampling_rate": schedule.sampling_rate,
                "epsilon_planned": total,
            }
        return Reply(institution=self.name, num_examples=schedule.num_examples, figures=figures)

    def _train(self, plan: TrainingPlan, request: Request) -> Reply:
        start = self._decode(request)
        schedule = self._schedule(plan, request.plan)
        kept = self._kept(plan, request.server_round)
        mechanism = self._mechanism(plan, request, kept)
        before = self.spent(plan.job)
        after = before.plus(mechanism)
        if request.server_round not in range(1, schedule.max_rounds + 1) or after.count > schedule.max_rounds:
            return self._refuse("rounds_spent", asked=max(after.count, request.server_round), allowed=schedule.max_rounds)
        if plan.private and after == before and self._trainer.workload.compute.device.type != "cpu":
            # Other devices may not repeat a computation bit for bit, and equal noise on two sums would cancel.
            return self._refuse("already_answered")
        # Round r scores the tensors it starts from, so that a round is one exchange.
        evaluations = self._score(start, ("validation",))
        self._spent[plan.job] = after  # counted before the first step: a crash can only over-count
        secret = self._secret(plan, request.server_round, mechanism)
        update = self._trainer.train(start, self.data.train, plan=plan, schedule=schedule, secret=secret, kept=kept)
        if kept is not None and self._states is not None:
            self._states.save(plan.job, request.server_round, next_state(plan.objective, kept, update))
        figures = {}
        if plan.private:
            epsilon = schedule.epsilon_after(after.count, delta=plan.privacy.delta, accountant=plan.privacy.accountant)
            figures = {"epsilon": epsilon}
        return Reply(
            institution=self.name,
            arrays=encode(update),
            num_examples=schedule.num_examples,
            evaluations=evaluations,
            figures=figures,
        )

    def _kept(self, plan: TrainingPlan, server_round: int) -> Tensors | None:
        """Return what the algorithm kept here before this round; None where it keeps nothing."""
        if not keeps_state(plan.objective):
            return None
        if self._states is None:
            raise ProtocolError(
                f"objective.kind={plan.objective.kind} keeps state, and there is no folder for it.", code="no_state"
            )
        return self._states.load(plan.job, before=server_round) or first_state(self._trainer.shapes)

    def _mechanism(self, plan: TrainingPlan, request: Request, kept: Tensors | None) -> str:
        """Name what a request computes from training records.

        Under privacy the same request names the same mechanism, whose noise may be replayed at no cost; other tensors, another
        plan, another round or another kept state is a new one, with noise of its own: equal noise on two inputs would cancel.
        """
        if not plan.private:
            return str(request.server_round)
        parts = (request.plan, str(request.server_round), self._tensors.digest(), sha256(kept) if kept else "")
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]

    def _secret(self, plan: TrainingPlan, server_round: int, mechanism: str) -> bytes:
        """Return what a round's randomness derives from; the plan's seed only where it orders batches without privacy."""
        if plan.private or plan.seed is None:
            return self._key_fn(plan.job, mechanism)
        return derive_key(plan.seed.to_bytes(8, "little"), "order", self.name, plan.job, server_round)

    def _evaluate(self, plan: TrainingPlan, request: Request) -> Reply:
        self._schedule(plan, request.plan)
        return Reply(
            institution=self.name,
            num_examples=len(self.data.train),
            evaluations=self._score(self._decode(request), [split for split in request.splits if split != "train"]),
        )

    def _score(self, tensors: Tensors, splits: tuple[str, ...] | list[str]) -> dict[str, Evaluation]:
        """Score tensors on splits that are not trained on; empty splits are left out."""
        scored: dict[str, Evaluation] = {}
        for split in splits:
            examples = self.data.split(split)
            if len(examples):
                scored[split] = {**self._trainer.evaluate(tensors, examples), "num_examples": len(examples)}
        return scored

    def _decode(self, request: Request) -> Tensors:
        if request.arrays is None:
            raise ProtocolError("Expected tensors with the request.", code="tensor_names")
        return self._tensors.decode(request.arrays)

    def _schedule(self, plan: TrainingPlan, text: str) -> LocalSchedule:
        if text not in self._schedules:
            self._check_served(plan)
            if self._plans.setdefault(plan.job, text) != text:
                raise ProtocolError(f"Job {plan.job} comes with another plan than before.", code="plan_changed")
            self._schedules[text] = make_schedule(plan, num_examples=len(self.data.train))
        return self._schedules[text]

    def _check_served(self, plan: TrainingPlan) -> None:
        for part in ("task", "backbone", "backbone_sha256", "tuning"):
            if getattr(plan, part) != getattr(self._serves, part):
                raise ProtocolError(f"The plan's {part} is not what this institution serves.", code="plan_not_served")
        if plan.privacy.unit != self._serves.privacy.unit:
            raise PrivacyError(
                f"The plan asks for unit={plan.privacy.unit}, this institution serves {self._serves.privacy.unit}."
            )


__all__ = ["Institution", "KeyFn", "SharedTensors", "Spent"]
