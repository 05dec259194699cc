"""The ledger of a deployed institution: a hash-chained file that survives SIGKILL at any time."""

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from confide.client.ledger.conditions import check_run, may_know, warn_of_new
from confide.client.ledger.declared import DeclaredPopulation
from confide.client.ledger.file import LedgerFile
from confide.client.ledger.folder import Members, check_members, only_one
from confide.client.ledger.ledger import (
    Reservation,
    RoundsSpent,
    already_answered,
    rounds_spent,
    scores_spent,
)
from confide.client.ledger.replies import Replies
from confide.client.ledger.runs import RunTerms
from confide.client.ledger.state import PopulationAccount
from confide.client.ledger.sums import LedgerSums
from confide.client.ledger.transaction import Transaction
from confide.client.ledger.with_peers import (
    check_promise,
    noise_with_peers,
)
from confide.config.privacy import BudgetConfig
from confide.errors import LedgerError
from confide.privacy.peers import PeerNoise
from confide.privacy.randomness import KEY_BYTES
from confide.protocol.messages import Reply
from confide.protocol.tensors import Tensors
from confide.security.chain import Event
from confide.security.ec_keys import PublicKey
from confide.security.ledger_heads import parse_head

log = logging.getLogger(__name__)

_SHOWN = 16  # characters of an unknown head in a message


@dataclass(frozen=True, kw_only=True)
class Asker:
    """The federation for which a ledger is opened.

    Attributes:
        name: what tells it from others, by which requests are kept apart; empty for none.
        key: public key by which its coordinator countersigns heads; None keeps none.
    """

    name: str = ""
    key: PublicKey | None = None

    @property
    def named(self) -> dict[str, str]:
        """What events of its rounds say of it."""
        return {"federation": self.name} if self.name else {}


