"""``confide ledger``: shows, verifies, exports and repairs privacy ledgers, and sets budgets."""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from confide.audit_log.words import when
from confide.client.commands.ledger_changes import approve, merge, repair
from confide.client.commands.ledger_paths import files_at, one_at, open_file
from confide.client.commands.ledger_verify import verify
from confide.config.fields import range_problems
from confide.config.privacy import BudgetConfig
from confide.errors import ConfigError
from confide.terminal import make_console

if TYPE_CHECKING:
    from confide.client.ledger.state import LedgerState, PopulationAccount
    from confide.tables import Table

_BAR = 12
_HOW_RUNS_ADD_UP = (
    "Runs of a population add up by a Renyi filter, of one order that is fixed when its budget is\n"
    'declared, and not as the sum of their epsilons: docs/privacy.md, "A lifetime".'
)


def main(argv: Sequence[str]) -> int:
    """Run ``confide ledger``.

    Args:
        argv: arguments after ``ledger``.

    Returns:
        The exit status: 0 done, 1 a ledger is not sound.

    Raises:
        ConfigError: if the command is wrong.
        LedgerError: if a ledger that is to be read is not sound.
    """
    try:
        arguments = _parser().parse_args(list(argv) or ["--help"])
    except SystemExit as stop:
        return int(stop.code or 0)
    status: int = arguments.run(arguments)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="confide ledger", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar=" | ".join(_COMMANDS))
    made = {}
    for name, (run, purpose, path) in _COMMANDS.items():
        made[name] = commands.add_parser(name, help=purpose)
        made[name].add_argument("path", type=Path, help=path)
        made[name].set_defaults(run=run)
    made["show"].add_argument("--events", action="store_true", help="show every event too")
    made["approve"].add_argument("plan", type=Path, help="the plan, as JSON")
    made["merge"].add_argument("into", type=Path, help="the ledger that is kept")
    check, repaired = made["verify"], made["repair"]
    check.add_argument(
        "--head",
        action="append",
        default=[],
        metavar="HEAD",
        help="a head that left, from a coordinator's RUN/ledger_heads.jsonl; may be repeated",
    )
    check.add_argument(
        "--coordinator",
        type=Path,
        metavar="FILE",
        help="the coordinator's heads.pub, which countersignatures must be by",
    )
    repaired.add_argument(
        "--clock",
        action="store_true",
        required=True,
        help="the newest event was written while the clock was ahead: go on from now",
    )
    repaired.add_argument("--reason", required=True, help="what was wrong; kept in the ledger")
    budget = made["budget"]
    budget.add_argument(
        "--declare", metavar="NAME", help="population to declare, or to change if it exists"
    )
    budget.add_argument("--epsilon", type=float, help="lifetime epsilon")
    budget.add_argument("--delta", type=float, help="lifetime delta (default: unchanged, or 1e-5)")
    budget.add_argument(
        "--epsilon-with-peers",
        type=float,
        help="lifetime epsilon against coordinators that see sums alone (default: unchanged, or"
        " none); first promised before the first run",
    )
    budget.add_argument(
        "--unit",
        choices=("record", "group"),
        help="unit that the budget protects (default: unchanged, or record)",
    )
    budget.add_argument(
        "--separate",
        action="store_true",
        help="its people may be in other populations of the folder too, and spend each budget",
    )
    for command in made.values():
        command.add_argument(
            "--anchors", type=Path, help="folder of the anchors, if not next to the ledgers"
        )
        command.add_argument("--keys", type=Path, help="file of keys, if not next to the ledgers")
    return parser


# --- show


def _show(arguments: argparse.Namespace) -> int:

    console = make_console()
    files = [open_file(path, arguments) for path in files_at(arguments.path)]
    states = [file.state for file in files]
    _populations(states).show(console)
    print(_HOW_RUNS_ADD_UP)
    if any(population.budget_with_peers for population in _all(states)):
        _promises(states).show(console)
    for file in files:
        for population in file.state.populations.values():
            if population.runs:
                _runs(population).show(console)
            if any(run.terms.score_releases for run in population.runs.values()):
                _scores(population).show(console)
            if any(run.masked for run in population.runs.values()):
                _sums(population).show(console)
        if arguments.events:
            for event in file.log.events:
                told = json.dumps(event.content)
                line = f"{event.number} {when(event.time)} {event.kind} {told}"
                console.print(line, markup=False, highlight=False, soft_wrap=True)
    return 0


def _populations(states: "Sequence[LedgerState]") -> "Table":
    table = _table(
        "Lifetime budgets, in epsilon",
        "population",
        "unit",
        "spent",
        "committed",
        "of",
        "left",
        "delta",
        "",
    )
    for population in _all(states):
        budget, committed = population.budget, population.committed
        figures = [
            population.spent,
            committed,
            budget.epsilon,
            max(0.0, budget.epsilon - committed),
        ]
        figures_shown = [f"{figure:.2f}" for figure in figures]
        table.add_row(
            population.name, population.unit, *figures_shown, f"{budget.delta:g}", bar(population)
        )
    return table


def _all(states: "Sequence[LedgerState]") -> "list[PopulationAccount]":
    return [population for state in states for population in state.populations.values()]


def _promises(states: "Sequence[LedgerState]") -> "Table":
    from confide.client.ledger.with_peers import committed_with_peers

    title = "Of it to who sees sums alone, in epsilon"
    table = _table(title, "population", "committed", "of", "delta")
    for population in _all(states):
        promised, committed = population.budget_with_peers, committed_with_peers(population)
        if promised is not None and committed is not None:
            table.add_row(
                population.name,
                f"{committed:.2f}",
                f"{promised.epsilon:.2f}",
                f"{promised.delta:g}",
            )
    return table


