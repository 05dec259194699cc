"""From overrides to a checked config.

Hydra stops at its first mistake; a person wants them all. :func:`compose` therefore applies
overrides together, and only when that fails one by one, collecting what each says, before it checks
ranges and contradictions. Nothing heavy is imported.
"""

import contextlib
import difflib
from collections.abc import Iterator, Sequence

from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException, ValidationError

from confide.config.composing.choices import options
from confide.config.composing.folders import CONF_MODULE, composing_without, current, shown
from confide.config.composing.going_on import going_on, gone_on_from, model_words
from confide.config.composing.hydra_state import own_hydra
from confide.config.composing.main_job import with_main_job
from confide.config.composing.own_files import Mistake, OwnFile, find_mistakes, locate, place_of
from confide.config.composing.problems import (
    NAMED_IN_FILE,
    first_line,
    near,
    no_choice,
    setting_keys,
    unasked_guarantees,
    value_problems,
    without_consequences,
)
from confide.config.composing.quoting import quote_texts
from confide.config.composing.schema import register_schema
from confide.config.composing.suited import register_rule, suited_words
from confide.config.composing.sweeps import (
    RefusedJob,
    count_jobs,
    expand,
    has_pattern,
    written_out,
)
from confide.config.composing.words import emptied, is_hydra, no_override, no_value, not_read
from confide.config.run import Config
from confide.errors import ConfigError
from confide.security.redaction import redact

# Each job is composed, which takes its time: the first ones of a larger sweep stand for all.
_MOST_JOBS_CHECKED = 256
_QUOTES = "'\""
# Hydra raises a bare ValueError for a group that is given a number.
_COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException, ValueError)


def compose(overrides: Sequence[str] = ()) -> Config:
    """Compose a run's config and check it.

    Args:
        overrides: Hydra overrides, such as ``strategy=fedadam`` or ``privacy.epsilon=3``; if none
            names a task, data, a backbone or an experiment, they are of the main job.

    Returns:
        The checked config.

    Raises:
        ConfigError: naming every mistake.
    """
    given = mappings_emptied(quote_texts([word for word in overrides if not is_hydra(word)]))
    words = with_main_job(given)
    with own_hydra():
        composed, problems, mistakes = _compose_collecting(words)
        said = model_words(composed, given)
        told = tuple(word for word in given if any(one.startswith(f"{word}:") for one in said))
        problems = [one for one in problems if not one.startswith(told)] + said
        if composed is not None:
            gone_on, differing = gone_on_from(composed)
            problems += differing
        if composed is not None and gone_on is not None:
            composed = gone_on
            found = [*value_problems(composed), *unasked_guarantees(composed, words)]
            # What was wrong in a file was left out, and is not also missing or contradicted
            found = [p for p in found if not any(mistake.covers(p) for mistake in mistakes)]
            found = without_consequences(found, problems)
            problems += _located(found, words)
    problems = [*map(str, mistakes), *problems]
    if composed is None or problems:
        raise ConfigError(problems)
    return to_config(composed)


def mappings_emptied(words: Sequence[str]) -> list[str]:
    """Write out the words of a command line that empty a mapping, such as KEY={}."""

    def base(others: Sequence[str]) -> DictConfig | None:
        with own_hydra(), contextlib.suppress(*_COMPOSITION_ERRORS, ConfigError):
            return _compose_once(first_job(with_main_job([w for w in others if not is_hydra(w)])))
        return None

    return emptied(words, base)


def _located(problems: Sequence[str], overrides: Sequence[str]) -> list[str]:
    if not problems or not current().folders:
        return list(problems)
    # Whatever is wrong in files, or cannot be read, is no obstacle
    with composing_without(lambda path, keys: True):
        files = _own_files(_chosen(overrides))
    return [locate(problem, files, [_key(word) for word in overrides]) for problem in problems]


def own_files(overrides: Sequence[str]) -> list[OwnFile]:
    """List the own files that a config is composed from, in the order in which they are merged."""
    return _own_files(with_main_job([word for word in overrides if not is_hydra(word)]))


def _own_files(words: Sequence[str]) -> list[OwnFile]:
    with own_hydra():
        register_schema()
        with _loader() as loader:
            merged = loader.compute_defaults_list("config", list(words), RunMode.RUN).defaults
    loaded = current().loaded
    return [
        OwnFile(
            path=loaded[name],
            name=name,
            package=tuple(default.package.split(".")) if default.package else (),
        )
        for default in merged
        if (name := str(default.config_path)) in loaded
    ]


