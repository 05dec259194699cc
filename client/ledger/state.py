"""The state that follows from a ledger's events: populations, their runs, and what they have spent.

A pure fold; nothing is read or written.
"""

import functools
import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from confide.errors import DeniedError
from confide.privacy.accounting import Schedule, epsilon
from confide.privacy.budget import Budget, Charge, suitable_delta, suits
from confide.privacy.peers import PeerNoise
from confide.security.chain import Event
from confide.security.ledger_heads import parse_head


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


@dataclass(kw_only=True)
class PopulationAccount:
    """One declared population, its budget and its runs.

    Attributes:
        name: name of the population (``budget.id``).
        unit: unit that the budget promises to protect: record or group.
        budget: lifetime budget.
        runs: name -> run, in the order in which they began.
        is_separate: whether people decided that its members may spend other budgets beside it.
        budget_with_peers: lifetime budget against coordinators that see sums alone; None where none
            was promised.
    """

    name: str
    unit: str
    budget: Budget
    runs: dict[str, RunAccount] = field(default_factory=dict)
    is_separate: bool = False
    budget_with_peers: Budget | None = None

    def charges(self, *, reserved_only: bool = False) -> list[Charge]:
        """Return the charge of each run.

        Args:
            reserved_only: count only reserved rounds; otherwise each run whole, as it is charged.
        """
        if not reserved_only:
            return [self.charge(run.terms) for run in self.runs.values()]
        return [
            self.charge(run.terms, rounds=len(run.rounds), releases=run.releases())
            for run in self.runs.values()
        ]

    def charge(
        self,
        terms: RunTerms,
        *,
        rounds: int | None = None,
        releases: Mapping[str, int] | None = None,
    ) -> Charge:
        """Return the charge of a run.

        Args:
            terms: terms of the run.
            rounds: number of rounds; None for all that it may have.
            releases: split -> number of releases of scores; None for all that it may have.
        """
        return Charge.of(
            terms.schedule(terms.max_rounds if rounds is None else rounds),
            unit=terms.unit,
            budget_unit=self.unit,
            scores=terms.scores(terms.score_releases if releases is None else releases),
        )

    def num_units(self, terms: RunTerms | None = None) -> int:
        """Return the population's number of units as far as it is known; 0 before any run.

        It counts too many rather than too few: each institution with the most that one of its runs
        had, as if no unit were at two of them.

        Args:
            terms: terms of a run that may begin.
        """
        most: dict[str, int] = {}
        for known in [*(run.terms for run in self.runs.values()), *([terms] if terms else [])]:
            most[known.institution] = max(known.num_units, most.get(known.institution, 0))
        return sum(most.values())

    def check_delta(self, delta: float, terms: RunTerms | None = None) -> None:
        """Check that a lifetime delta is below 1 / n.

        Args:
            delta: lifetime delta, declared or the policy's.
            terms: terms of a run that may begin.

        Raises:
            DeniedError: if it is not, with both and what to write instead.
        """
        units = self.num_units(terms)
        if suits(delta, units):
            return
        better = suitable_delta(units)
        raise DeniedError(
            f"policy.budget.delta={delta:g} is not below 1/n = {1 / units:g} for the {units} units"
            f" of population {self.name}: one could be published outright. Write"
            f" policy.budget.delta={better:g}, or: confide ledger budget LEDGER --declare"
            f" {shlex.quote(self.name)} --epsilon {self.budget.epsilon:g} --delta {better:g}",
            code="budget_delta",
            figures={"asked": delta, "allowed": better},
        )

    def check_affordable(self, terms: RunTerms, bound: Budget) -> None:
        """Check that a budget covers a whole run after all that was charged before.

        Args:
            terms: terms of the run.
            bound: this population's budget, or a tighter one of the same order.

        Raises:
            DeniedError: if it does not, with what would be committed and what is allowed; if its
                delta is not below 1 / n; or if records are grouped by another column than before.
        """
        self.check_delta(bound.delta, terms)
        # Groups by another column are other groups: the budget's promise to the first ones would
        # no longer be what is accounted for
        before_by = {
            run.terms.grouped_by for run in self.runs.values() if run.terms.unit == "group"
        }
        if self.unit == terms.unit == "group" and before_by - {terms.grouped_by}:
            raise DeniedError(
                f"Population {self.name} was grouped by {', '.join(map(str, before_by))} before,"
                f" and now by {terms.grouped_by}: its budget promises protection to the groups it"
                " began with.",
                code="budget_unit",
            )
        charge = self.charge(terms)
        history = self.charges()
        if bound.admits(history, charge):
            return
        before = bound.spent(history)
        after = bound.spent([*history, charge])
        near_limit = (
            " Groups cost more under a budget for records: a new population may declare unit=group."
            if charge.group_under_record_budget
            else ""
        )
        raise DeniedError(
            f"Population {self.name} has committed epsilon {before:.4g} of {bound.epsilon:g} at"
            f" delta {bound.delta:g}; with job {terms.job} it would be {after:.4g}. Ask for a"
            " smaller epsilon or fewer rounds; `confide ledger budget` changes what an institution"
            f" allows.{near_limit}",
            code="budget_exhausted",
            figures={"asked": after, "allowed": bound.epsilon, "committed": before},
        )

    @property
    def committed(self) -> float:
        """Epsilon of all runs, each whole."""
        return self.budget.spent(self.charges())

    @property
    def spent(self) -> float:
        """Epsilon of the rounds reserved so far."""
        return self.budget.spent(self.charges(reserved_only=True))


