"""Changes of a ledger that people decide on: approvals, repairs, two ledgers made one."""

import argparse

from confide.audit_log.user import user
from confide.client.commands.ledger_paths import one_at, open_file
from confide.errors import ConfigError, words_of


def approve(arguments: argparse.Namespace) -> int:
    """Approve a plan."""
    from confide.protocol.plan import TrainingPlan, plan_sha256

    try:
        # Without an editor's newline: the hash is that of the text as it is sent
        text = arguments.plan.read_text().strip()
    except OSError as error:
        raise ConfigError(f"{arguments.plan} cannot be read ({words_of(error)}).") from None
    plan = TrainingPlan.from_json(text)
    open_file(one_at(arguments, "approve a plan in"), arguments).approve(
        plan.job, plan_sha256(text)
    )
    privacy = plan.privacy
    scores = privacy.metrics_epsilon
    more = f", scores of held-out records at epsilon {scores:g}" if scores is not None else ""
    print(
        f"Approved: job {plan.job}, epsilon {privacy.epsilon:g} at delta"
        f" {privacy.delta:g}{privacy.condition}{more}."
    )
    return 0


def repair(arguments: argparse.Namespace) -> int:
    """Let time go on after the clock was ahead; who, when and why stay in the ledger."""
    reason = str(arguments.reason).strip()
    if not reason:
        raise ConfigError("--reason is empty: what was wrong with the clock?")
    file = open_file(one_at(arguments, "repair"), arguments)
    ahead = file.repair_clock(by=user(), reason=reason)
    print(
        f"{file.path.name}: the newest event was {ahead:.0f} s ahead; time goes on from now, which"
        f" event {file.log.head[0]} says."
    )
    return 0


def merge(arguments: argparse.Namespace) -> int:
    """Charge in one ledger what another of the same people spent, and give that one up."""
    from confide.client.ledger.merge import merge_ledgers

    if not arguments.into.exists():
        raise ConfigError(f"{arguments.into} does not exist; name the ledger that is kept.")
    given_up, kept = (
        open_file(path, arguments) for path in (one_at(arguments, "merge"), arguments.into)
    )
    merged = merge_ledgers(given_up, kept, by=user())
    print(
        f"{kept.path.name}: {merged} runs of {given_up.path.name} are charged here too; it is put"
        f" aside as {given_up.path.name}.merged."
    )
    return 0


__all__ = ["approve", "merge", "repair"]