def check_jobs(overrides: Sequence[str]) -> list[RefusedJob]:
    """Check every job of a sweep before the first one starts.

    Args:
        overrides: overrides whose values may be sweeps, as for ``--multirun``.

    Returns:
        The jobs that do not fit, where their values are of a pattern, such as ``strategy=glob(*)``,
        and others do: nobody wrote them down one by one.

    Raises:
        ConfigError: naming every mistake, each once; where no job fits, those that all have.
    """
    refused = []
    jobs = _jobs(overrides, most=_MOST_JOBS_CHECKED)
    for job in jobs:
        try:
            compose(job)
        except ConfigError as error:
            refused.append(RefusedJob(overrides=job, problems=list(error.problems)))
    found = list(dict.fromkeys(problem for job in refused for problem in job.problems))
    if not found or (len(refused) < len(jobs) and has_pattern(overrides)):
        return refused
    everywhere = [p for p in found if all(p in job.problems for job in refused)]
    raise ConfigError(everywhere if len(refused) == len(jobs) and everywhere else found)


def without_patterns(overrides: Sequence[str], refused: Sequence[RefusedJob]) -> list[str]:
    """Write out patterns such as ``glob(*)``, without the values that fit in no job.

    Args:
        overrides: of a sweep.
        refused: of its jobs, as :func:`check_jobs` returns them.
    """
    with _loader() as loader:
        return written_out(overrides, loader, refused)


def to_config(composed: DictConfig) -> Config:
    """Turn what Hydra composed into dataclasses, checked.

    Raises:
        ConfigError: naming every value that is missing, out of range or contradicted.
    """
    register_rule()  # a job of a sweep may run in a process of its own
    composed = going_on(composed)
    problems = value_problems(composed)
    if problems:
        raise ConfigError(problems)
    # From here on there are dataclasses only: no DictConfig enters a class.
    config = OmegaConf.to_object(composed)
    assert isinstance(config, Config)
    return config


def hydra_settings(overrides: Sequence[str]) -> DictConfig:
    """Compose Hydra's own settings, as the first job of a sweep has them.

    Args:
        overrides: with those of Hydra's own; values may be sweeps.

    Raises:
        ConfigError: if Hydra does not know what is asked of it.
    """
    # Only one job: Hydra reads its own settings once for a whole sweep.
    own = [word for word in overrides if is_hydra(word)]
    job = first_job(with_main_job([word for word in overrides if not is_hydra(word)]))
    register_schema()
    try:
        with initialize_config_module(CONF_MODULE, version_base="1.3"):
            composed = hydra_compose("config", overrides=[*job, *own], return_hydra_config=True)
    except MissingConfigException as error:
        plugin = next((word for word in own if word.endswith(("=optuna", "=joblib"))), None)
        fix = f"{plugin}: Hydra has no such plugin here; `pip install 'confide[sweeps]'` brings it."
        raise ConfigError(fix if plugin else first_line(error)) from None
    except _COMPOSITION_ERRORS as error:
        raise ConfigError(first_line(error)) from None
    settings: DictConfig = composed.hydra
    return settings


def rule_words(overrides: Sequence[str]) -> list[str]:
    """Return the overrides that set what a rule decides, for a command that shows a config.

    Args:
        overrides: of the first job of a sweep, if it is one; nothing is returned if they are wrong.
    """
    with own_hydra(), contextlib.suppress(*_COMPOSITION_ERRORS, ConfigError):
        return suited_words(
            going_on(_compose_once(first_job([w for w in overrides if not is_hydra(w)])))
        )
    return []


def num_jobs(overrides: Sequence[str]) -> int:
    """Count the jobs of a sweep over every combination."""
    with _loader() as loader:
        return count_jobs(overrides, loader)


def first_job(overrides: Sequence[str]) -> list[str]:
    """Return the overrides of the first job of a sweep."""
    [job] = _jobs(overrides, most=1)
    return job


def choices(group: str) -> list[str]:
    """List the choices of a group."""
    with own_hydra():
        register_schema()
        return _options(group)


def _jobs(overrides: Sequence[str], *, most: int) -> list[list[str]]:
    with _loader() as loader:
        return [list(job) for job in expand(overrides, loader, most=most)]


