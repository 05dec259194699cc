"""What follows from a ledger's events: populations, their runs, and what these have spent.

Pure; nothing is read or written.
"""

from dataclasses import dataclass, field, fields, replace
from typing import Any

from confide.client.ledger.event_log import Event
from confide.errors import DeniedError
from confide.privacy.accounting import Schedule
from confide.privacy.budget import Budget, Charge


def run_name(institution: str, job: str) -> str:
    """Name an institution's part of a job."""
    return f"{institution}: {job}"


@dataclass(frozen=True, kw_only=True)
class RunTerms:
    """What a run will do, fixed before its first round.

    Attributes:
        institution: that trains; several may share one population.
        job: of the plan.
        plan: SHA-256 of the plan.
        unit: that it protects: record or group.
        grouped_by: column that says whose a record is; None where the unit is a record.
        num_units: n, declared public.
        noise_multiplier: sigma.
        sampling_rate: q.
        steps: a round.
        max_rounds: planned and spare.
        epsilon: asked for by the plan.
        delta: of the plan.
        accountant: of the plan.
        relation: neighbouring relation.
        reproducible: whether noise derives from a seed, so that the guarantee is void for whoever
            knows it.
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

    @property
    def name(self) -> str:
        """Of the run: an institution's part of a job."""
        return run_name(self.institution, self.job)

    def schedule(self, rounds: int) -> Schedule:
        """Return the steps of so many rounds."""
        return Schedule(
            noise_multiplier=self.noise_multiplier,
            sampling_rate=self.sampling_rate,
            steps=self.steps * rounds,
        )


@dataclass(frozen=True, kw_only=True)
class Round:
    """One reserved round.

    Attributes:
        number: of the reservation, from 1 in each run.
        server_round: of the coordinator.
        reply: checksum of the durable reply; empty where the update might not leave; None until it
            is settled.
    """

    number: int
    server_round: int
    reply: str | None = None

    @property
    def is_settled(self) -> bool:
        """Whether it will not be computed again."""
        return self.reply is not None


@dataclass(kw_only=True)
class Run:
    """One run's reservations.

    Attributes:
        terms: charged whole.
        began: seconds since 1970.
        rounds: digest -> round.
    """

    terms: RunTerms
    began: float
    rounds: dict[str, Round] = field(default_factory=dict)


@dataclass(kw_only=True)
class Population:
    """One declared population.

    Attributes:
        name: ``budget.id``.
        unit: strongest unit that is promised.
        budget: its lifetime.
        runs: name -> run, in the order in which they began.
    """

    name: str
    unit: str
    budget: Budget
    runs: dict[str, Run] = field(default_factory=dict)

    def charges(self, *, reserved_only: bool = False) -> list[Charge]:
        """Return what runs cost.

        Args:
            reserved_only: only rounds that were reserved; otherwise each run whole, as it is
                charged.
        """
        rounds = [
            len(run.rounds) if reserved_only else run.terms.max_rounds for run in self.runs.values()
        ]
        return [
            Charge.of(run.terms.schedule(count), unit=run.terms.unit, budget_unit=self.unit)
            for run, count in zip(self.runs.values(), rounds, strict=True)
        ]

    def check_affordable(self, terms: RunTerms, bound: Budget) -> None:
        """Check that a budget covers a whole run after all that was charged before.

        Args:
            terms: of the run.
            bound: this population's budget, or a tighter one of the same order.

        Raises:
            DeniedError: with what the population would have committed, and its bound.
        """
        self._check_groups(terms)
        charge, history = (
            Charge.of(terms.schedule(terms.max_rounds), unit=terms.unit, budget_unit=self.unit),
            self.charges(),
        )
        if bound.admits(history, charge):
            return
        before, after = bound.spent(history), bound.spent([*history, charge])
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

    def _check_groups(self, terms: RunTerms) -> None:
        """Check that groups are the same people as before."""
        before = {run.terms.grouped_by for run in self.runs.values() if run.terms.unit == "group"}
        if self.unit == terms.unit == "group" and before - {terms.grouped_by}:
            raise DeniedError(
                f"Population {self.name} was grouped by {', '.join(map(str, before))} before, and"
                f" now by {terms.grouped_by}: its budget promises protection to the groups it began"
                " with.",
                code="budget_unit",
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
        number: of the newest event in it.
        hash: of that event.
        public_key: that exports are signed with; None before the first event.
        populations: by name.
        approved: (job, plan) that the institution's people approved.
    """

    number: int = 0
    hash: str = ""
    public_key: str | None = None
    populations: dict[str, Population] = field(default_factory=dict)
    approved: set[tuple[str, str]] = field(default_factory=set)

    def apply(self, event: Event) -> None:
        """Take in the next event."""
        getattr(self, f"_{event.kind}")(event, event.content)
        self.number, self.hash = event.number, event.hash

    def _ledger(self, event: Event, content: Any) -> None:
        self.public_key = content["public_key"]

    def _budget(self, event: Event, content: Any) -> None:
        budget = Budget(epsilon=content["epsilon"], delta=content["delta"], order=content["order"])
        known = self.populations.get(content["population"])
        if known is None:
            self.populations[content["population"]] = Population(
                name=content["population"], unit=content["unit"], budget=budget
            )
        else:
            known.budget = budget
            known.unit = known.unit if known.runs else content["unit"]

    def _run(self, event: Event, content: Any) -> None:
        terms = RunTerms(**{item.name: content[item.name] for item in fields(RunTerms)})
        self.populations[content["population"]].runs[terms.name] = Run(
            terms=terms, began=event.time
        )

    def _reserve(self, event: Event, content: Any) -> None:
        rounds = self.populations[content["population"]].runs[content["run"]].rounds
        rounds[content["digest"]] = Round(number=len(rounds) + 1, server_round=content["round"])

    def _settle(self, event: Event, content: Any) -> None:
        rounds = self.populations[content["population"]].runs[content["run"]].rounds
        rounds[content["digest"]] = replace(rounds[content["digest"]], reply=content["reply"])

    def _units(self, event: Event, content: Any) -> None:
        """Alarms leave nothing to remember."""

    def _approve(self, event: Event, content: Any) -> None:
        self.approved.add((content["job"], content["plan"]))


__all__ = ["LedgerState", "Population", "Round", "Run", "RunTerms", "run_name"]
