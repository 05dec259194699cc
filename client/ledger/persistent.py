"""The ledger of a deployed institution.

A hash-chained file that survives SIGKILL at any instant.
"""

import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict

from confide.client.ledger.file import LedgerFile, Writing, check_unit, new_budget
from confide.client.ledger.ledger import Reservation, RoundsSpent, already_answered, rounds_spent
from confide.client.ledger.replies import Replies
from confide.client.ledger.state import LedgerState, Population, Run, RunTerms
from confide.config.privacy import BudgetConfig
from confide.errors import DeniedError, LedgerError, ProtocolError
from confide.privacy.budget import Budget
from confide.privacy.randomness import KEY_BYTES
from confide.protocol.messages import Reply
from confide.protocol.tensors import Tensors

log = logging.getLogger(__name__)

_LONGEST_NUMBER = 16


class PersistentLedger:
    """One population's account in a ledger's file.

    Args:
        file: opened; replies lie beside it.
        population: whose budget it is.
        budget: what the policy allows; declared in the ledger when that is new.
        kept_replies: durable replies of a run that stay.

    Raises:
        DeniedError: if the file holds other populations and not this one, or declares another unit.
    """

    def __init__(
        self, file: LedgerFile, *, population: str, budget: BudgetConfig, kept_replies: int = 4
    ) -> None:
        self._population, self._budget = population, budget
        self._file = file
        self._replies = Replies(file.path.with_name(f"{file.path.name}.replies"), kept=kept_replies)
        self._declared(file.state)

    # --- what it knows

    keeps_account = True

    def digest(self, mechanism: str, records: Callable[[], str]) -> str:
        """Name a mechanism on these very training records, by a keyed hash that tells nothing of them."""
        if self._file.state.public_key is None:  # a ledger that nobody wrote to yet
            self._file.keys.create()
        return self._file.keys.mac("\0".join((self._population, mechanism, records()))).hex()

    @property
    def head(self) -> str:
        """Number and hash of the newest event."""
        number, digest = self._file.log.head
        return f"{number}:{digest}"

    @property
    def population(self) -> Population:
        """Everything that was charged to this population."""
        found = self._declared(self._file.read_again())
        budget = new_budget(self._population, self._budget)
        return found or Population(name=self._population, unit=self._budget.unit, budget=budget)

    def check_head(self, echoed: str) -> None:
        """Check that the head a coordinator saw last is in the chain."""
        number, _, digest = echoed.partition(":")
        if not echoed or (
            number.isdecimal()
            and len(number) < _LONGEST_NUMBER
            and self._holds(int(number), digest)
        ):
            return
        raise LedgerError(
            f"{self._file.path} does not hold event {number[:_LONGEST_NUMBER]!r}, which a"
            " coordinator was told of: it is an older copy, or another machine has a copy too."
            " Nothing is trained on it; bring back the newest one."
        )

    def admit(self, terms: RunTerms) -> None:
        """Check that a run may begin, or has begun."""
        population = self.population
        known = population.runs.get(terms.name)
        if known is None:
            population.check_affordable(terms, self._bound(population))
        elif known.terms != terms:
            raise _changed(known.terms, terms)

    def answered(self, run: str, digest: str) -> Reply | None:
        """Return the durable reply to a question that was answered before.

        None if there is none.
        """
        known = self.population.runs.get(run)
        done = known.rounds.get(digest) if known else None
        return self._replies.load(run, done.number, done.reply) if done and done.reply else None

    def is_approved(self, job: str, plan_sha256: str) -> bool:
        """Say whether the institution's people approved a plan."""
        return (job, plan_sha256) in self._file.read_again().approved

    def spent(self, run: str) -> RoundsSpent:
        """Return what a run has computed."""
        known = self.population.runs.get(run)
        return RoundsSpent(len(known.rounds) if known else 0)

    def restore_spent(self, run: str, spent: RoundsSpent) -> None:
        """What stands in the file counts, whatever another process knows."""

    # --- what it writes

    def reserve(
        self, terms: RunTerms, server_round: int, digest: str, *, key: bytes | None
    ) -> Reservation:
        """Count a round, durably, before its first private step."""
        with self._file.transaction() as writing:
            population = self._account(writing)
            run = population.runs.get(terms.name)
            if run is None:
                population.check_affordable(terms, self._bound(population))
                writing.append("run", {"population": self._population, **asdict(terms)})
                run = population.runs[terms.name]
            elif run.terms != terms:
                raise _changed(run.terms, terms)
            known = run.rounds.get(digest)
            if known is None:
                return self._first(writing, run, server_round, digest, key or os.urandom(KEY_BYTES))
            kept = writing.transaction.key(digest)
        if known.is_settled or kept is None:
            raise already_answered(terms.name)
        return Reservation(rounds=len(run.rounds), key=kept, is_replay=True)

    def _first(
        self, writing: Writing, run: Run, server_round: int, digest: str, key: bytes
    ) -> Reservation:
        name, allowed = run.terms.name, run.terms.max_rounds
        if len(run.rounds) >= allowed:
            raise rounds_spent(asked=len(run.rounds) + 1, allowed=allowed)
        writing.transaction.keep_key(digest, key)
        writing.append(
            "reserve",
            {"population": self._population, "run": name, "round": server_round, "digest": digest},
        )
        return Reservation(rounds=len(run.rounds), key=key, is_replay=False)

    def settle(self, run: str, digest: str, reply: Reply, update: Tensors) -> None:
        """Make a reply durable, then its settlement, and wipe the key."""
        number = self._file.state.populations[self._population].runs[run].rounds[digest].number
        self._settle(run, digest, self._replies.save(run, number, reply, update))
        self._replies.forget(run, before=number)

    def abandon(self, run: str, digest: str) -> None:
        """Settle a round whose update may not leave."""
        self._settle(run, digest, "")

    def _settle(self, run: str, digest: str, reply: str) -> None:
        with self._file.transaction() as writing:
            if self._account(writing).runs[run].rounds[digest].is_settled:
                raise already_answered(run)
            writing.transaction.wipe_key(digest)
            writing.append(
                "settle",
                {"population": self._population, "run": run, "digest": digest, "reply": reply},
            )

    def know_units(self, unit_ids: Iterable[str]) -> None:
        """Remember keyed hashes of the units that are about to be trained on, and raise an alarm about the unexpected.

        Alarms are all that hashes do: units never seen before are charged like the others, and
        those that another population holds too are told of, since they carry both.
        """
        with self._file.transaction() as writing:
            population = self._account(writing)
            macs = [self._file.keys.mac(unit) for unit in unit_ids]
            new, elsewhere = writing.transaction.know_units(self._population, macs)
            if new:
                writing.append(
                    "units", {"population": self._population}
                )  # no number: it may not be public
        if new and population.runs:
            log.warning(
                "%d of %d units are new to population %s; it was charged before.",
                new,
                len(macs),
                self._population,
            )
        if new and elsewhere:
            log.warning(
                "%d units of population %s belong to another one too: they carry both.",
                elsewhere,
                self._population,
            )

    # --- inside

    def _holds(self, number: int, digest: str) -> bool:
        if self._file.log.contains(number, digest):
            return True
        self._file.read_again()  # another process may have written it
        return self._file.log.contains(number, digest)

    def _account(self, writing: Writing) -> Population:
        """Return the population, declared if the ledger is new."""
        return self._declared(writing.state) or writing.declare(self._population, self._budget)

    def _declared(self, state: LedgerState) -> Population | None:
        """Return this population; None in a ledger that holds none.

        Raises:
            DeniedError: if only others are declared, or its unit is another.
        """
        found = state.populations.get(self._population)
        if found is None and state.populations:
            others = ", ".join(sorted(state.populations))
            raise DeniedError(
                f"Population {self._population} is not declared in {self._file.path}, which holds"
                f" {others}. If these are other people, declare them: confide ledger budget"
                f" {self._file.path} --declare {self._population} --epsilon E",
                code="undeclared_population",
            )
        if found is not None:
            check_unit(found, self._budget)
            if (
                found.unit != self._budget.unit
            ):  # nothing was charged to it yet: it is declared anew
                return None
        return found

    def _bound(self, population: Population) -> Budget:
        """Return the tighter of what was declared and what the policy says.

        The order is the one declared.
        """
        declared, epsilon = population.budget, self._budget.epsilon
        return Budget(
            epsilon=min(declared.epsilon, epsilon if epsilon is not None else declared.epsilon),
            delta=min(declared.delta, self._budget.delta),
            order=declared.order,
        )


def _changed(before: RunTerms, now: RunTerms) -> ProtocolError:
    then, today = asdict(before), asdict(now)
    told = ", ".join(
        f"{name}={then[name]} then, {today[name]} now" for name in then if then[name] != today[name]
    )
    return ProtocolError(
        f"Job {before.job} goes on with other terms than it began with: {told}.",
        code="plan_changed",
    )


__all__ = ["PersistentLedger"]
