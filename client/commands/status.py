"""Status of an institution: its processes, its budgets, and the plans that asked to run."""

import contextlib
import functools
import json
from typing import Any

from confide.client.commands.policy import verdict_table
from confide.client.deployment.job_files import is_stopped
from confide.client.deployment.kit import InstitutionKit
from confide.client.deployment.kit_ledger import ledger_file
from confide.client.deployment.launch import ROLES
from confide.client.deployment.plan_words import asked, cost, seen
from confide.client.policy import Policy
from confide.deployment.lifetime import processes
from confide.errors import ConfideError
from confide.protocol.plan import TrainingPlan, plan_sha256
from confide.tables import Table
from confide.terminal import make_console

WAITS = "waits for approval"


def status(kit: InstitutionKit) -> dict[str, Any]:
    """Return the status of a kit, as plain values."""
    # All roles in one supervisor write to `logs`; a role run as a service has its own folder
    running: dict[str, int] = {}
    for folder in ("logs", *ROLES):
        running |= {
            name: pid for name, pid in processes(kit.state / folder).items() if name in ROLES
        }
    return {
        "institution": kit.config.name,
        "coordinator": kit.config.coordinator.address,
        "processes": {role: running.get(role) for role in ROLES},
        "now": _now(kit) if "trainer" in running else None,
        "ledger": str(kit.ledger),
        "budgets": _budgets(kit),
        "jobs": _jobs(kit),
    }


def show_status(kit: InstitutionKit, *, as_json: bool) -> int:
    """Print the status of a kit.

    Returns:
        0 if every process runs, 1 if not.
    """
    state = status(kit)
    if as_json:
        print(json.dumps(state, indent=1))
    else:
        _print(state)
    return 0 if all(state["processes"].values()) else 1


def show_plan(kit: InstitutionKit, plan: TrainingPlan) -> None:
    """Print what a plan asks for, and what the policy allows."""
    policy, console = kit.config.policy, make_console()
    console.print(f"Job {plan.job}: {asked(plan)}.", highlight=False)
    if told := seen(plan):
        console.print(f"The coordinator sees {told}.", highlight=False)
    if price := cost(plan, policy):
        console.print(f"Cost: {price}.", highlight=False)
    verdict_table(Policy(policy).plan_verdicts(plan)).show(console)


def _now(kit: InstitutionKit) -> dict[str, Any] | None:
    from confide.client.service.stub import TrainerServiceClient

    with TrainerServiceClient(kit.config.name, kit.socket) as stub:
        work = stub.status()
    if work is None:
        return None
    return {
        "job": work.job,
        "what": work.what,
        "round": work.server_round,
        "seconds": round(work.elapsed_s, 1),
    }


def _budgets(kit: InstitutionKit) -> dict[str, Any]:
    if not kit.ledger.exists():
        return {}
    try:
        populations = ledger_file(kit).state.populations
    except ConfideError as error:
        return {"error": str(error)}
    return {
        name: {
            "epsilon": p.budget.epsilon,
            "delta": p.budget.delta,
            "committed": p.committed,
            "spent": p.spent,
        }
        for name, p in populations.items()
    }


def _jobs(kit: InstitutionKit) -> dict[str, str]:
    """Return job -> decision on it, newest first."""
    approved = approved_plans(kit)
    jobs = {}
    for path in sorted(
        (kit.own / "plans").glob("*.json"), key=lambda kept: kept.stat().st_mtime, reverse=True
    ):
        text = path.read_text()
        try:
            plan = TrainingPlan.from_json(text)
        except ConfideError:
            continue  # a plan of another release
        jobs[plan.job] = decision_on(
            kit, plan, is_approved=(plan.job, plan_sha256(text)) in approved
        )
    return jobs


def approved_plans(kit: InstitutionKit) -> frozenset[tuple[str, str]]:
    """Return the job and the plan's SHA-256 of everything that was approved here."""
    # A damaged ledger must not hide the rest of the status; `_budgets` shows its error
    if kit.ledger.exists():
        with contextlib.suppress(ConfideError):
            return frozenset(ledger_file(kit).state.approved)
    return frozenset()


def decision_on(kit: InstitutionKit, plan: TrainingPlan, *, is_approved: bool) -> str:
    """Return the decision on a plan, as far as it is known without the records."""
    if is_stopped(kit, plan.job):
        return "stopped"
    denied = [
        f"policy.{verdict.rule}"
        for verdict in Policy(kit.config.policy).plan_verdicts(plan)
        if not verdict.holds
    ]
    if denied:
        return f"denied by {', '.join(denied)}"
    if kit.task is not None and plan.task != kit.task:
        return "denied: its task is not the one in client.yaml"
    waits = kit.config.policy.approval == "manual" and not is_approved
    return WAITS if waits else "allowed"


def _print(state: dict[str, Any]) -> None:
    console = make_console()
    say = functools.partial(console.print, highlight=False)
    say(f"{state['institution']}, coordinator {state['coordinator']}")
    table = Table("process", "runs as")
    for role, pid in state["processes"].items():
        runs_as, style = (f"process {pid}", "") if pid else ("not running", "bold red")
        table.add_row(role, runs_as, style=style)
    table.show(console)
    now = state["now"]
    if now is not None:
        doing = "{what}, job {job}, round {round}, since {seconds} s".format(**now)
        say(f"Trainer: {doing if now['job'] else 'idle'}.")
    say(f"Ledger: {state['ledger']}", soft_wrap=True)
    for name, budget in state["budgets"].items():
        if name == "error":
            console.print(f"Ledger: {budget}", style="bold red")
        else:
            # Committed, not spent, is what a new job is held against: runs are charged whole
            used = "{committed:.2f} of {epsilon:g} committed, {spent:.2f} spent (delta {delta:g})"
            say(f"Lifetime epsilon of {name}: {used.format(**budget)}.")
    for job, how in state["jobs"].items():
        fix = f" `confide client approve {job} KIT` shows its plan and lets it begin."
        say(f"Job {job}: {how}.{fix if how == WAITS else ''}", soft_wrap=True)


__all__ = ["show_plan", "show_status", "status"]