def bar(population: "PopulationAccount") -> str:
    """Draw a budget as a bar: spent, committed beyond that, and left."""
    # A budget that was lowered later may be exceeded: the bar is full then, and not longer
    bound = population.budget.epsilon
    spent = min(_BAR, round(_BAR * population.spent / bound))
    committed = min(_BAR, round(_BAR * population.committed / bound))
    return "█" * spent + "▒" * (committed - spent) + "·" * (_BAR - committed)


def _runs(population: "PopulationAccount") -> "Table":
    table = _table(
        f"Runs of {population.name}",
        "job",
        "unit",
        "rounds",
        "steps",
        "n",
        "q",
        "sigma",
        "epsilon",
        "noise",
    )
    for run in population.runs.values():
        terms = run.terms
        table.add_row(
            terms.name,
            terms.unit,
            f"{len(run.rounds)}/{terms.max_rounds}",
            str(terms.steps),
            str(terms.num_units),
            f"{terms.sampling_rate:.3g}",
            f"{terms.noise_multiplier:.3g}",
            f"{terms.epsilon:g}" + (f" ({terms.honest_peers} honest)" * (terms.honest_peers > 1)),
            "seeded" if terms.reproducible else "secure",
        )
    return table


def _scores(population: "PopulationAccount") -> "Table":
    table = _table(f"Scores of {population.name}", "job", "split", "released", "sigma")
    for run in population.runs.values():
        released = run.releases()
        for split, count in run.terms.score_releases.items():
            sigma = run.terms.score_noise[split]
            done = f"{released.get(split, 0)}/{count}"
            table.add_row(run.terms.name, split, done, f"{sigma:.3g}")
    return table


def _sums(population: "PopulationAccount") -> "Table":
    table = _table(f"Masked sums of {population.name}", "job", "masked", "opened")
    for run in population.runs.values():
        if run.masked:
            table.add_row(run.terms.name, str(len(run.masked)), str(len(run.opened)))
    return table


def _table(title: str, first: str, *headers: str) -> "Table":
    from confide.tables import Table

    texts = ("unit", "noise", "split", "")
    numbers = [header for header in headers if header not in texts]
    return Table(first, *headers, numbers=numbers, title=title)


# --- export, budget


def _export(arguments: argparse.Namespace) -> int:
    from confide.client.ledger.export import export

    print(json.dumps(export(open_file(one_at(arguments, "export"), arguments)), indent=1))
    return 0


def _budget(arguments: argparse.Namespace) -> int:

    if arguments.declare is not None:
        _declare(arguments)
    elif any(
        getattr(arguments, name)
        for name in ("epsilon", "delta", "unit", "separate", "epsilon_with_peers")
    ):
        raise ConfigError(
            "--epsilon, --epsilon-with-peers, --delta, --unit and --separate go with --declare"
            " NAME."
        )
    states = [open_file(path, arguments).state for path in files_at(arguments.path)]
    _populations(states).show()
    return 0


def _declare(arguments: argparse.Namespace) -> None:
    if arguments.path.is_dir():
        raise ConfigError(f"{arguments.path} is a folder; a population is declared in one ledger.")
    file = open_file(arguments.path, arguments)
    known = file.state.populations.get(arguments.declare)
    before = _declared_before(known) if known else {}
    # Taken now: the account is changed in place when the declaration is applied
    before_epsilon = known.budget.epsilon if known else None
    given = {
        name: value
        for name in ("delta", "unit", "epsilon_with_peers")
        if (value := getattr(arguments, name)) is not None
    }
    budget = BudgetConfig(id=arguments.declare, epsilon=arguments.epsilon, **{**before, **given})
    problems = [*range_problems(budget, "--"), *(f"--{one}" for one in budget.problems())]
    if arguments.epsilon is None:
        problems.append("--epsilon is missing: what may the population spend in its lifetime?")
    if problems:
        raise ConfigError(problems)
    # A new one is declared because it is another population; an old one is mostly given more
    file.declare(arguments.declare, budget, is_separate=arguments.separate or known is None)
    was = f"epsilon {before_epsilon:g}" if before_epsilon is not None else "new"
    print(f"{arguments.declare}: {was} -> epsilon {arguments.epsilon:g}.")


def _declared_before(known: "PopulationAccount") -> dict[str, Any]:
    promised = known.budget_with_peers
    return {
        "delta": known.budget.delta,
        "unit": known.unit,
        "epsilon_with_peers": promised.epsilon if promised else None,
    }


_ONE, _SOME = "a ledger", "a ledger, or a folder of ledgers"
_COMMANDS: dict[str, tuple[Callable[[argparse.Namespace], int], str, str]] = {
    "show": (_show, "show what each population has spent and has left, and its runs", _SOME),
    "verify": (
        verify,
        "check a ledger against its anchor, its signature and heads that left; or an export",
        "a ledger, a folder of ledgers, or an export (.json)",
    ),
    "export": (_export, "print signed JSON for an auditor, without unit ids", _ONE),
    "budget": (
        _budget,
        "print lifetime budgets; declare a population, or change its budget",
        _SOME,
    ),
    "repair": (repair, "let time go on after the clock was ahead", _ONE),
    "merge": (
        merge,
        "charge what one ledger spent in another too, where both are of the same people",
        "the ledger that is given up",
    ),
    "approve": (approve, "approve a plan where policy.approval=manual", _ONE),
}
"""Name -> what it does, its help, and the help of its path."""

__all__ = ["bar", "main"]
