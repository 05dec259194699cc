"""What the commands that run a federation have in common on their command line.

Overrides, ``resume=RUN``, exit statuses.
"""

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from confide.config.composing.choices import register_listing
from confide.config.composing.compose import (
    check_jobs,
    compose,
    hydra_settings,
    is_hydra,
    mappings_emptied,
    rule_words,
)
from confide.config.composing.folders import CONF_MODULE, own_configs, searching, split_config_dirs
from confide.config.composing.main_job import names_a_job, own_experiments, with_main_job
from confide.config.composing.own_source import SCHEME
from confide.config.composing.quoting import quote_texts
from confide.config.composing.schema import register_schema
from confide.config.composing.words import no_option
from confide.config.custom import unforeseen
from confide.config.spelling import counted
from confide.errors import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    ConfigError,
    DataError,
    UnforeseenError,
    UnreadableError,
)
from confide.security.redaction import holds_password, redact
from confide.server.new_folders import new_run_folder, refuse_finished
from confide.server.run_folder import (
    LOG,
    can_resume,
    command_of,
    described,
    finished,
    kept_own_files,
    refuse_changes,
    resume_command,
)
from confide.terminal import plain

log = logging.getLogger(__name__)

_HYDRA_HELP = "--hydra-help"
INFORMATION_FLAGS = frozenset({"--help", "-h", _HYDRA_HELP, "--version", "--info", "-i"})
MULTIRUN = frozenset({"-m", "--multirun", "hydra.mode=MULTIRUN"})
OVERWRITE = "--overwrite"
ASKED_ANEW = (
    "statistics are asked for anew; institutions with a ledger answer the same question at no"
    " further cost."
)
_CFG = frozenset({"--cfg", "-c"})
_TAKE_VALUE = frozenset(
    {
        "--cfg",
        "-c",
        "--package",
        "-p",
        "--config-path",
        "-cp",
        "--config-name",
        "-cn",
        "--config-dir",
        "-cd",
    }
)
_FLAGS = INFORMATION_FLAGS | MULTIRUN | _TAKE_VALUE | {"--run", "-r", "--resolve"}
_FLAGS |= {"--shell-completion", "-sc", "--experimental-rerun"}


def refuse_passwords(overrides: Sequence[str]) -> None:
    """Refuse a password typed on the command line.

    The process list, the shell's history and RUN/.hydra would keep it.

    Raises:
        ConfigError: with the setting, the password masked.
    """
    shown = [redact(word) for word in overrides if holds_password(word)]
    if shown:
        raise ConfigError(
            [
                f"{word}: a password on the command line is kept by the shell and by RUN. Write"
                " ${oc.env:NAME} for it, in quotes, or leave it to ~/.pgpass."
                for word in shown
            ]
        )


def resumed_words(run_dir: Path, words: Sequence[str], *, program: str) -> list[str]:
    """Return the command line of a run that is to go on, checked before Hydra touches its folder.

    Go where it was started.

    Args:
        run_dir: RUN.
        words: what was given besides.
        program: simulate or server, which began it.

    Raises:
        ConfigError: if it cannot be resumed, or not so.
    """
    command = command_of(run_dir)
    if command.program == "statistics":
        raise ConfigError(f"resume={run_dir}: {ASKED_ANEW}")
    if command.program != program:
        raise ConfigError(f"resume={run_dir}: `{resume_command(run_dir)}` goes on with this run.")
    try:
        os.chdir(command.cwd)  # relative paths mean what they meant
    except OSError as error:
        raise ConfigError(
            f"resume={run_dir}: the run was started in {command.cwd}, which is gone ({error})."
        ) from None
    changed = {_key(word) for word in overrides_of(words)}  # Hydra takes a group's choice once
    words = [*(word for word in command.overrides if _key(word) not in changed), *words]
    refuse_changes(run_dir, described(compose(overrides_of(words))))
    return [*words, f"hydra.run.dir={quoted(run_dir)}", "hydra.output_subdir=null"]


@dataclass(frozen=True, kw_only=True)
class Resumption:
    """A run that is to go on.

    Attributes:
        run_dir: RUN, an absolute path.
        without: names of institutions that withdraw.
    """

    run_dir: Path
    without: tuple[str, ...] = ()


