"""The state that follows from a ledger's events: populations, their runs, and what they have spent.

A pure fold; nothing is read or written.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from confide.client.ledger.runs import RunAccount, RunTerms
from confide.errors import DeniedError
from confide.privacy.budget import Budget, Charge, suitable_delta, suits
from confide.security.chain import Event
from confide.security.ledger_heads import parse_head


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
]
