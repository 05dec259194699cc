"""``confide audit``: lower bounds on epsilon of a run or a plan, beside the claim."""

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from confide.config.audit import AuditConfig
from confide.config.composing.compose import compose
from confide.config.composing.folders import own_configs
from confide.config.composing.main_job import MAIN_JOB
from confide.config.custom import look_in_current_folder
from confide.config.run import Config
from confide.errors import EXIT_FAILED, EXIT_INTERRUPTED, ConfigError
from confide.server.new_folders import new_run_folder, refuse_finished
from confide.terminal import make_console

_HELP = """Attack a run or a plan, and print what attacks find beside what is claimed.

usage: confide audit RUN [audit.KEY=VALUE ...]
       confide audit [--config-dir DIR] [OVERRIDES ...] [--output FOLDER]

--config-dir DIR (-cd) adds a folder of your own configs; conf/ in the current folder is found by
itself.

  confide audit runs/2026-01-31/12-00-00
  confide audit experiment=heart_disease privacy=record privacy.epsilon=3
  confide audit RUN audit.parts=[noise,canary] audit.trials=20000

The first form audits a finished run, the second simulates one first, with the overrides of `confide
simulate`, in FOLDER (default: runs/DATE/TIME). Parts: noise, sampling, canary, one_run, membership,
inversion. Trials run on invented records with ledgers in memory: no budget is spent. Results go to
the terminal, RUN/audit.json and audit-*.svg, and into RUN's report and model card.

Exit status: 0 nothing contradicts the claim, 1 a fault was found, 2 the command is wrong."""


def main(argv: Sequence[str]) -> int:
    """Run ``confide audit``.

    Args:
        argv: RUN, overrides, ``--output FOLDER``, ``--config-dir DIR``.

    Returns:
        The exit status: 1 where a claim is refuted.

    Raises:
        ConfideError: if the command is wrong, or the run cannot be simulated or audited.
    """
    os.environ.setdefault("TQDM_DISABLE", "1")
    if {"-h", "--help", "help"} & set(argv):
        print(_HELP)
        return 0
    with own_configs(argv) as words:
        return _main(words)


def _main(argv: Sequence[str]) -> int:
    words, output = _split_output(argv)
    folders = [word for word in words if "=" not in word]
    overrides = [word for word in words if "=" in word]
    unknown = [word for word in folders if word.startswith("-")]
    if unknown:
        raise ConfigError(
            f"{unknown[0]}: no such option; `confide audit --help` says what there is."
        )
    if len(folders) > 1 or (folders and output):
        raise ConfigError("confide audit [RUN] [OVERRIDES ...]: name one folder, or overrides.")
    try:
        if folders:
            folder, settings = Path(folders[0]).expanduser().resolve(), _settings(overrides)
        else:
            config = compose(overrides)
            folder, settings = _simulated(config, output, overrides), config.audit
        return _audit(folder, settings)
    except KeyboardInterrupt:
        print("confide audit: interrupted; nothing was written.", file=sys.stderr)
        return EXIT_INTERRUPTED


def _split_output(argv: Sequence[str]) -> tuple[list[str], Path | None]:
    words = list(argv)
    output = None
    if "--output" in words:
        place = words.index("--output")
        if place + 1 == len(words):
            raise ConfigError("--output: name a folder.")
        output = Path(words[place + 1]).expanduser().resolve()
        del words[place : place + 2]
    return words, output


def _settings(overrides: Sequence[str]) -> AuditConfig:
    others = [word for word in overrides if not re.match(r"\+*audit[.=]", word)]
    if others:
        raise ConfigError(
            [f"{word}: a run is audited as it was run; only audit.* can be set." for word in others]
        )
    return compose([MAIN_JOB, *overrides]).audit


def _simulated(config: Config, output: Path | None, overrides: Sequence[str]) -> Path:
    """Simulate a plan, without baselines, and return its folder."""
    if config.client.ledger is not None:
        raise ConfigError(
            f"client.ledger={config.client.ledger}: the simulation that an audit begins with would"
            " spend from it. Simulate it with `confide simulate`, and audit the run: confide audit"
            " RUN"
        )
    look_in_current_folder(config.custom_parts)
    from confide.server.progress.make import make_progress
    from confide.simulations.run import simulate

    config.simulation.baselines = []
    if output is not None:
        refuse_finished(output, fix="Choose another --output, or audit it: confide audit RUN.")
    folder = output or new_run_folder()
    progress = make_progress(config.server.progress, config.task.primary_metric)
    progress.finished(simulate(config, folder, progress=progress, overrides=overrides), folder)
    return folder


def _audit(folder: Path, settings: AuditConfig) -> int:
    # Imported late: torch, scipy and matplotlib take seconds.
    from confide.server.report.sections.audit import AuditSection, audit_section
    from confide.server.report.write import write_report
    from confide.simulations.audit.run import audit_run

    audit = audit_run(folder, settings, watch=_watch)
    section = audit_section(folder)
    assert isinstance(section, AuditSection)
    _save_pictures(folder, section.pictures)
    report = write_report(folder)
    _print(audit, section)
    print(f"{folder}: {report.name}, audit.json, {audit['seconds']:.0f} s")
    for one in (one for part in audit["parts"].values() for one in part["findings"]):
        if one["fault"]:
            print(
                f"confide audit: FAULT: {one['name']}: claim {one['unit']} {one['claim']:.4g},"
                f" found {one['found']:.4g}: {one['meaning']}.",
                file=sys.stderr,
            )
    return EXIT_FAILED if audit["faults"] else 0


def _watch(title: str, trials: Sequence[int]) -> Iterator[int]:
    from rich.progress import Progress

    with Progress(console=make_console(stderr=True), transient=True) as bar:
        yield from bar.track(trials, description=title)


def _save_pictures(folder: Path, pictures: Sequence[Any]) -> None:
    """Write each picture as a file of its own, in colours of its own."""
    from confide.pages.figures import standalone
    from confide.storage.files import write_text

    for number, one in enumerate(pictures, 1):
        write_text(folder / f"audit-{number}.svg", standalone(one))


def _print(audit: Mapping[str, Any], section: Any) -> None:
    from confide.server.report.sections.audit import findings
    from confide.tables import Table

    console = make_console()
    claim, settings = audit["claim"], audit["settings"]
    table = Table(
        *("test", "claim", "found", "cap", "verdict"),
        numbers=("claim", "found", "cap"),
        title=(
            f"{audit['institution']}, n={audit['num_units']}: epsilon {claim['epsilon']:g} at delta"
            f" {claim['delta']:g}"
        ),
    )
    for one in findings(audit):
        table.add_row(
            one["name"],
            f"{one['unit']} {one['claim']:.3g}",
            _found(one),
            "–" if one["cap"] is None else f"{one['cap']:.2f}",
            one["verdict"],
            style="bold red" if one["fault"] else "",
        )
    if table.row_count:
        table.show(console)
        console.print(
            f"Bounds and intervals at {settings['confidence']:.0%}; a sound run is called faulty"
            f" with probability {settings['alarm_rate']:g} at most, over all tests.",
            highlight=False,
        )
    for line in (*section.attacks, *section.notes, section.summary, section.scope):
        console.print(line, highlight=False, markup=False)


def _found(one: Mapping[str, Any]) -> str:
    if one["interval"] is None:
        return f"{one['found']:.3g}"
    low, high = one["interval"]
    return f"{one['found']:.3g} ({low:.3g} to {high:.3g})"


__all__ = ["main"]