@contextlib.contextmanager
def run_configs(words: Sequence[str], resumed: Resumption | None) -> Iterator[list[str]]:
    """Look for own configs where a command line says; a resumed run brings those it began with.

    Args:
        words: command line; the rest of it is what the block gets.
        resumed: run that is to go on.

    Raises:
        ConfigError: naming every folder that is not there.
    """
    if resumed is None:
        with own_configs(words) as rest:
            yield _quoted_texts(rest)
    else:
        given, rest = split_config_dirs(words)
        with searching([*kept_own_files(resumed.run_dir), *given]):
            yield _quoted_texts(rest)


def _quoted_texts(words: Sequence[str]) -> list[str]:
    quoted_words = quote_texts(words, sweeping=bool(MULTIRUN & set(words)))
    overrides, flags = _told_apart(quoted_words)
    written_out = mappings_emptied(overrides)
    return quoted_words if written_out == overrides else [*written_out, *flags]


def searched_by_hydra() -> list[str]:
    """Return the folders of own configs that Hydra searched for the job that it runs."""
    sources = HydraConfig.get().runtime.config_sources
    return [source.path for source in sources if source.schema == SCHEME]


def split_resume(argv: Sequence[str]) -> tuple[list[str], Resumption | None]:
    """Take ``resume=RUN`` or ``--resume RUN``, and each ``--without NAME``, out of a command line.

    Raises:
        ConfigError: naming every mistake.
    """
    words, without = _taken(argv, "--without", "--without=")
    words, asked = _taken(words, "--resume", "--resume=", "resume=")
    if not asked:
        if without:
            raise ConfigError("--without NAME goes with --resume RUN, the folder of one run.")
        return words, None
    problems = []
    if "" in without:
        problems.append("--without: expected the name of an institution.")
    if len(asked) > 1 or not asked[0]:
        problems.append(f"resume={','.join(asked)}: expected the folder of one run.")
    if {"-m", "--multirun"} & set(words):
        problems.append("resume: a sweep is resumed job by job; leave -m out.")
    problems += [
        f"{word}: a run is resumed where it is, as it was; leave it out."
        for word in split_config_dirs(words)[1]
        if is_hydra(word)
    ]
    if problems:
        raise ConfigError(problems)
    run_dir = Path(asked[0]).expanduser().resolve()
    return words, Resumption(run_dir=run_dir, without=tuple(without))


def _taken(argv: Sequence[str], flag: str, *prefixes: str) -> tuple[list[str], list[str]]:
    """Take an option out: return the other words, and its values, empty ones where one lacks."""
    words: list[str] = []
    values: list[str] = []
    left = iter(argv)
    for word in left:
        if word == flag:
            values.append(next(left, ""))
        elif word.startswith(prefixes):
            values.append(word.partition("=")[2])
        else:
            words.append(word)
    return words, values


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def quoted(value: Path | str) -> str:
    """Quote a value for Hydra, whose grammar gives = and spaces a meaning."""
    escaped = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def overrides_of(argv: Sequence[str]) -> list[str]:
    """Pick the overrides out of Hydra's command line."""
    return _told_apart(argv)[0]


def overrides_first(argv: Sequence[str]) -> list[str]:
    """Put overrides before flags: between flags Hydra takes only the first of several in a row."""
    if "--info" in argv or "-i" in argv:  # whose value may be left out
        return list(argv)
    overrides, flags = _told_apart(argv)
    return [*overrides, *flags]


