"""Makes one account of two ledgers that were charged for the same people.

Every run of the ledger that is given up is charged in the other, whole, as if it had begun there:
whoever is a member of both carries both. Masked sums are taken over too: none may be opened for
other survivors, nor may its masks cover another vector. Units are not: they are stored again, with
this ledger's key, before the next run.
"""

import os
from dataclasses import asdict, replace

from confide.client.ledger.file import LedgerFile
from confide.client.ledger.runs import RunAccount
from confide.errors import LedgerError


def merge_ledgers(given_up: LedgerFile, kept: LedgerFile, *, by: str) -> int:
    """Charge in one ledger what another spent, and put that one aside.

    Args:
        given_up: ledger whose runs are charged in the other.
        kept: ledger with one population.
        by: name of whoever decided it.

    Returns:
        Number of runs taken over.

    Raises:
        LedgerError: if they are the same, or their budgets cannot be compared.
    """
    if given_up.path.resolve() == kept.path.resolve():
        raise LedgerError(f"{kept.path} cannot be merged into itself; name two ledgers.")
    if len(kept.state.populations) != 1:
        raise LedgerError(
            f"{kept.path} holds {len(kept.state.populations)} populations; runs can be merged into"
            " a ledger of one."
        )
    (population,) = kept.state.populations.values()
    accounts = given_up.state.populations.values()
    if any(account.unit != population.unit for account in accounts):
        raise LedgerError(
            f"{given_up.path} and {kept.path} promise protection to different units; keep the"
            " stronger one, and treat the other budget as spent."
        )
    runs = [run for account in accounts for run in account.runs.values()]
    for run in runs:
        _charge(kept, population.name, run, source=given_up, by=by)
    # The anchor last: until it is gone, the ledger that is missing is an alarm
    for path in (given_up.path, given_up.log.anchor):
        os.replace(path, path.with_name(f"{path.name}.merged"))
    return len(runs)


def _charge(
    kept: LedgerFile, population: str, run: RunAccount, *, source: LedgerFile, by: str
) -> None:
    """Charge a run, unless an attempt that was cut off did."""
    named, ledger = {"population": population}, source.path.name
    # Under a name that no coordinator can go on with
    terms = replace(run.terms, institution=f"{run.terms.institution} in {ledger}")
    charged = kept.state.populations[population].runs
    # A few events in each transaction: that is by how many an anchor may lag after a crash
    if terms.name not in charged:
        with kept.transaction() as writing:
            writing.append("merged", {"ledger": ledger, "head": source.log.head[1], "by": by})
            writing.append("run", {**named, **asdict(terms), "was": run.was or run.terms.name})
    for digest, done in run.rounds.items():
        of_run = {**named, "run": terms.name, "digest": f"{ledger}/{digest}"}
        if of_run["digest"] not in charged[terms.name].rounds:
            with kept.transaction() as writing:
                noise = {"with_peers": asdict(done.with_peers)} if done.with_peers else {}
                writing.append("reserve", {**of_run, "round": done.server_round, **noise})
                writing.append("settle", {**of_run, "reply": ""})
    for digest, masked in run.masked.items():
        of_sum, taken = {**named, "run": terms.name, "digest": digest}, charged[terms.name]
        if digest not in taken.masked:
            with kept.transaction() as writing:
                writing.append("mask", {**of_sum, "masked": masked})
        if digest in run.opened and digest not in taken.opened:
            with kept.transaction() as writing:
                writing.append("unmask", {**of_sum, "survivors": run.opened[digest]})


__all__ = ["merge_ledgers"]
