"""The main job, which is what runs when nothing is said of what is to be learnt.

Whoever names a task, records, a backbone or an experiment starts from neutral settings: those that
``config.yaml`` and the schema give, none of which were chosen for somebody else's records.
"""

import re
from collections.abc import Sequence

from confide.config.composing.folders import current
from confide.config.composing.going_on import with_job_of_run
from confide.config.generators.table import GENERATORS
from confide.errors import ConfigError

MAIN_JOB = "experiment=tweets"
_GENERATOR = re.compile(r"data[./]generator=(\w+)")
_DELAYS = re.compile(r"simulation\.delays=(\w+)")
_NAMES_A_JOB = ("task", "data", "backbone", "experiment")
# Stands in data.path where records are read by nobody here
ELSEWHERE = "institutions"


def with_main_job(overrides: Sequence[str]) -> list[str]:
    """Put the main job before overrides that name no job of their own.

    A generator knows what there is to learn of its records, so that it is a job where nothing else
    is said.

    Raises:
        ConfigError: if they name none and the current project has experiments of its own.
    """
    overrides = [_GENERATOR.sub(r"data/generator=\1", word) for word in overrides]
    overrides = [_DELAYS.sub(r"simulation/delays=\1", word) for word in overrides]
    overrides = with_job_of_run(overrides)
    if names_a_job(overrides):
        return [*_made(overrides), *overrides]
    own = own_experiments()
    if own:
        raise ConfigError(
            "Nothing is said of task, data, backbone or experiment, and this project has"
            f" experiments of its own. Choose experiment={' or experiment='.join(own)};"
            f" {MAIN_JOB} is the main job."
        )
    return [MAIN_JOB, *overrides]


def _made(overrides: Sequence[str]) -> list[str]:
    """Name the experiment of a generator that is chosen alone."""
    chosen = [found[1] for word in overrides if (found := _GENERATOR.fullmatch(word))]
    others = {"task", "backbone", "experiment"} & {_group(word) for word in overrides}
    known = [GENERATORS[name] for name in chosen if name in GENERATORS]
    return [f"experiment={known[-1].experiment}"] if known and not others else []


def without_records(overrides: Sequence[str]) -> list[str]:
    """Complete the overrides of a job whose records institutions hold, which nobody reads here."""
    words = with_main_job(overrides)
    named = {_group(word) for word in words}
    # An experiment names records already
    path = [] if {"data", "experiment"} & named else [f"data.path={ELSEWHERE}"]
    return [*words, *path, "data.public=true"]


def names_a_job(overrides: Sequence[str]) -> bool:
    """Say whether overrides name a task, records, a backbone or an experiment, or a part of one."""
    return any(_group(word) in _NAMES_A_JOB for word in overrides)


def own_experiments() -> list[str]:
    """Name the experiments in the folders of own configs that are searched now."""
    names = {path.stem for f in current().folders for path in (f / "experiment").glob("*.yaml")}
    return sorted(names)


def _group(override: str) -> str:
    return re.split(r"[.=@/]", override.lstrip("+~"), maxsplit=1)[0]


__all__ = [
    "ELSEWHERE",
    "MAIN_JOB",
    "names_a_job",
    "own_experiments",
    "with_main_job",
    "without_records",
]