def _told_apart(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return overrides, and flags with their values."""
    overrides: list[str] = []
    flags: list[str] = []
    left = iter(argv)
    for word in left:
        if not word.startswith("-"):
            overrides.append(word)
            continue
        flags.append(word)
        if word in _TAKE_VALUE:
            flags += [value for value in [next(left, None)] if value is not None]
    return overrides, flags


def log_unforeseen(error: Exception) -> UnforeseenError:
    """Write an exception of other code into the run's log, and return what stands for it.

    Raises:
        Exception: the exception itself, with HYDRA_FULL_ERROR=1.
    """
    if os.environ.get("HYDRA_FULL_ERROR"):
        raise error
    log.info("What ended the command:", exc_info=error)
    return unforeseen(error)


def print_reason(program: str, error: BaseException, run_dir: Path) -> None:
    """Print on stderr, and to the log, why a run ended, and how it goes on if it can.

    Args:
        program: simulate or server.
        error: what ended it.
        run_dir: RUN.
    """
    message = "interrupted." if isinstance(error, KeyboardInterrupt) else str(error)
    log.info("%s", message)
    print(plain(f"confide {program}: {message}"), file=sys.stderr)
    if isinstance(error, UnforeseenError):
        print(error.advice(run_dir / LOG), file=sys.stderr)
    print_resume_hint(run_dir, error)


def print_resume_hint(run_dir: Path, error: BaseException | None = None) -> None:
    """Print the command that goes on with a run, unless that does not help against an error."""
    if can_resume(run_dir) and not isinstance(error, ConfigError | DataError | UnreadableError):
        print(f"`{resume_command(run_dir)}` goes on from its last checkpoint.", file=sys.stderr)


def status_of(error: BaseException) -> int:
    """Return the exit status that stands for an error."""
    if isinstance(error, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    return EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED


def tell_finished(run_dir: Path) -> bool:
    """Say so where a run that is to go on is finished; return whether it is."""
    summary = finished(run_dir)
    if summary is None:
        return False
    print(
        f"{run_dir} is finished: {counted(summary['rounds'], 'round')}, model"
        f" {summary['model_sha256'][:12]}."
        " Nothing to resume."
    )
    return True


def run_with_hydra(
    program: str,
    words: Sequence[str],
    run_fn: Callable[[DictConfig], object],
    *,
    checked: bool = False,
    resumed: bool = False,
) -> None:
    """Check what is asked for, and have Hydra compose it and call ``run_fn``.

    Hydra's own flags make it print something instead.

    Args:
        program: such as ``simulate``.
        words: overrides and Hydra's flags.
        run_fn: takes the composed config.
        checked: whether the overrides were checked already.
        resumed: whether the run goes on in its own folder.

    Raises:
        ConfigError: naming every mistake, before anything heavy is imported.
    """
    overwrite, words = OVERWRITE in words, [word for word in words if word != OVERWRITE]
    shows = bool(INFORMATION_FLAGS & set(words))
    given = [word for word in overrides_of(words) if not is_hydra(word)]
    # A project's own experiments are listed by --help: without one, it shows neutral settings
    if not names_a_job(given) and not (shows and own_experiments()):
        words = [*with_main_job([]), *words]
    elif not shows:
        words = with_main_job(words)
    if not checked and not shows:
        refuse_passwords(overrides_of(words))
        _check(words)
    if shows or _CFG & set(words):
        # In front: after a flag Hydra would not take them
        words = [*rule_words(overrides_of(words)), *words]
    elif not resumed and not MULTIRUN & set(words):
        words = [*words, *_own_folder(overrides_of(words), overwrite=overwrite)]
    if _HYDRA_HELP in words:  # it composes Hydra's own groups, which ours are no overrides of
        words = [_HYDRA_HELP]
    register_schema()
    register_listing(shown=shows)
    sys.argv = [f"confide {program}", *overrides_first(words)]
    hydra.main(config_path=f"pkg://{CONF_MODULE}", config_name="config", version_base="1.3")(
        run_fn
    )()


def _check(words: Sequence[str]) -> None:
    """Refuse options that Hydra does not have, and overrides that make no config."""
    flags = [word for word in _told_apart(words)[1] if word.startswith("-")]
    problems = [no_option(word) for word in flags if word.partition("=")[0] not in _FLAGS]
    try:
        check_jobs(overrides_of(words))
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(problems)


def _own_folder(overrides: Sequence[str], *, overwrite: bool) -> list[str]:
    """Return the override that gives a new run its folder, before Hydra writes into it.

    Raises:
        ConfigError: if the folder that is named holds a finished run.
    """
    if not any(_key(word) == "hydra.run.dir" for word in overrides):
        return [f"hydra.run.dir={quoted(new_run_folder())}"]
    if not overwrite:
        folder = Path(str(hydra_settings(overrides).run.dir)).expanduser().resolve()
        refuse_finished(folder, fix=f"Choose another hydra.run.dir, or say {OVERWRITE}.")
    return []


__all__ = [
    "ASKED_ANEW",
    "INFORMATION_FLAGS",
    "MULTIRUN",
    "OVERWRITE",
    "Resumption",
    "log_unforeseen",
    "overrides_first",
    "overrides_of",
    "print_reason",
    "print_resume_hint",
    "quoted",
    "refuse_passwords",
    "resumed_words",
    "run_configs",
    "run_with_hydra",
    "searched_by_hydra",
    "split_resume",
    "status_of",
    "tell_finished",
]