class PersistentLedger:
    """One population's account in a ledger's file.

    Args:
        file: opened file; replies are stored next to it.
        population: name of the population whose budget is charged.
        budget: budget that the policy allows; declared in the ledger if that is new.
        kept_replies: number of durable replies kept for each run.
        asker: who asks for rounds; None where there is one federation.

    Raises:
        DeniedError: if the file holds other populations but not this one, or declares another unit.
    """

    def __init__(
        self,
        file: LedgerFile,
        *,
        population: str,
        budget: BudgetConfig,
        kept_replies: int = 4,
        asker: Asker | None = None,
    ) -> None:
        self._population, self._budget = population, budget
        self._file = file
        self._asker = asker or Asker()
        self._replies = Replies(file.path.with_name(f"{file.path.name}.replies"), kept=kept_replies)
        self._declared = DeclaredPopulation(file, population, budget)

    # --- what it knows

    keeps_account = True

    def digest(self, mechanism: str, records: Callable[[], str] | None = None) -> str:
        """Return the identifier of a mechanism, and of the records if given: a keyed hash."""
        keys = self._file.made_keys()
        # With the federation in it, another's reply is never replayed, nor its noise
        parts = [self._population, *filter(None, [self._asker.name]), mechanism]
        return keys.mac("\0".join(parts + ([records()] if records else []))).hex()

    @property
    def events(self) -> list[Event]:
        """Events of the whole ledger, oldest first, as far as this process has read them."""
        return self._file.log.events

    def head(self, run: str, plan: str) -> str:
        """Return the hash of a run's newest event and its signature; empty before it began."""
        population = self._file.state.populations.get(self._population)
        known = population.runs.get(run) if population else None
        head = known.heads.get(self._asker.name, "") if known and known.terms.plan == plan else ""
        return f"{head}:{self._file.keys.sign(head)}" if head else ""

    @property
    def population(self) -> PopulationAccount:
        """Account of this population, as declared or, in a new ledger, as it would be."""
        return self._declared.account

    def check_head(self, echoed: str) -> None:
        """Check that the head a coordinator saw last is in the chain; keep its countersignature."""
        if not echoed:
            return
        head = parse_head(echoed)
        if head is None or not (
            # Another process may have written it
            may_know(self._file.log, head, self._asker.name)
            or (self._file.read_again() and may_know(self._file.log, head, self._asker.name))
        ):
            raise LedgerError(
                f"{self._file.path} does not hold event {echoed[:_SHOWN]!r}, which a coordinator"
                " has seen: it is an older copy, or another machine has a copy too. Nothing is"
                " trained on it; bring back the newest one."
            )
        if self._asker.key is not None and head.countersignature:
            self._file.keep_countersignature(head, self._asker.key)

    def admit(self, terms: RunTerms) -> None:
        """Check that a run may begin, or has begun."""
        check_run(self.population, terms, self._budget)

    def admit_round(self, terms: RunTerms, with_peers: PeerNoise | None) -> None:
        """Check that a budget against coordinators that see sums covers one more round."""
        check_promise(self.population, terms, with_peers, self._budget)

    def answered(self, run: str, digest: str) -> Reply | None:
        """Return the durable reply to a request that was answered before; None if there is none."""
        known = self.population.runs.get(run)
        done = known.rounds.get(digest) if known else None
        return self._replies.load(run, done.number, done.reply) if done and done.reply else None

    def scored(self, terms: RunTerms, split: str, digest: str) -> Mapping[str, object] | None:
        """Return what was released of a split's scores before; None if it may be released now."""
        population = self.population
        check_run(population, terms, self._budget)
        run = population.runs.get(terms.name)
        if run is not None and (split, digest) in run.scores:
            return run.scores[split, digest]
        spent = scores_spent(terms, split, run.releases().get(split, 0) if run else 0)
        if spent is not None:
            raise spent
        return None

    def releases(self, run: str) -> Mapping[str, int]:
        """Return split -> number of releases of its scores so far."""
        known = self.population.runs.get(run)
        return known.releases() if known else {}

    def is_approved(self, job: str, plan_sha256: str) -> bool:
        """Say whether the institution's people approved a plan."""
        return (job, plan_sha256) in self._file.read_again().approved

    def spent(self, run: str) -> RoundsSpent:
        """Return what a run has computed."""
        known = self.population.runs.get(run)
        return RoundsSpent(
            len(known.rounds) if known else 0,
            with_peers=noise_with_peers(known) if known else None,
        )

    def restore_spent(self, run: str, spent: RoundsSpent) -> None:
        """Do nothing: the file's count is the valid one."""

    def sums(self, run: str) -> LedgerSums:
        """Return what a run's masked sums are remembered in."""
        named = self._asker.named
        return LedgerSums(self._file, population=self._population, run=run, named=named)

    # --- what it writes

    def reserve(
        self,
        terms: RunTerms,
        server_round: int,
        digest: str,
        *,
        key: bytes | None,
        with_peers: PeerNoise | None = None,
    ) -> Reservation:
        """Count a round, durably, before its first private step."""
        with self._file.transaction() as writing:
            run, named = self._declared.begun_run(writing, terms), {"population": self._population}
            known = run.rounds.get(digest)
            if known is None:
                if len(run.rounds) >= terms.max_rounds:
                    raise rounds_spent(asked=len(run.rounds) + 1, allowed=terms.max_rounds)
                check_promise(self._declared.written(writing), terms, with_peers, self._budget)
                # Key and event in one transaction: a round that is counted can be replayed with the
                # same noise after a crash, and one that is not counted has no key that could have
                # been used
                fresh = key or os.urandom(KEY_BYTES)
                writing.transaction.keep_key(_key_name(terms.name, digest), fresh)
                round_of_run = {"run": terms.name, "round": server_round, "digest": digest}
                noise = {"with_peers": asdict(with_peers)} if with_peers else {}
                writing.append("reserve", {**named, **round_of_run, **noise, **self._asker.named})
                return Reservation(rounds=len(run.rounds), key=fresh, is_replay=False)
            kept = writing.transaction.key(_where_kept(writing.transaction, terms.name, digest))
        if known.is_settled or kept is None:
            raise already_answered(terms.name)
        return Reservation(rounds=len(run.rounds), key=kept, is_replay=True)

    def settle(self, run: str, digest: str, reply: Reply, update: Tensors) -> None:
        """Make a reply durable, then its settlement, and wipe the key."""
        # In this order: with the key wiped first, a crash would leave a counted round that can be
        # neither replayed nor answered. Replies are files, so that the database stays small enough
        # to be hashed whole; the settlement holds the reply's checksum.
        number = self._file.state.populations[self._population].runs[run].rounds[digest].number
        self._settle(run, digest, self._replies.save(run, number, reply, update))
        self._replies.forget(run, before=number)

    def abandon(self, run: str, digest: str) -> None:
        """Settle a round whose update may not leave."""
        self._settle(run, digest, "")

    def _settle(self, run: str, digest: str, reply: str) -> None:
        with self._file.transaction() as writing:
            # Two processes may have computed the same round; only one reply may ever leave
            if self._declared.written(writing).runs[run].rounds[digest].is_settled:
                raise already_answered(run)
            writing.transaction.wipe_key(_where_kept(writing.transaction, run, digest))
            settled = {"run": run, "digest": digest, "reply": reply}
            writing.append(
                "settle",
                {"population": self._population, **settled, **self._asker.named},
            )

    def score(
        self, terms: RunTerms, split: str, digest: str, told: Mapping[str, object]
    ) -> Mapping[str, object]:
        """Count a release of scores, durably, before it leaves."""
        # What was drawn and not written never left: a crash in between costs nothing, and no noise
        # has to be drawn twice, on inputs that might differ in their last bits
        with self._file.transaction() as writing:
            run = self._declared.begun_run(writing, terms)
            if (split, digest) not in run.scores:
                spent = scores_spent(terms, split, run.releases().get(split, 0))
                if spent is not None:
                    raise spent
                named = {"population": self._population, "run": terms.name, "split": split}
                scored = {"digest": digest, "evaluation": dict(told)}
                writing.append("score", {**named, **scored, **self._asker.named})
            return run.scores[split, digest]

    def know_members(self, members: Members, *, anchors: Path) -> None:
        """Store the units about to be trained on, unless they have a budget in another ledger.

        Raises:
            DeniedError: if another ledger of the folder, anchored in ``anchors``, holds some.
        """
        self._file.path.parent.mkdir(parents=True, exist_ok=True)
        with only_one(self._file.path.parent):
            self._file.made_keys()
            self._file.read_again()
            check_members(self._file, self._population, members, anchors=anchors)
            self.know_units(members.ids, known_by=members.known_by)

    def know_units(self, unit_ids: Iterable[str], *, known_by: str = "") -> None:
        """Store keyed hashes of the units about to be trained on, and warn about unexpected ones.

        The hashes decide nothing: units never seen before are charged like the others, and units
        that another population holds too carry the cost of both, which the warning says.
        """
        with self._file.transaction() as writing:
            population = self._declared.written(writing)
            macs = [self._file.keys.mac(unit) for unit in unit_ids]
            new, elsewhere = writing.transaction.know_units(self._population, macs)
            if new:
                # Without the number of new units: events are public, and it need not be
                kind = {"known_by": known_by} if known_by else {}
                writing.append("units", {"population": self._population, **kind})
        if new:
            warn_of_new(population, new, of=len(macs), elsewhere=elsewhere)


def _key_name(run: str, digest: str) -> str:
    """Return the name of a round's key: institutions of one population are asked alike."""
    return hashlib.sha256(f"{run}\0{digest}".encode()).hexdigest()


def _where_kept(transaction: Transaction, run: str, digest: str) -> str:
    """Return the name that a round's key has here: in older ledgers, of the question alone."""
    name = _key_name(run, digest)
    return digest if transaction.key(name) is None else name


__all__ = ["Asker", "PersistentLedger"]