@dataclass
class LedgerState:
    """The fold of a ledger's events.

    Attributes:
        number: number of the newest event applied.
        hash: hash of that event.
        public_key: public key of exports' signatures; None before the first event.
        populations: name -> population.
        approved: (job, plan) pairs that the institution's people approved.
        countersigned: hashes of the events whose heads a coordinator countersigned.
    """

    number: int = 0
    hash: str = ""
    public_key: str | None = None
    populations: dict[str, PopulationAccount] = field(default_factory=dict)
    approved: set[tuple[str, str]] = field(default_factory=set)
    countersigned: set[str] = field(default_factory=set)

    def apply(self, event: Event) -> None:
        """Apply the next event.

        Raises:
            ValueError: if the kind of event is unknown.
        """
        content: Any = event.content
        match event.kind:
            case "ledger":
                self.public_key = content["public_key"]
            case "budget":
                name, unit = content["population"], content["unit"]
                budget = Budget(**{item.name: content[item.name] for item in fields(Budget)})
                account = self.populations.setdefault(
                    name, PopulationAccount(name=name, unit=unit, budget=budget)
                )
                account.budget = budget
                promised = content.get("with_peers")
                account.budget_with_peers = Budget(**promised) if promised else None
                # What was charged was charged for the unit that the runs protect.
                account.unit = account.unit if account.runs else unit
                account.is_separate = account.is_separate or content.get("separate", False)
            case "run":
                known = [item.name for item in fields(RunTerms) if item.name in content]
                terms = RunTerms(**{name: content[name] for name in known})
                runs = self.populations[content["population"]].runs
                was = content.get("was", "")
                runs[terms.name] = RunAccount(terms=terms, began=event.time, was=was)
            case "reserve" | "settle" | "score" | "mask" | "unmask":
                self._run(content).apply(event)
            case "approve":
                self.approved.add((content["job"], content["plan"]))
            case "countersigned":
                head = parse_head(content["head"])
                self.countersigned |= {head.digest} if head else set()
            case "units" | "clock" | "merged":
                pass  # for people to read: new units, a clock put right, a ledger taken over
            case _:
                raise ValueError(f"event {event.number} is of unknown kind {event.kind}")
        self.number, self.hash = event.number, event.hash
        # A coordinator is told its own: only what it asked for changes that
        if "run" in content:
            self._run(content).heads[content.get("federation", "")] = event.hash

    def _run(self, content: Any) -> RunAccount:
        return self.populations[content["population"]].runs[content["run"]]


__all__ = [
    "LedgerState",
    "PopulationAccount",
    "ReservedRound",
    "RunAccount",
    "RunTerms",
    "run_name",
]
