"""One run in a ledger: its terms, fixed before its first round, and what it has reserved.

A pure fold; nothing is read or written.
"""

import functools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from confide.privacy.accounting import Schedule, epsilon
from confide.privacy.peers import PeerNoise
from confide.security.chain import Event


def run_name(institution: str, job: str) -> str:
    """Return the name of an institution's part of a job."""
    return f"{institution}: {job}"


@dataclass(frozen=True, kw_only=True)
class RunTerms:
    """What a run will do, fixed before its first round.

    Attributes:
        institution: name of the institution that trains; several may share one population.
        job: name of the plan's job.
        plan: SHA-256 of the plan.
        unit: protected unit: record or group.
        grouped_by: name of the column that identifies a record's owner; None if the unit is a
            record.
        num_units: n, the number of training units, declared public.
        noise_multiplier: sigma, the noise's standard deviation divided by the clipping norm.
        sampling_rate: q, the probability that a unit is in a step's sample.
        steps: number of steps in a round.
        max_rounds: number of rounds that are charged, planned and spare ones.
        epsilon: target epsilon of the plan.
        delta: target delta of the plan.
        accountant: name of the accountant that calibrated the noise.
        relation: neighbouring relation.
        reproducible: whether noise derives from a seed, which voids the guarantee towards anyone
            who knows the seed.
        score_noise: split -> sigma of one release of its scores, in units of their sensitivity;
            empty where no scores are charged.
        score_releases: split -> number of releases of its scores.
        edges_noise: sigma of the releases that the run rests on, as one, 0 for none: counted in
            what the run tells of its own epsilon, and each charged by a run of its own.
        honest_peers: institutions of each sum whose noise together keeps ``epsilon``; 1: its own
            does, and ``epsilon`` bounds what anybody learns.
    """

    institution: str
    job: str
    plan: str
    unit: str
    grouped_by: str | None
    num_units: int
    noise_multiplier: float
    sampling_rate: float
    steps: int
    max_rounds: int
    epsilon: float
    delta: float
    accountant: str
    relation: str
    reproducible: bool
    # Younger than the first ledgers: their events lack both, and nothing was charged for scores.
    score_noise: Mapping[str, float] = field(default_factory=dict)
    score_releases: Mapping[str, int] = field(default_factory=dict)
    edges_noise: float = 0.0
    honest_peers: int = 1

    @functools.cached_property
    def name(self) -> str:
        """Name of the run: an institution's part of a job."""
        return run_name(self.institution, self.job)

    def schedule(self, rounds: int) -> Schedule:
        """Return the schedule of a number of rounds."""
        return Schedule(
            noise_multiplier=self.noise_multiplier,
            sampling_rate=self.sampling_rate,
            steps=self.steps * rounds,
        )

    def whole(self, rounds: int) -> Schedule:
        """Return the schedule of a number of rounds and of the release that they rest on."""
        released = None
        if self.edges_noise:
            released = Schedule(noise_multiplier=self.edges_noise, sampling_rate=1.0, steps=1)
        return (
            self.schedule(rounds)
            if released is None
            else replace(self.schedule(rounds), before=released)
        )

    @property
    def epsilon_planned(self) -> float:
        """Epsilon that the whole run costs at most to a unit, at the plan's delta."""
        mechanisms = [self.whole(self.max_rounds), *self.scores(self.score_releases)]
        return max(epsilon(one, delta=self.delta, accountant=self.accountant) for one in mechanisms)

    def scores(self, releases: Mapping[str, int]) -> list[Schedule]:
        """Return the schedules of numbers of releases, by split; what is not charged has none."""
        return [
            Schedule(noise_multiplier=sigma, sampling_rate=1.0, steps=releases.get(split, 0))
            for split, sigma in self.score_noise.items()
        ]


@dataclass(frozen=True, kw_only=True)
class ReservedRound:
    """One reserved round of a run.

    Attributes:
        number: number of the reservation, from 1 in each run.
        server_round: number of the coordinator's round.
        reply: checksum of the durable reply; empty if the update was kept back; None until the
            round is settled.
        with_peers: noise of a record in the sum that its update goes into; None where no other's
            noise counts.
    """

    number: int
    server_round: int
    reply: str | None = None
    with_peers: PeerNoise | None = None

    @property
    def is_settled(self) -> bool:
        """Whether the round is finished and will not be computed again."""
        return self.reply is not None


@dataclass(kw_only=True)
class RunAccount:
    """What one run has reserved.

    Attributes:
        terms: terms of the run, charged whole.
        began: time of its first reservation, in seconds since 1970.
        rounds: identifier of the request -> reserved round.
        scores: (split, identifier of what was scored) -> what was released, noise included; the
            same question is answered with it.
        heads: federation -> hash of the newest event of its rounds; empty where there is one.
        masked: digest of a masked sum, in hexadecimal -> what is to be known of the vector that
            went into it; oldest first.
        opened: digest of such a sum -> names of those whose sum it helped to open.
        was: name that it had in the ledger that it was merged from; empty where it began here.
    """

    terms: RunTerms
    began: float
    rounds: dict[str, ReservedRound] = field(default_factory=dict)
    scores: dict[tuple[str, str], Mapping[str, object]] = field(default_factory=dict)
    heads: dict[str, str] = field(default_factory=dict)
    masked: dict[str, Mapping[str, object]] = field(default_factory=dict)
    opened: dict[str, tuple[str, ...]] = field(default_factory=dict)
    was: str = ""

    def releases(self) -> dict[str, int]:
        """Return split -> number of releases of its scores so far."""
        return dict(Counter(split for split, _ in self.scores))

    def apply(self, event: Event) -> None:
        """Apply the next event of this run."""
        content: Any = event.content
        digest = content["digest"]
        match event.kind:
            case "reserve":
                number = len(self.rounds) + 1
                told = content.get("with_peers")
                self.rounds[digest] = ReservedRound(
                    number=number,
                    server_round=content["round"],
                    with_peers=PeerNoise(**told) if told else None,
                )
            case "settle":
                self.rounds[digest] = replace(self.rounds[digest], reply=content["reply"])
            case "score":
                self.scores[content["split"], digest] = content["evaluation"]
            case "mask":
                self.masked[digest] = content["masked"]
            case "unmask":
                self.opened[digest] = tuple(content["survivors"])


__all__ = ["ReservedRound", "RunAccount", "RunTerms", "run_name"]
