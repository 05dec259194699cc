"""``confide simulate``: Hydra's command line around :func:`confide.simulations.run.simulate`."""

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console

from confide.addresses import redact
from confide.compose import CONF_MODULE, check_jobs, compose, is_hydra, register_schema, to_config
from confide.config import Config
from confide.errors import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    ConfideError,
    ConfigError,
    DataError,
    UnreadableError,
)
from confide.server.run_folder import (
    Command,
    can_resume,
    claimed,
    command_of,
    described,
    finished,
    refuse_changes,
    resume_command,
)
from confide.simulations.preload import prepare_workers

log = logging.getLogger(__name__)

_INFORMATION_FLAGS = frozenset({"--help", "-h", "--hydra-help", "--version", "--info", "-i"})


def main(argv: Sequence[str]) -> int:
    """Run ``confide simulate`` with Hydra's own words, or ``confide simulate resume=RUN``.

    Args:
        argv: overrides and Hydra's flags (``--help``, ``--cfg job``, ``-m``).

    Returns:
        The exit status.

    Raises:
        ConfigError: naming every mistake, before anything heavy is imported.
    """
    words, resumed = _split_resume(argv)
    if resumed is not None:
        words = _resumed_words(resumed, words)
        summary = finished(resumed)
        if summary is not None:
            model = summary["model_sha256"][:12]
            print(f"{resumed} is finished: {summary['rounds']} rounds, model {model}. Nothing to resume.")
            return 0
    if not _INFORMATION_FLAGS & set(words):
        refuse_passwords(_overrides(words))
        check_jobs(_overrides(words))

    def run(composed: DictConfig) -> None:
        _run(composed, resume=resumed is not None)

    register_schema()
    sys.argv = ["confide simulate", *words]
    hydra.main(config_path=f"pkg://{CONF_MODULE}", config_name="config", version_base="1.3")(run)()
    return 0


def refuse_passwords(overrides: Sequence[str]) -> None:
    """Refuse a password typed on the command line, where the process list, the shell's history and RUN/.hydra keep it.

    Raises:
        ConfigError: with the setting, the password masked.
    """
    shown = [redact(word) for word in overrides if redact(word) != word]
    if shown:
        raise ConfigError(
            [
                f"{word}: a password on the command line is kept by the shell and by RUN. Write ${{oc.env:NAME}} for it, "
                "in quotes, or leave it to ~/.pgpass."
                for word in shown
            ]
        )


def _resumed_words(run_dir: Path, words: Sequence[str]) -> list[str]:
    """Return the command line of a run that is to go on, checked before Hydra touches its folder; go where it was started."""
    command = command_of(run_dir)
    try:
        os.chdir(command.cwd)  # relative paths mean what they meant
    except OSError as error:
        raise ConfigError(f"resume={run_dir}: the run was started in {command.cwd}, which is gone ({error}).") from None
    words = [*command.overrides, *words]
    refuse_changes(run_dir, described(compose(_overrides(words))))
    return [*words, f"hydra.run.dir={_quoted(run_dir)}", "hydra.output_subdir=null"]


def _split_resume(argv: Sequence[str]) -> tuple[list[str], Path | None]:
    """Take ``resume=RUN`` out of the command line."""
    asked = [word.partition("=")[2] for word in argv if word.startswith("resume=")]
    words = [word for word in argv if not word.startswith("resume=")]
    if not asked:
        return words, None
    problems = []
    if len(asked) > 1 or not asked[0]:
        problems.append(f"resume={','.join(asked)}: expected the folder of one run.")
    if {"-m", "--multirun"} & set(words):
        problems.append("resume: a sweep is resumed job by job; leave -m out.")
    problems += [f"{word}: a run is resumed where it is, as it was; leave it out." for word in words if is_hydra(word)]
    if problems:
        raise ConfigError(problems)
    return words, Path(asked[0]).expanduser().resolve()


