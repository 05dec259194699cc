"""A round of training in an institution's ledger: identified, reserved, settled.

A round is counted before its first step, and its reply is durable before it is sent: whatever
breaks off in between, what was spent is never more than what was counted.
"""

import functools
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from confide.client.ledger.ledger import Ledger
from confide.client.ledger.runs import RunTerms, run_name
from confide.client.records.encoded import InstitutionData
from confide.client.schedule import LocalSchedule, score_schedules
from confide.errors import PrivacyError
from confide.privacy.accounting import bracket, epsilon
from confide.privacy.peers import PeerNoise
from confide.privacy.randomness import KEY_BYTES, derive_key
from confide.protocol.messages import Reply, Request
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import DecodedTensors, Tensors
from confide.storage.tensor_files import sha256

KeyFn = Callable[[str, str], bytes]
"""(job, mechanism) -> a 32-byte secret known to this institution alone; another mechanism has
another secret."""


@dataclass(frozen=True, kw_only=True)
class Randomness:
    """Where an institution's noise, sampling masks and the noise of its scores come from.

    Only ``by_round`` lets one stream meet two inputs: whoever gets the answers to two requests of
    a round that differ in tensors or plan can subtract it. It is for simulations and exercises on
    public records, whose seed voids the guarantee anyway, so that a last bit that another processor
    rounds otherwise does not draw all noise anew.

    Attributes:
        key_fn: source of secrets; None for fresh ones from the operating system.
        reproducible: whether ``key_fn`` derives from a seed; whoever knows it can remove the noise.
        by_round: whether secrets follow from job and round, whatever tensors came.

    Raises:
        PrivacyError: if secrets would follow from the round though nobody gave a seed.
    """

    key_fn: KeyFn | None
    reproducible: bool
    by_round: bool = False

    def __post_init__(self) -> None:
        if self.by_round and not (self.reproducible and self.key_fn):
            raise PrivacyError(
                f"by_round={self.by_round}, reproducible={self.reproducible}: noise follows from"
                " the round alone only where a seed makes it repeat anyway; leave by_round=False."
            )

    def secret(self, job: str, mechanism: str, *, place: str) -> bytes | None:
        """Return what the randomness of a mechanism derives from; None for a fresh secret.

        Args:
            job: of the plan.
            mechanism: identifier of what is asked: plan, round, tensors, kept state.
            place: identifier of the round, and of what is released in it.
        """
        if self.key_fn is None:
            return None
        return self.key_fn(job, place if self.by_round else mechanism)


@dataclass(frozen=True, kw_only=True)
class RoundKey:
    """What identifies one round of training at one institution.

    Attributes:
        run: the institution's part of a job.
        mechanism: identifier of what is asked, by :func:`mechanism_of`.
        digest: the ledger's identifier of that mechanism, whatever the records are by now.
    """

    run: str
    mechanism: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class ReservedRound:
    """A round that was counted and may be computed.

    Attributes:
        secret: 32 bytes that its randomness derives from.
        figures: what the run has spent with it; empty without privacy.
        is_replay: whether the same mechanism was reserved before.
    """

    secret: bytes
    figures: dict[str, float]
    is_replay: bool


