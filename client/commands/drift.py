"""``confide drift``: whether records are still like those that a model was trained on."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from confide.client.commands.given import (
    add_model_options,
    add_records,
    given_inputs,
    given_model,
    given_whole,
    model_around,
    model_parser,
)
from confide.config.spelling import counted
from confide.errors import EXIT_DRIFT, ConfigError, DataError
from confide.terminal import make_console, plain

if TYPE_CHECKING:
    from confide.client.deployment.kit import InstitutionKit
    from confide.client.drift.findings import Report
    from confide.client.drift.fitting import Fitting
    from confide.client.drift.profile import Profile
    from confide.client.records.whole import Whole
    from confide.config.drift import DriftConfig
    from confide.inference.inputs import Inputs
    from confide.inference.predictor import Predictor

_DESCRIPTION = """Say whether records are still like those that a model was trained on.

Nothing leaves this machine: columns, what the model sees, its predictions and, where records have
labels, labels, performance and calibration are compared with a reference that is kept here.

  confide drift RUN new.csv --reference old.csv --page drift.html
  confide drift RUN --reference old.csv --keep-reference heart.drift
  confide drift RUN new.csv --reference heart.drift --json
  confide drift RUN new.csv --kit KIT --thresholds drift.yaml

The exit status is 0 for no drift and for too few records to say, 3 for an alarm, 1 and 2 for
errors. A column that is missing is an alarm; unknown labels and categories are compared and told.
A reference, the page and the JSON hold statistics of records, exact ones: keep them where the
records are."""


def main(argv: Sequence[str]) -> int:
    """Run ``confide drift``.

    Args:
        argv: arguments after ``drift``.

    Returns:
        The exit status: 0 no drift, or too few records; 3 an alarm.

    Raises:
        ConfideError: if the command is wrong, records do not fit, or the model cannot be used.
    """
    try:
        arguments = _parser().parse_args(list(argv) or ["--help"])
    except SystemExit as stop:
        return int(stop.code or 0)
    _refuse_incomplete(arguments)
    from confide.client.drift.thresholds import read_thresholds

    config = read_thresholds(arguments.thresholds)
    kit = None
    if arguments.kit is not None:
        from confide.client.deployment.kit import read_kit
        from confide.client.deployment.kit_user import check_user

        # Mistakes elsewhere in it, such as records that moved, are no matter here
        kit = read_kit(arguments.kit)[0]
        check_user(kit, "drift")
    with given_model(arguments) as predictor:
        report = _check(arguments, predictor, kit, config)
    if report is None:
        return 0
    _tell(arguments, report, kit)
    return EXIT_DRIFT if report.alarms else 0


def _parser() -> argparse.ArgumentParser:
    parser = model_parser("confide drift", _DESCRIPTION)
    add = parser.add_argument
    add_records(parser, optional=True)
    add(
        "--reference",
        metavar="WHERE",
        help="records like those at training, best ones that the model was not trained on, or a"
        " file that --keep-reference wrote (default: what KIT keeps)",
    )
    add(
        "--keep-reference",
        metavar="FILE",
        type=Path,
        help="write the reference's statistics, FILE.drift, readable by you alone",
    )
    add(
        "--kit",
        metavar="KIT",
        type=Path,
        help="the institution's kit: keeps references, and its audit log and metrics tell of the"
        " check",
    )
    add("--thresholds", metavar="FILE", type=Path, help="drift.yaml (default: docs/drift.md)")
    add("--page", metavar="FILE", type=Path, help="write a page, readable by you alone")
    add("--json", action="store_true", help="print JSON")
    add_model_options(parser)
    return parser


def _refuse_incomplete(arguments: argparse.Namespace) -> None:
    """Refuse what cannot be done, before anything is loaded."""
    from confide.client.drift.profile import SUFFIX

    problems = []
    if arguments.reference is None and arguments.kit is None:
        problems.append(
            "Nothing to compare with: name records like those at training, or a kept file, with"
            " --reference, or the kit that keeps one with --kit."
        )
    if arguments.records is None and (
        arguments.reference is None or (arguments.keep_reference is None and arguments.kit is None)
    ):
        problems.append(
            "INPUT is missing: name the records to check; or only make a reference, with"
            " --reference RECORDS --keep-reference FILE."
        )
    for option, path in (
        ("--keep-reference", arguments.keep_reference),
        ("--page", arguments.page),
    ):
        if path is not None and not path.parent.is_dir():
            problems.append(f"{option} {path}: there is no folder {path.parent}; make it first.")
        if path is not None and (model := model_around(path)) is not None:
            problems.append(
                f"{option} {path}: {model} may travel, and this holds statistics of your records;"
                " name a file elsewhere."
            )
    page, kept = arguments.page, arguments.keep_reference
    if page is not None and page.suffix != ".html":
        problems.append(f"--page {page}: expected a name that ends in .html.")
    if kept is not None and kept.suffix != SUFFIX:
        problems.append(f"--keep-reference {kept}: expected a name that ends in {SUFFIX}.")
    if problems:
        raise ConfigError(problems)


def _check(
    arguments: argparse.Namespace,
    predictor: "Predictor",
    kit: "InstitutionKit | None",
    config: "DriftConfig",
) -> "Report | None":
    """Compare; None where only a reference is made."""
    from confide.client.drift.findings import compare
    from confide.client.drift.profile import write_profile
    from confide.client.drift.references import keep_reference

    reference = _reference(arguments, predictor, kit, config)
    if arguments.keep_reference is not None:
        write_profile(arguments.keep_reference, reference)
        print(f"reference kept in {arguments.keep_reference}", file=sys.stderr)
    if kit is not None and arguments.reference is not None:
        print(f"reference kept in {keep_reference(kit, reference)}", file=sys.stderr)
    if arguments.records is None:
        return None
    now = _profile(arguments, predictor, config, like=reference)
    return compare(reference, now, config)


def _reference(
    arguments: argparse.Namespace,
    predictor: "Predictor",
    kit: "InstitutionKit | None",
    config: "DriftConfig",
) -> "Profile":
    from confide.client.drift.profile import SUFFIX, read_profile
    from confide.client.drift.references import kept_reference

    model = predictor.description.model_sha256
    if arguments.reference is None:
        assert kit is not None
        return kept_reference(kit, model)
    if not arguments.reference.endswith(SUFFIX):
        return _profile(arguments, predictor, config, path=arguments.reference)
    reference = read_profile(Path(arguments.reference))
    if reference.model_sha256 != model:
        raise ConfigError(
            f"--reference {arguments.reference} was made with model"
            f" {reference.model_sha256[:12]}, and RUN holds {model[:12]}; make it anew with"
            " --reference RECORDS --keep-reference FILE."
        )
    return reference


def _profile(
    arguments: argparse.Namespace,
    predictor: "Predictor",
    config: "DriftConfig",
    *,
    path: str | None = None,
    like: "Profile | None" = None,
) -> "Profile":
    from dataclasses import replace

    from confide.client.drift.fitting import fitting
    from confide.client.drift.looking import Looked, profile_with
    from confide.security.redaction import redact

    whole = given_whole(arguments, predictor, path=path)
    fits = fitting(whole.records, predictor)
    source = Path(redact(arguments.records if path is None else path)).name
    if fits.absent and like is None:
        raise DataError(
            f"--reference {path} lacks column {', '.join(fits.absent)}, which the model needs; name"
            " records like those at training."
        )
    near = _near(arguments, fits.absent) if fits.absent else ()
    looked = Looked(source=source, scored_records=config.scored_records, like=like)
    inputs = _inputs(predictor, whole, fits, source)
    with _at_work(f"{source}: {counted(len(whole.records), 'record')}"):
        profile = profile_with(predictor, whole.records, inputs, looked)
    told = [f"{source}: {sentence}" for sentence in (*fits.told, *near)]
    return replace(profile, absent=fits.absent, told=tuple(told))


@contextmanager
def _at_work(what: str) -> Iterator[None]:
    """Show on a terminal what is looked at, as long as it takes."""
    console = make_console(stderr=True)
    with console.status(plain(what)) if console.is_terminal else nullcontext():
        yield


def _near(arguments: argparse.Namespace, absent: Sequence[str]) -> tuple[str, ...]:
    """Say which columns of INPUT are written nearly as those that it lacks."""
    from confide.client.drift.fitting import near_names
    from confide.client.records.sources.reading_options import reading_of
    from confide.client.records.sources.sources import column_names

    names = column_names(arguments.records, query=arguments.query, reading=reading_of(arguments))
    return tuple(f"{why}." for why in near_names(absent, names))


def _inputs(
    predictor: "Predictor", whole: "Whole", fits: "Fitting", source: str
) -> "Inputs | None":
    """Take the records that the model can be asked about: others are compared by their columns."""
    from confide.client.records.whole import Whole

    if not fits.rows:
        return None
    places = [whole.places[at] for at in fits.rows] if whole.places else ()
    chosen = Whole(records=fits.records, kept=whole.kept.take(fits.rows), places=places)
    return given_inputs(predictor, chosen, source=source)


def _tell(arguments: argparse.Namespace, report: "Report", kit: "InstitutionKit | None") -> None:
    from confide.client.drift.page import as_json, drift_page, in_words
    from confide.storage.files import finite, write_text

    if kit is not None:
        from confide.client.deployment.kit_audit import DRIFT_CHECKED, log_decision

        # Numbers alone: which columns changed is the institution's own
        told = {"verdict": report.verdict, "alarms": len(report.alarms)}
        model = {"model": report.now.model_sha256, "tests": report.tests}
        log_decision(kit, DRIFT_CHECKED, {**model, **told})
    if arguments.page is not None:
        write_text(arguments.page, drift_page(report), mode=0o600)
        print(f"written to {arguments.page}, readable by you alone", file=sys.stderr)
    if arguments.json:
        print(json.dumps(finite(as_json(report)), indent=1))
        return
    for line in in_words(report):
        print(plain(line))


__all__ = ["main"]
