"""``confide client``: takes part in a federation, shows status, approves and stops jobs."""

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from confide.client.deployment.job_files import plan_path, stop_mark
from confide.client.deployment.kit import FILE, InstitutionKit, load_kit
from confide.client.deployment.kit_user import check_user
from confide.client.deployment.launch import ROLES, supervised
from confide.config.composing.folders import as_search_path
from confide.deployment.lifetime import processes, stop_signals
from confide.deployment.logs import log_to_stderr
from confide.errors import ConfigError
from confide.security.proxies import settled
from confide.security.redaction import holds_password, redact
from confide.storage.files import make_private_folder

log = logging.getLogger(__name__)

_HELP = """Take part in a federation, from a start-up kit.

usage: confide client [KIT] [--only ROLE] [OVERRIDES ...]
           run SuperNode, executor and trainer until Ctrl-C
       confide client status [KIT] [--json]
           show running processes, privacy spent, and jobs that wait for approval
       confide client status [KIT] --only ROLE
           say whether this process runs; status 1 if not, as health checks want it
       confide client approve JOB [KIT] [--yes]
           show a job's plan and cost, and let it begin
       confide client stop JOB [KIT]
           stop a job here, and refuse it from now on

KIT is a folder with client.yaml, as `confide provision` makes it; without it, the current folder.
OVERRIDES change client.yaml for this run, such as trainer.device=cpu. `confide doctor KIT` lists
what is missing; both take --config-dir DIR, a folder of your own configs. ROLE is one of trainer,
executor and supernode, for machines on which each of them is a service with its own user."""


def main(argv: Sequence[str]) -> int:
    """Run ``confide client``.

    Args:
        argv: arguments after ``client``.

    Returns:
        The exit status.

    Raises:
        ConfideError: if the kit is wrong, or a process cannot be started.
    """
    words = list(argv)
    if {"-h", "--help"} & set(words) or words[:1] == ["help"]:
        print(_HELP)
        return 0
    words = as_search_path(words)
    commands = {"status": _status, "approve": _approve, "stop": _stop, "run": _run}
    if words and words[0] in commands:
        return commands[words[0]](words[1:])
    return _run(words)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Report a mistake in the way of every command.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"{self.prog}: {message}; see `confide client --help`.")


def _parse(
    command: str, words: Sequence[str], *, job: bool = False, flags: Sequence[str] = ()
) -> argparse.Namespace:
    """Parse a command's arguments; flags may be anywhere among them."""
    parser = _Parser(prog=f"confide client {command}", add_help=False)
    if job:
        parser.add_argument("job", metavar="JOB")
    parser.add_argument("words", nargs="*", metavar="KIT")
    for flag in flags:
        parser.add_argument(flag, action="store_true")
    if command in ("run", "status"):
        parser.add_argument("--only", choices=ROLES)
    return parser.parse_intermixed_args(list(words))


def _kit(arguments: argparse.Namespace) -> InstitutionKit:
    """Read the kit that the arguments name, or the one in the current folder."""
    # A word with = is an override, unless a kit of that name is there
    folders = [word for word in arguments.words if "=" not in word or (Path(word) / FILE).is_file()]
    if len(folders) > 1:
        raise ConfigError(f"Expected one folder of a kit, got {' '.join(folders)}.")
    if not folders and not Path(FILE).is_file():
        raise ConfigError(f"This folder holds no {FILE}; name the folder of a kit.")
    overrides = [word for word in arguments.words if word not in folders]
    shown = [redact(word) for word in overrides if holds_password(word)]
    if shown:
        raise ConfigError(
            [
                f"{word}: a password on the command line; every user of this machine can read it in"
                " the list of processes. Write '${oc.env:NAME}' for it, or use ~/.pgpass."
                for word in shown
            ]
        )
    return load_kit(Path(*folders), overrides)