@contextlib.contextmanager
def _loader() -> Iterator[ConfigLoader]:
    """Give what knows the choices of each group."""
    with initialize_config_module(CONF_MODULE, version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


def _compose_once(overrides: Sequence[str]) -> DictConfig:
    register_schema()
    with initialize_config_module(CONF_MODULE, version_base="1.3"):
        return hydra_compose("config", overrides=list(overrides))


def _compose_collecting(
    overrides: Sequence[str],
) -> tuple[DictConfig | None, list[str], list[Mistake]]:
    """Compose; where that fails, without what is wrong in own files and on the command line."""
    composed = _composed(overrides)
    mistakes = _own_mistakes(overrides) if current().loaded else []
    if composed is not None and not mistakes:
        return composed, [], []
    wrong = {(one.file.path, one.keys) for one in mistakes if one.sort != "unwise"}
    with composing_without(lambda path, keys: (path, keys) in wrong):
        return *_compose_one_by_one(overrides), mistakes


def _own_mistakes(overrides: Sequence[str]) -> list[Mistake]:
    """Hold the own files that a config would be composed from to the schema."""
    with composing_without(lambda path, keys: True):
        chosen = _chosen(overrides)
        base = _composed(chosen)
        files = _own_files(chosen) if base is not None else []
        return find_mistakes(base, files) if base is not None and files else []


def _chosen(overrides: Sequence[str]) -> list[str]:
    """Return what is chosen of groups, without what is wrong by itself; nothing if all clash."""
    chosen = [word for word in overrides if "." not in _key(word)]
    if _composed(chosen) is not None:
        return chosen
    alone = [word for word in chosen if _composed([word]) is not None]
    return alone if _composed(alone) is not None else []


def _composed(overrides: Sequence[str]) -> DictConfig | None:
    try:
        return _compose_once(overrides)
    except _COMPOSITION_ERRORS:
        return None


def _compose_one_by_one(overrides: Sequence[str]) -> tuple[DictConfig | None, list[str]]:
    good: list[str] = []
    problems: list[str] = []
    # Groups first: `strategy.proximal=1` means nothing before `strategy=...` is chosen.
    for override in sorted(overrides, key=lambda text: "." in text.split("=")[0]):
        try:
            _compose_once([*good, override])
            good.append(override)
        except _COMPOSITION_ERRORS as error:
            problems.append(_explain(override, error, good))
    try:
        return _compose_once(good), problems
    except _COMPOSITION_ERRORS as error:
        return None, [*problems, str(error).strip()]


def _explain(override: str, error: Exception, good: Sequence[str]) -> str:
    """Say what is wrong with one override, and how to fix it; a password in it is masked."""
    return redact(_reason(override, error, good))


def _reason(override: str, error: Exception, good: Sequence[str]) -> str:
    if (how := no_override(override)) is not None:
        return how
    key = _key(override)
    # Hydra wraps what OmegaConf says, which is closer to the mistake.
    cause = error.__cause__ or error
    if isinstance(error, MissingConfigException):
        group, choice = key.split("@")[0], override.partition("=")[2]
        if error.missing_cfg_file not in (None, f"{group}/{choice.strip(_QUOTES)}"):
            # A file that was chosen names another one in its defaults
            return f"{override}: {_missing_default(error)}"
        other = [
            shown(f / group / f"{choice}.yml")
            for f in current().folders
            if (f / group / f"{choice}.yml").is_file()
        ]
        if other:
            return f"{override}: {other[0]} is not looked at; rename it to {choice}.yaml."
        return f"{override}: {no_choice(key, choice, _options(group))}"
    if isinstance(cause, ConfigKeyError) or "Key '" in str(cause):
        known = setting_keys(_compose_once(good))
        if key in known:  # a key inside the value
            return f"{override}: {first_line(cause)}."
        close = difflib.get_close_matches(key, known, n=2, cutoff=0.6)
        guess = f" Did you mean {' or '.join(close)}?" if close else ""
        return f"{override}: there is no setting {key}.{guess} `--cfg job` prints every setting."
    if isinstance(cause, ValidationError):
        return no_value(override, cause)
    if isinstance(error, ConfigCompositionException) and _options(key.split("@")[0]):
        return f"{override}: {first_line(cause)} Choose one of: {', '.join(_options(key))}."
    if isinstance(cause, HydraException):
        return not_read(override, first_line(cause))
    return f"{override}: {first_line(cause)}"


def _missing_default(error: MissingConfigException) -> str:
    group, _, choice = str(error.missing_cfg_file).rpartition("/")
    # Hydra names the file only where it is not an override of a group
    named = str(error).partition("'")[2].partition("'")[0]
    naming = [
        file
        for file in (OwnFile(path=path, name=n, package=()) for n, path in current().loaded.items())
        if named == file.name or choice in file.defaults
    ]
    by = place_of(naming[-1], ("defaults",)) if naming else named
    known = _options(group) if group else []
    return f"{by} names {error.missing_cfg_file}, {NAMED_IN_FILE}.{near(choice, known)}"


def _key(override: str) -> str:
    return override.split("=")[0].lstrip("+~")


def _options(group: str) -> list[str]:
    with _loader() as loader:
        return options(group, loader)


__all__ = [
    "CONF_MODULE",
    "check_jobs",
    "choices",
    "compose",
    "first_job",
    "hydra_settings",
    "is_hydra",
    "mappings_emptied",
    "num_jobs",
    "own_files",
    "rule_words",
    "to_config",
    "without_patterns",
]
