"""RUN, the folder of one run: who holds it, what it was asked to do, whether it is finished.

Imports nothing heavy: mistakes are reported, and the config is on disk, before torch is loaded.
"""

import contextlib
import dataclasses
import json
import logging
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from confide.config.composing.compose import own_files
from confide.config.composing.folders import current
from confide.config.run import Config
from confide.errors import ConfigError, StorageError, words_of
from confide.security.redaction import redact, redact_arguments
from confide.storage.files import locked, write_text

log = logging.getLogger(__name__)

CONFIG, COMMAND, PLAN, SUMMARY = "config.yaml", "command.yaml", "plan.json", "summary.json"
REPORT, CARD, AUDIT = "report.html", "model_card.md", "audit.json"
CURVES = "curves.svg"
CHECKPOINTS, STATES, SUMS = "checkpoints", "clients", "sums"
WITHDRAWN = "withdrawn.json"
INSTITUTIONS = "institutions.parquet"
LOG = "confide.log"
"""As conf/config.yaml names the job."""
LEDGER_HEADS = "ledger_heads.jsonl"
EDGES, STATISTICS, STATISTICS_PAGE = "edges.json", "statistics.json", "statistics.html"
GRAM = "gram.safetensors"
_OWN_FILES = f"{CHECKPOINTS}/conf"

_STALE = (
    SUMMARY,  # these eight must not stand beside what is computed now
    REPORT,
    CARD,
    AUDIT,
    CURVES,
    INSTITUTIONS,
    STATISTICS,
    STATISTICS_PAGE,
    "audit-*.svg",
    ".model-*",
    f".{CONFIG}-*",
    f".{COMMAND}-*",
    f".{PLAN}-*",
    f".{SUMMARY}-*",
    f"{STATES}/*/*/.round-*",
)
_OF_A_RUN = (
    LEDGER_HEADS,
    EDGES,
    GRAM,
    f"{CHECKPOINTS}/round-*.safetensors",
    f"{CHECKPOINTS}/alone.json",
    f"{CHECKPOINTS}/pooled.json",
    f"{CHECKPOINTS}/released.json",
    f"{CHECKPOINTS}/{WITHDRAWN}",
    f"{CHECKPOINTS}/wandb_run.txt",
    f"{CHECKPOINTS}/mlflow_run.txt",
    f"{STATES}/*/*/round-*.safetensors",
    _OWN_FILES,
    SUMS,
)

HOW_NOT_WHAT = frozenset(
    {
        "server.checkpoints",
        "server.dashboard",
        "server.enrol_timeout_s",
        "server.kit",
        "server.min_clients",
        "server.progress",
        "simulation.engine",
        "simulation.workers",
        "trainer.feature_cache",
    }
)
"""Settings that may differ when a run is resumed: they change how it is computed and not what, but
for last bits by ``simulation.engine=vectorised``. So may what begins with one of _BESIDE."""
_BESIDE = ("audit.", "report.", "simulation.ray.", "tracking.")


@dataclass(frozen=True, kw_only=True)
class Command:
    """How a run was started on the command line.

    Attributes:
        overrides: of the config, Hydra's own left out.
        cwd: where relative paths begin.
        program: simulate, server or statistics.
    """

    overrides: list[str]
    cwd: str
    program: str = "simulate"


@contextlib.contextmanager
def claimed(
    run_dir: Path, config: Config, *, resume: bool, command: Command | None = None
) -> Iterator[None]:
    """Hold RUN for this process, alone, with its config on disk.

    Args:
        run_dir: made if need be.
        config: what this process is asked to run.
        resume: whether to go on where an earlier process left off.
        command: how the run was started, or is resumed; None from Python.

    Raises:
        ConfigError: if another process holds RUN, or RUN belongs to a run with another config, or
            to an unfinished one that was not to be resumed.
        StorageError: if RUN cannot be written.
    """
    asked = described(config)
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{run_dir} cannot be written: {error}.") from None
    busy = f"Another process is at work in {run_dir}; wait for it, or stop it."
    with locked(run_dir / ".lock", otherwise=busy):
        if resume:
            refuse_changes(run_dir, asked)
        else:
            _refuse_unfinished(run_dir)
        _clean(run_dir, everything=not resume)
        write_text(run_dir / CONFIG, yaml.safe_dump(asked, sort_keys=False))
        if command is not None:  # of a resumed run too: what may differ holds from now on
            write_text(run_dir / COMMAND, yaml.safe_dump(dataclasses.asdict(command)))
        yield


def command_of(run_dir: Path) -> Command:
    """Read how a run was started.

    Raises:
        ConfigError: if there is no run that could be resumed on the command line.
    """
    path = run_dir / COMMAND
    try:
        return Command(**yaml.safe_load(path.read_text()))
    except NotADirectoryError:
        raise ConfigError(
            f"resume={run_dir}: expected the folder of a run, this is a file."
        ) from None
    except FileNotFoundError:
        begun = (
            "was begun from Python; resume it there"
            if unfinished(run_dir)
            else "holds no run that has begun; start it again"
        )
        raise ConfigError(f"resume={run_dir} {begun}.") from None
    except (OSError, TypeError, yaml.YAMLError) as error:
        raise ConfigError(
            f"resume={run_dir}: {path} cannot be read ({words_of(error)}); start the run anew."
        ) from None