def _run(words: Sequence[str]) -> int:
    arguments = _parse("run", words)
    kit = _kit(arguments)
    log_to_stderr()
    # This process signs off for a SuperNode that died, on its way to the coordinator.
    os.environ.update(settled(os.environ, kit.config.coordinator.address))
    with stop_signals() as stop, supervised(kit, arguments.only) as supervisor:
        budget = kit.config.policy.budget
        promised = (
            "without privacy budget"
            if budget.epsilon is None
            else f"lifetime epsilon {budget.epsilon:g}"
        )
        log.info(
            "%s takes part at %s (%s). Ctrl-C ends it.",
            kit.config.name,
            kit.config.coordinator.address,
            promised,
        )
        # Of the three users the trainer's alone may look at the ledger
        if budget.epsilon is not None and arguments.only in (None, "trainer"):
            is_new = not kit.ledger.exists()
            new = " It is new: nothing was ever spent in it." if is_new else ""
            log.info("Its budget is kept in %s.%s", kit.ledger, new)
        status = supervisor.run(stop)
    if stop.is_set():
        log.info(
            "%s was stopped and takes part no more; what it spent remains spent. `confide client"
            " %s` takes part again.",
            kit.config.name,
            kit.folder,
        )
    return status


def _status(words: Sequence[str]) -> int:
    arguments = _parse("status", words, flags=("--json",))
    kit, role = _kit(arguments), arguments.only
    if role is not None:
        # Health checks ask this again and again: without torch, which the whole status loads
        pid = processes(kit.state / role).get(role)
        print(f"{role}: {'not running' if pid is None else f'runs as process {pid}'}")
        return 1 if pid is None else 0
    from confide.client.commands.status import show_status

    return show_status(kit, as_json=arguments.json)


def _approve(words: Sequence[str]) -> int:
    from confide.client.commands.status import show_plan
    from confide.client.deployment.kit_audit import APPROVED, log_decision
    from confide.client.deployment.kit_ledger import ledger_file
    from confide.protocol.plan import TrainingPlan, plan_sha256

    arguments = _parse("approve", words, job=True, flags=("--yes",))
    kit = _kit(arguments)
    check_user(kit, "client")
    path = plan_path(kit, arguments.job)
    if not path.exists():
        raise ConfigError(
            f"Job {arguments.job} has not asked here; `confide client status` lists those that"
            " have."
        )
    text = path.read_text()
    plan = TrainingPlan.from_json(text)
    show_plan(kit, plan)
    if not arguments.yes:
        try:
            answer = input("Let it begin? [y/N] ")
        except EOFError:
            raise ConfigError(
                "Nobody answers at this terminal; give --yes to approve without being asked."
            ) from None
        if answer.strip().lower() not in ("y", "yes"):
            print("Not approved.")
            return 1
    # Before it holds: what the log does not know of is not approved
    log_decision(kit, APPROVED, {"job": plan.job, "plan": plan_sha256(text)})
    if kit.config.policy.approval == "manual":
        ledger_file(kit).approve(plan.job, plan_sha256(text))
    # A job that was stopped here before may go on too: approval is the newer decision
    stop_mark(kit, plan.job).unlink(missing_ok=True)
    print(f"Approved: job {plan.job}. It begins when the coordinator asks again.")
    return 0


def _stop(words: Sequence[str]) -> int:
    from confide.client.deployment.kit_audit import STOPPED, log_decision
    from confide.client.service.stub import TrainerServiceClient

    arguments = _parse("stop", words, job=True)
    kit = _kit(arguments)
    check_user(kit, "client")
    mark = stop_mark(kit, arguments.job)
    make_private_folder(mark.parent)
    # First the mark, which later requests are refused by, then the round under way: in the other
    # order a new round could begin in between
    mark.touch()
    cancelled = False
    if kit.socket.exists():
        with TrainerServiceClient(kit.config.name, kit.socket) as stub:
            cancelled = stub.cancel(arguments.job)
    # Last: a log that cannot be written keeps nobody from stopping a job
    log_decision(kit, STOPPED, {"job": arguments.job, "cancelled": cancelled})
    what = ": the round under way was cancelled" if cancelled else ""
    print(
        f"Job {arguments.job} is stopped here{what}. What it spent remains spent."
        f" `confide client approve {arguments.job}` lets it continue."
    )
    return 0


__all__ = ["main"]
