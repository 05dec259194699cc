"""What a coordinator starts, by its commands: a kit, a job's words, and all processes of its side.

Hydra's command line composes the config; the supervisor starts SuperLink, the front and what asks
institutions, which RUN/command.yaml names: the rounds of a run, or statistics.
"""

import logging
import os
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from confide.audit_log.user import user
from confide.config.composing.compose import is_hydra, to_config
from confide.config.composing.main_job import without_records
from confide.config.run import Config
from confide.deployment.lifetime import stop_signals
from confide.errors import EXIT_INTERRUPTED, ConfideError, ConfigError
from confide.monitoring.address import check
from confide.server.deployment.audited import open_audit_log, start_of
from confide.server.deployment.kit import FILE, load_coordinator_kit
from confide.server.deployment.launch import supervised
from confide.server.deployment.watched import KnownRun, note_run
from confide.server.run.command_line import (
    Resumption,
    log_unforeseen,
    overrides_of,
    print_reason,
    print_resume_hint,
    quoted,
    status_of,
)
from confide.server.run_folder import Command, claimed, keep_own_files

_KIT = "server.kit="


def new_words(words: Sequence[str], *, program: str = "server") -> list[str]:
    """Add to the command line ``words`` of a new run its kit, number of institutions and job name.

    Args:
        words: command line.
        program: the command, for messages.

    Raises:
        ConfigError: if no kit is named, or this is a sweep.
    """
    if {"-m", "--multirun"} & set(words):
        raise ConfigError(
            f"confide {program}: a sweep would spend every institution's budget many times; start"
            " runs one by one."
        )
    # A folder's name may hold a "=", and would then look like an override.
    kits = [
        word
        for word in overrides_of(words)
        if "=" not in word or word.startswith(_KIT) or is_kit(word)
    ]
    if len(kits) != 1:
        raise ConfigError(
            f"confide {program} KIT [OVERRIDES]: name the folder `coordinator` that `confide"
            " provision` made."
        )
    kit = load_coordinator_kit(Path(kits[0].removeprefix(_KIT)))
    rest = [word for word in words if word != kits[0]]
    # Records are at the institutions, so the config's settings of data have no effect here; these
    # satisfy its checks.
    given = [word for word in overrides_of(rest) if not is_hydra(word)]
    rest += [word for word in without_records(given) if word not in given]
    rest += [
        f"{_KIT}{quoted(kit.folder)}",
        f"data.num_clients={max(1, len(kit.institutions))}",
    ]
    # Institutions key their state and ledger by the job, so two runs must never share a name.
    if not any(word.startswith("job=") for word in rest):
        rest.append(f"job={quoted(f'{kit.name}-{secrets.token_hex(3)}'.replace(' ', '-'))}")
    return rest


def is_kit(word: str) -> bool:
    """Say whether a word of the command line is a coordinator's kit."""
    return (Path(word) / FILE).is_file()


def start(composed: DictConfig, resumed: Resumption | None, *, program: str = "server") -> None:
    """Run what a config asks for to its end, which is the process's too unless all is well."""
    run_dir = Path(HydraConfig.get().runtime.output_dir)
    # Otherwise a full disk prints a traceback for each message that cannot be logged.
    logging.raiseExceptions = False
    try:
        status = _supervise(to_config(composed), run_dir, resumed, program)
    except (ConfideError, KeyboardInterrupt) as error:
        print_reason(program, error, run_dir)
        sys.exit(status_of(error))
    except Exception as error:
        unforeseen = log_unforeseen(error)
        print_reason(program, unforeseen, run_dir)
        sys.exit(status_of(unforeseen))
    if status:
        if status == EXIT_INTERRUPTED:
            print(f"confide {program}: interrupted.", file=sys.stderr)
        print_resume_hint(run_dir)
        sys.exit(status)


def _supervise(config: Config, run_dir: Path, resumed: Resumption | None, program: str) -> int:
    """Run until the rounds are done; return their exit status, or 130 if interrupted."""
    assert config.server.kit is not None
    kit = load_coordinator_kit(Path(config.server.kit))
    if config.server.dashboard is not None:
        check(config.server.dashboard, "server.dashboard")
    overrides = [str(word) for word in HydraConfig.get().overrides.task]
    command = Command(overrides=overrides, cwd=os.getcwd(), program=program)
    resume = resumed is not None
    with claimed(run_dir, config, resume=resume, command=command), stop_signals() as stop:
        keep_own_files(run_dir, overrides)
        audit_log = open_audit_log(kit)
        audit_log.append("started", start_of(kit) | {"job": str(config.job), "program": program})
        if resumed is not None and resumed.without:
            from confide.server.run.withdrawal import withdraw  # reads a checkpoint: loads torch

            withdraw(run_dir, resumed.without, least=config.server.min_clients)
            for name in resumed.without:
                content = {"institution": name, "job": str(config.job), "user": user()}
                audit_log.append("withdrawn", content)
        if config.server.progress != "quiet":
            print(
                f"{kit.name}: expecting {len(kit.institutions)} institutions at"
                f" {', '.join(kit.hosts)} port {kit.port}; job {config.job}, all else in {run_dir}",
                file=sys.stderr,
            )
        with supervised(kit, run_dir, listen=config.server.dashboard) as supervisor:
            note_run(
                kit,
                KnownRun(
                    job=str(config.job),
                    folder=str(run_dir),
                    program=program,
                    started=time.time(),
                ),
            )
            supervisor.run(stop)
            status = EXIT_INTERRUPTED if supervisor.ended is None else supervisor.ended[1]
        audit_log.append("ended", {"process": "server", "job": str(config.job), "status": status})
        return status


__all__ = ["is_kit", "new_words", "start"]