def _quoted(path: Path) -> str:
    """Quote a path for Hydra, whose grammar gives = and spaces a meaning."""
    escaped = str(path).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _overrides(argv: Sequence[str]) -> list[str]:
    """Pick the overrides out of Hydra's command line."""
    takes_value = {
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
    words, skip = [], False
    for word in argv:
        if skip:
            skip = False
        elif word in takes_value:
            skip = True
        elif not word.startswith("-"):
            words.append(word)
    return words


def _run(composed: DictConfig, *, resume: bool) -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    os.environ.setdefault("TQDM_DISABLE", "1")  # a bar of our own says more than those of the libraries
    logging.raiseExceptions = False  # on a full disk the log has no room for complaints about itself
    run_dir = Path(HydraConfig.get().runtime.output_dir)
    try:
        _simulate(to_config(composed), run_dir, resume=resume)
    except (ConfideError, KeyboardInterrupt) as error:
        told = "interrupted." if isinstance(error, KeyboardInterrupt) else str(error)
        log.info("%s", told)
        print(f"confide simulate: {told}", file=sys.stderr)
        if can_resume(run_dir) and not isinstance(error, ConfigError | DataError | UnreadableError):
            print(f"`{resume_command(run_dir)}` goes on from its last checkpoint.", file=sys.stderr)
        sys.exit(_status(error))


def _status(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    return EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED


def _simulate(config: Config, run_dir: Path, *, resume: bool) -> None:
    command = Command(overrides=[str(word) for word in HydraConfig.get().overrides.task], cwd=os.getcwd())
    with claimed(run_dir, config, resume=resume, command=command):
        if config.simulation.engine == "process":
            prepare_workers()
        # Imported once the config is known to be right and is on disk: torch, transformers and Opacus take seconds.
        from confide.server.progress import make_progress
        from confide.server.results import closing_table
        from confide.simulations.run import carry_out

        summary = carry_out(config, run_dir, progress=make_progress(config.task.primary_metric))
    console = Console()
    console.print(closing_table(summary))
    for line in closing_lines(summary, run_dir):
        console.print(line, highlight=False, soft_wrap=True)


def closing_lines(summary: dict[str, object], run_dir: Path) -> list[str]:
    """Say in three lines what was learnt, what it cost, and where it lies."""
    metric, federated, privacy = summary["primary_metric"], summary["federated"], summary["privacy"]
    assert isinstance(federated, dict)
    assert isinstance(privacy, dict)
    scores = ", ".join(
        f"{name} {value:.3f}" for name, value in federated.items() if name in (metric, "auc", "macro_f1", "log_loss")
    )
    lines = [f"Federated model, {federated['test_examples']} pooled test records: {scores}."]
    if privacy["unit"] != "none":
        lines.append(
            f"Privacy: epsilon {privacy['epsilon']:g} at delta {privacy['delta']:g} a {privacy['unit']} and institution; "
            f"{privacy['guarantee']}."
        )
    lines += _budget_lines(summary["clients"])
    failures = summary["failures"]
    assert isinstance(failures, dict)
    without: dict[str, list[str]] = {}
    for server_round, missing in failures.items():
        for name, code in missing.items():
            without.setdefault(f"{name} ({code})", []).append(server_round)
    lines += [f"Without {who} in round {', '.join(rounds)}." for who, rounds in without.items()]
    digest = str(summary["model_sha256"])[:12]
    return [*lines, f"{summary['rounds']} rounds in {summary['seconds']} s; model {digest} and all else in {run_dir}"]


def _budget_lines(clients: object) -> list[str]:
    """Say what ledgers that outlive the run have committed."""
    assert isinstance(clients, dict)
    budgets = {name: client["budget"] for name, client in clients.items() if "budget" in client}
    told = ", ".join(f"{name} {b['committed']:.2f} of {b['epsilon']:g}" for name, b in budgets.items())
    return [f"Lifetime epsilon committed: {told}."] if budgets else []


__all__ = ["main"]
