"""``confide policy``: checks a plan against an institution's rules, before any training."""

import argparse
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from confide.config.composing.folders import CONFIG_DIR_HELP, own_configs
from confide.config.privacy import PolicyConfig
from confide.errors import ConfigError, words_of

if TYPE_CHECKING:
    from confide.client.verdicts import Verdict
    from confide.tables import Table

_OVERRIDE = re.compile(r"[+~]{0,2}policy(\.\w+)*=")


def main(argv: Sequence[str]) -> int:
    """Run ``confide policy``.

    Args:
        argv: arguments after ``policy``.

    Returns:
        The exit status: 0 the plan is allowed, 1 it is denied.

    Raises:
        ConfigError: if the command or the policy is wrong.
        ProtocolError: if the plan is.
    """
    with own_configs(argv) as words:
        overrides = [word for word in words if _OVERRIDE.match(word)]
        rest = [word for word in words if word not in overrides]
        try:
            arguments = _parser().parse_args(rest or ["--help"])
        except SystemExit as stop:
            return int(stop.code or 0)
        arguments.overrides = overrides
        status: int = arguments.run(arguments)
        return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="confide policy", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="explain")
    explain = commands.add_parser(
        "explain", help="check a plan against every rule, and show what each allows"
    )
    explain.add_argument("plan", type=Path, help="the plan, as JSON (RUN/plan.json)")
    explain.add_argument(
        "policy",
        type=Path,
        nargs="?",
        help=(
            "the institution's YAML; or overrides, policy=strict policy.max_epsilon=3 (default:"
            " policy=strict)"
        ),
    )
    explain.add_argument("--config-dir", "-cd", metavar="DIR", help=CONFIG_DIR_HELP)
    explain.add_argument(
        "--records", type=int, required=True, help="number of training units at the institution"
    )
    explain.add_argument("--ledger", type=Path, help="ledger that holds approvals")
    explain.add_argument("--json", action="store_true", help="print JSON")
    explain.set_defaults(run=_explain)
    return parser


def load_policy(path: Path | None) -> PolicyConfig:
    """Read an institution's policy; rules that it leaves out have their strict defaults.

    Raises:
        ConfigError: naming every key that is unknown, mistyped or out of range.
    """
    from confide.config.composing.strict_yaml import read_strict

    return PolicyConfig() if path is None else read_strict(path, PolicyConfig)


def _asked_policy(file: Path | None, overrides: Sequence[str]) -> PolicyConfig:
    """Read the policy that a command line names: a file, or a choice and settings of its group."""
    if not overrides:
        return load_policy(file)
    if file is not None:
        raise ConfigError(
            f"confide policy explain: expected {file} or overrides, got both; leave one out."
        )
    from confide.config.composing.compose import compose
    from confide.config.composing.main_job import MAIN_JOB, names_a_job

    chosen = any(word.startswith("policy=") for word in overrides)
    # A job is composed with it, of which only the policy counts
    job = [] if names_a_job(overrides) else [MAIN_JOB]
    return compose([*job, *([] if chosen else ["policy=strict"]), *overrides]).policy


def _explain(arguments: argparse.Namespace) -> int:
    from confide.client.policy import Policy
    from confide.client.schedule import workplan
    from confide.protocol.plan import TrainingPlan, plan_sha256

    try:
        # Without an editor's newline, as it was approved
        text = arguments.plan.read_text().strip()
    except OSError as error:
        raise ConfigError(f"{arguments.plan} cannot be read ({words_of(error)}).") from None
    if arguments.records < 1:
        raise ConfigError(
            f"--records={arguments.records}: expected the number of training units, at least 1."
        )
    plan, policy = (
        TrainingPlan.from_json(text),
        Policy(_asked_policy(arguments.policy, arguments.overrides)),
    )
    approved = False
    if arguments.ledger is not None:
        from confide.client.ledger.file import LedgerFile

        approved = (plan.job, plan_sha256(text)) in LedgerFile(arguments.ledger).state.approved
    # Steps and rounds follow from the public number, as at the institution
    counted = policy.counts(arguments.records)
    size = workplan(plan, num_examples=policy.config.public_n or arguments.records)
    verdicts = [*counted, *policy.verdicts(plan, size, is_approved=approved), policy.hours()]
    _print(verdicts, as_json=arguments.json)
    return 0 if all(verdict.holds for verdict in verdicts) else 1


def _print(verdicts: "Sequence[Verdict]", *, as_json: bool) -> None:
    import dataclasses

    if as_json:
        print(json.dumps([dataclasses.asdict(verdict) for verdict in verdicts], indent=1))
        return
    verdict_table(verdicts).show()


def verdict_table(verdicts: "Iterable[Verdict]") -> "Table":
    """Build a table of what was asked and what is allowed, a row a rule."""
    from confide.tables import Table

    table = Table("rule", "asked", "allowed", "")
    for verdict in verdicts:
        shown = [
            value if isinstance(value, str) else f"{value:g}"
            for value in (verdict.asked, verdict.allowed)
        ]
        holds = verdict.holds
        decision, style = ("allowed", "") if holds else ("DENIED", "bold red")
        table.add_row(verdict.rule, *shown, decision, style=style)
    return table


__all__ = ["load_policy", "main", "verdict_table"]