class RoundAccount:
    """Counts an institution's rounds of training in its ledger.

    Args:
        name: name of the institution.
        data: its records.
        ledger: what was spent.
        randomness: where a round's randomness comes from.
        noisy_scores: whether runs release noisy scores, which are charged with them.
        brackets: whether a run's epsilon is told as that of a few numbers of rounds, each an upper
            bound for those below: to work it out for each round of thousands takes longer than to
            train. What is counted, and how much noise is added, does not change.
    """

    def __init__(
        self,
        name: str,
        *,
        data: InstitutionData,
        ledger: Ledger,
        randomness: Randomness,
        noisy_scores: bool = False,
        brackets: bool = False,
    ) -> None:
        self._name = name
        self._data = data
        self._ledger = ledger
        self._randomness = randomness
        self._noisy_scores = noisy_scores
        self._brackets = brackets
        self._terms: tuple[TrainingPlan, LocalSchedule, RunTerms] | None = None

    @property
    def name(self) -> str:
        """Name of the institution."""
        return self._name

    def identify(
        self,
        plan: TrainingPlan,
        request: Request,
        start: DecodedTensors,
        kept: Tensors | None,
        *,
        context: str = "",
    ) -> RoundKey:
        """Return what identifies the round that a request asks for.

        Args:
            plan: the request's plan.
            request: from the coordinator.
            start: its tensors.
            kept: what the algorithm kept here before this round; None where it keeps nothing.
            context: digest of the masked sum that its update goes into; empty for none. Into
                another sum goes another update, with noise of its own, which is another round.
        """
        mechanism = mechanism_of(plan, request, start, kept)
        # A seed gives the same noise with masks and without
        if context and plan.private and not self._randomness.reproducible:
            mechanism = _hashed(mechanism, context)
        # Without the records: a coordinator that asks again would learn that they have changed
        digest = self._ledger.digest(_hashed(mechanism, context) if context else mechanism)
        return RoundKey(run=run_name(self._name, plan.job), mechanism=mechanism, digest=digest)

    def terms(self, plan: TrainingPlan, schedule: LocalSchedule) -> RunTerms:
        """Write down what a run will do, for the ledger."""
        known = self._terms
        # Held, so that nothing else can come to be the same.
        if known is None or known[0] is not plan or known[1] is not schedule:
            known = self._terms = plan, schedule, self._new_terms(plan, schedule)
        return known[2]

    def _new_terms(self, plan: TrainingPlan, schedule: LocalSchedule) -> RunTerms:
        privacy = plan.privacy
        scores = score_schedules(plan) if self._noisy_scores else {}
        return RunTerms(
            institution=self._name,
            job=plan.job,
            plan=plan.sha256,
            unit=privacy.unit,
            grouped_by=self._data.group_column if privacy.unit == "group" else None,
            num_units=schedule.num_examples,
            noise_multiplier=schedule.noise_multiplier,
            sampling_rate=schedule.sampling_rate,
            steps=schedule.round_steps,
            max_rounds=schedule.max_rounds,
            epsilon=privacy.epsilon,
            delta=privacy.delta,
            accountant=privacy.accountant,
            relation=plan.relation,
            reproducible=self._randomness.reproducible,
            score_noise={split: one.noise_multiplier for split, one in scores.items()},
            score_releases={split: one.steps for split, one in scores.items()},
            edges_noise=schedule.edges_noise,
            honest_peers=schedule.honest_peers,
        )

    @property
    def randomness(self) -> Randomness:
        """Where randomness comes from."""
        return self._randomness

    def spent(self, terms: RunTerms, *, rounds: int | None = None) -> float:
        """Return the epsilon that a run has cost at most to a unit here, at the plan's delta.

        Args:
            terms: terms of the run.
            rounds: rounds counted so far; None for what the ledger says.
        """
        count = self._ledger.spent(terms.name).count if rounds is None else rounds
        if self._brackets and 0 < count <= terms.max_rounds:
            count = bracket(count, most=terms.max_rounds)
        # A unit is read by training or by the scores of one split.
        mechanisms = [terms.whole(count)]
        if terms.score_noise:
            mechanisms += terms.scores(self._ledger.releases(terms.name))
        return max(
            epsilon(one, delta=terms.delta, accountant=terms.accountant) for one in mechanisms
        )

    def answered(self, key: RoundKey) -> Reply | None:
        """Return the durable reply to a round that was answered before; None if there is none."""
        return self._ledger.answered(key.run, key.digest)

    def figures(self, terms: RunTerms, *, rounds: int | None = None) -> dict[str, float]:
        """Return what a run has cost at most to a unit here, as the coordinator is told it.

        Args:
            terms: terms of the run.
            rounds: rounds counted so far; None for what the ledger says.
        """
        told = {"epsilon": self.spent(terms, rounds=rounds)}
        noise = self._ledger.spent(terms.name).with_peers
        if noise is not None and noise.honest > 1:
            among = replace(terms, noise_multiplier=noise.noise_multiplier)
            told["epsilon_with_peers"] = self.spent(among, rounds=rounds)
            told["honest_peers"] = float(noise.honest)
        return told

    def reserve(
        self,
        key: RoundKey,
        plan: TrainingPlan,
        schedule: LocalSchedule,
        server_round: int,
        *,
        with_peers: PeerNoise | None = None,
    ) -> ReservedRound:
        """Count a round before its first step.

        Args:
            key: what identifies it.
            plan: its plan.
            schedule: the work that it comes to here.
            server_round: its number.
            with_peers: noise of a record in its sum; None where no other's noise counts.

        Raises:
            DeniedError: if the budget or the schedule does not cover it.
            LedgerError: if it cannot be written.
        """
        if not plan.private and plan.seed is not None:
            # Nothing is to be hidden, and a run is to repeat wherever it runs.
            seed = plan.seed.to_bytes(8, "little")
            order = derive_key(seed, "order", self._name, plan.job, server_round)
            return ReservedRound(secret=order, figures={}, is_replay=False)
        place = f"round/{server_round}"
        secret = self._randomness.secret(plan.job, key.mechanism, place=place)
        if not plan.private:
            secret = secret or os.urandom(KEY_BYTES)
            return ReservedRound(secret=secret, figures={}, is_replay=False)
        terms = self.terms(plan, schedule)
        reserved = self._ledger.reserve(
            terms, server_round, key.digest, key=secret, with_peers=with_peers
        )
        figures = self.figures(terms, rounds=reserved.rounds)
        # Equal noise on two data sets cancels. One update leaves for each question, so that a round
        # which was cut off, and is computed on other records now, is counted once all the same.
        fresh = self._ledger.keeps_account and self._randomness.key_fn is None
        noise = derive_key(reserved.key, "records", self._data.digest) if fresh else reserved.key
        return ReservedRound(secret=noise, figures=figures, is_replay=reserved.is_replay)

    def settle(self, key: RoundKey, reply: Reply, update: Tensors) -> None:
        """Make the reply of a private round durable.

        Raises:
            StorageError: if it cannot be written; the reservation stands.
            DeniedError: if another process settled it meanwhile.
        """
        self._ledger.settle(key.run, key.digest, reply, update)

    def abandon(self, key: RoundKey) -> None:
        """Settle a round whose update may not leave: it is never computed again."""
        self._ledger.abandon(key.run, key.digest)


def mechanism_of(
    plan: TrainingPlan, request: Request, start: DecodedTensors, kept: Tensors | None
) -> str:
    """Return the identifier of the mechanism's invocation, which the ledger counts.

    Under privacy the same request has the same identifier, and its noise may be replayed at no
    cost. Other tensors, another plan, another round or another kept state is a new invocation with
    noise of its own, but for :class:`Randomness` ``by_round``: equal noise on two inputs would
    cancel. A release reads neither tensors nor the round: the plan alone is the question, whatever
    a coordinator sends beside it.
    """
    if not plan.private:
        return str(request.server_round)
    if plan.releases:
        return _hashed(request.plan)
    kept_digest = sha256(kept) if kept else ""
    return _hashed(request.plan, str(request.server_round), start.digest, kept_digest)


# A simulation asks many institutions the same, and plans are long texts.
@functools.lru_cache(maxsize=8)
def _hashed(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


__all__ = ["KeyFn", "Randomness", "ReservedRound", "RoundAccount", "RoundKey", "mechanism_of"]