def keep_own_files(run_dir: Path, overrides: Sequence[str]) -> None:
    """Keep what a run was composed from besides confide's own configs.

    It can then be resumed without the folders that they came from; config.yaml alone could not say
    what ``${oc.env:NAME}`` stands for.

    Args:
        run_dir: RUN, claimed by this process.
        overrides: of the config.
    """
    if not current().folders:
        return
    files = own_files(overrides)
    log.info("Own configs: %s", ", ".join(str(file.path) for file in files) or "none")
    for file in files:
        kept = run_dir / _OWN_FILES / f"{file.name}.yaml"
        if kept.resolve() == file.path.resolve():
            continue  # of a run that goes on
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_text(kept, file.path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise StorageError(f"{kept} cannot be written: {error}.") from None


def kept_own_files(run_dir: Path) -> list[Path]:
    """Return the folder of what :func:`keep_own_files` kept; nothing where there is none."""
    folder = run_dir / _OWN_FILES
    return [folder] if folder.is_dir() else []


def _clean(run_dir: Path, *, everything: bool) -> None:
    """Remove results and half-written files; for a new run everything of an earlier one."""
    patterns: tuple[str, ...] = _STALE
    if everything:  # COMMAND first: until the new config stands, there is nothing to resume
        patterns = (COMMAND, *_STALE, *_OF_A_RUN)
    for path in [path for pattern in patterns for path in run_dir.glob(pattern)]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def described(config: Config) -> dict[str, Any]:
    """Return a config as plain values, as ``config.yaml`` holds it.

    Passwords in addresses are masked.
    """
    plain: dict[str, Any] = yaml.safe_load(yaml.safe_dump(dataclasses.asdict(config)))
    for group, key in (("data", "path"), ("tracking", "mlflow_uri")):
        plain[group][key] = redact(plain[group][key]) if plain[group][key] else plain[group][key]
    plain["data"]["kwargs"] = redact_arguments(plain["data"]["kwargs"])
    return plain


def finished(run_dir: Path) -> dict[str, Any] | None:
    """Return the summary of a run that is complete; None if it is not."""
    summary = summary_of(run_dir)
    return summary if summary and summary.get("status") == "completed" else None


def summary_of(run_dir: Path) -> dict[str, Any] | None:
    """Return the summary of a run that has ended, with a model or without.

    None if there is none.
    """
    try:
        summary: dict[str, Any] = json.loads((run_dir / SUMMARY).read_text())
    except (OSError, json.JSONDecodeError):
        return None
    return summary


def refuse_changes(run_dir: Path, asked: Mapping[str, Any]) -> None:
    """Check that a run is resumed with its own config.

    Raises:
        ConfigError: with one line for each setting that differs.
    """
    try:
        before = yaml.safe_load((run_dir / CONFIG).read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(
            f"{run_dir / CONFIG} cannot be read ({words_of(error)}); start the run anew."
        ) from None
    # All at once, the settings that only one of the two releases knows included.
    then, now = flat(before), flat(asked)
    different = [key for key in sorted(then.keys() | now.keys()) if then.get(key) != now.get(key)]
    changed = [key for key in different if decides(key)]
    if changed:
        lines = [
            f"{key}: {then.get(key, 'unset')} in the run, {now.get(key, 'unset')} now"
            for key in changed
        ]
        heading = (
            f"resume={run_dir} goes on with the run's own config. Leave out what differs, or start"
            " a new run with it:"
        )
        raise ConfigError("\n      ".join([heading, *lines]))


def decides(key: str) -> bool:
    """Say whether a setting decides what a run computes, and not just how."""
    return key not in HOW_NOT_WHAT and not key.startswith(_BESIDE)


def unfinished(run_dir: Path) -> str | None:
    """Name the last checkpoint of a run that is not complete; None if there is no such run."""
    rounds = sorted((run_dir / CHECKPOINTS).glob("round-*.safetensors"))
    return rounds[-1].stem if rounds and finished(run_dir) is None else None


def can_resume(run_dir: Path) -> bool:
    """Say whether an unfinished run may be resumed on the command line.

    It has a checkpoint and hides no state.
    """
    try:
        config = yaml.safe_load((run_dir / CONFIG).read_text())
        strategy = config["strategy"]
        hidden = "_target_" in strategy and "objective" not in strategy  # one of Flower's own
        return bool(unfinished(run_dir)) and (run_dir / COMMAND).exists() and not hidden
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return False


def resume_command(run_dir: Path) -> str:
    """Write the command that resumes a run, as a shell takes it."""
    try:
        program = command_of(run_dir).program
    except ConfigError:
        program = "simulate"
    # `confide server` takes KIT where others take overrides, so resuming is an option there.
    if program == "server":
        return f"confide server --resume {shlex.quote(str(run_dir))}"
    return f"confide {program} {shlex.quote(f'resume={run_dir}')}"


def _refuse_unfinished(run_dir: Path) -> None:
    last = unfinished(run_dir)
    if last:
        goes_on = (
            f"Continue it with `{resume_command(run_dir)}`, or remove"
            if can_resume(run_dir)
            else "Remove"
        )
        raise ConfigError(
            f"{run_dir} holds an unfinished run ({last}). {goes_on} the folder, or choose another"
            " hydra.run.dir."
        )


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """Write nested values under dotted keys; lists stay whole."""
    if not isinstance(node, Mapping) or not node:
        return {prefix.removesuffix("."): node}
    return {
        key: value
        for name, child in node.items()
        for key, value in flat(child, f"{prefix}{name}.").items()
    }


__all__ = [
    "CARD",
    "CHECKPOINTS",
    "COMMAND",
    "CONFIG",
    "CURVES",
    "HOW_NOT_WHAT",
    "LOG",
    "PLAN",
    "REPORT",
    "STATES",
    "SUMMARY",
    "SUMS",
    "WITHDRAWN",
    "Command",
    "can_resume",
    "claimed",
    "command_of",
    "decides",
    "described",
    "finished",
    "flat",
    "keep_own_files",
    "kept_own_files",
    "refuse_changes",
    "resume_command",
    "summary_of",
    "unfinished",
]
