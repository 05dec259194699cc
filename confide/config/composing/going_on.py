"""``backbone=run``: a config whose model is the one that an earlier run released.

The earlier run says what the model is: its backbone, its tuning, and the schema of the records that
it takes. This config says whose records it goes on with, how and how privately. What the two say
differently of the model is a mistake, told here; the files themselves are read, and their hashes
checked, when the run begins.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from confide.config.models.run import GOES_ON
from confide.config.models.table import BACKBONES
from confide.config.tasks.task import TaskConfig
from confide.config.tunings.table import TUNINGS, own_settings
from confide.errors import ConfigError, words_of
from confide.storage.files import read_regular

_CHOICE = f"backbone={GOES_ON}"
_DESCRIPTION, _COMMAND = "confide.json", "command.yaml"
_FREE = ("metrics", "primary_metric", "drafted", "self_training", "subgroups", "kwargs")
"""Settings of a task that say nothing of what the tensors mean."""
_NOT_AGAIN = (
    "job",
    "backbone",
    "tuning",
    "server.start_from",
    "server.release",
    "server.release_margin",
)
"""Overrides of an earlier run that are not those of a run that goes on from it."""
_OTHERS = ("backbone", "tuning", "hydra", "tracking")
"""Groups of which the same holds."""
_HERE = ("_target_", ".address", ".dashboard", ".kit")
"""Ends settings that name code, another machine, or what is this machine's own: none is taken on a
file's word."""
_LONGEST = 2**20
"""Bytes of an earlier run's words."""


def with_job_of_run(overrides: Sequence[str]) -> list[str]:
    """Put the earlier run's own overrides before those of a run that says no more than ``run``.

    What names a task, records or an experiment says whose records it goes on with; what names none
    goes on as the earlier run was started, if it was started on a command line. RUN may have come
    from others: its words choose settings, and neither options of the command, nor what is looked
    up on this machine, nor code, nor where a run is told.

    Raises:
        ConfigError: naming words that would do more than choose.
    """
    named = {word.lstrip("+~").replace("@", "=").split("=")[0] for word in overrides}
    groups = {key.split(".")[0].split("/")[0] for key in named}
    path = _path(overrides)
    if _CHOICE not in overrides or path is None or groups & {"task", "experiment"}:
        return list(overrides)
    try:
        text = read_regular(_run_of(Path(path)) / _COMMAND, most=_LONGEST).decode()
        listed = yaml.safe_load(text)["overrides"]
        # Of aliases in YAML other values may be larger than any memory once they are written out
        words = [word for word in listed if isinstance(word, str)]
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, RecursionError):
        return list(overrides)  # what is not set is told as such
    kept = [word for word in words if _is_kept(word, named)]
    odd = [word for word in kept if word.startswith("-") or ("${" in word and ":" in word)]
    if odd:
        raise ConfigError(
            f"backbone.path={path}: it was started with {' '.join(odd)}, which a run that goes on"
            " does not take over, since it is an option of the command or looks something up on"
            " this machine; write it, or another value for it, on the command line."
        )
    return [*kept, *overrides]


def _path(overrides: Sequence[str]) -> str | None:
    found = [word.partition("=")[2] for word in overrides if word.startswith("backbone.path=")]
    return found[-1].strip("'\"") if found else None


def _run_of(path: Path) -> Path:
    """Return RUN, of it or of the model in it."""
    path = path.expanduser()
    return path.parent if (path / _DESCRIPTION).is_file() else path


def _is_kept(word: str, named: set[str]) -> bool:
    key = word.lstrip("+~").split("=")[0]
    again = key in _NOT_AGAIN or re.split(r"[./@]", key)[0] in _OTHERS
    return not again and key not in named and not key.endswith(_HERE)


def is_going_on(composed: DictConfig) -> bool:
    """Say whether a composed config names an earlier run, which is not in its place yet."""
    return bool(OmegaConf.select(composed, "backbone.kind", throw_on_missing=False) == GOES_ON)


def going_on(composed: DictConfig) -> DictConfig:
    """Return a config with the earlier run's backbone and tuning in place of its name.

    Args:
        composed: as Hydra composed it; returned as it is if it names no earlier run.

    Raises:
        ConfigError: if there is no such run, or its task is another, naming each difference.
    """
    found, problems = gone_on_from(composed)
    if found is None or problems:
        raise ConfigError(problems)
    return found


def gone_on_from(composed: DictConfig) -> tuple[DictConfig | None, list[str]]:
    """Do as :func:`going_on`, and tell mistakes beside what can be composed all the same.

    Returns:
        The config, None where the earlier run cannot be used; and what is wrong.
    """
    if not is_going_on(composed):
        return composed, []
    if OmegaConf.is_missing(composed.backbone, "path"):
        unset = "backbone.path is not set; name the RUN that this one goes on from, backbone.path="
        return None, [f"{unset}RUN."]
    try:
        return _with_model_of_run(composed)
    except ConfigError as error:
        return None, list(error.problems)


def _with_model_of_run(composed: DictConfig) -> tuple[DictConfig, list[str]]:
    path = str(composed.backbone.path)
    described = _described(path)
    backbone, tuning = dict(described["backbone"]), own_settings(dict(described["tuning"]))
    if described.get("backbone_sha256") is not None:
        backbone["sha256"] = described["backbone_sha256"]
    found, kind = composed.copy(), BACKBONES.get(str(backbone.get("kind")))
    if kind is None or tuning.get("kind") not in TUNINGS:
        raise ConfigError(
            f"backbone.path={path}: its backbone.kind={backbone.get('kind')} with tuning.kind="
            f"{tuning.get('kind')} is none of this release; name a run of this one."
        )
    if kind.schema().needed_rounds is not None:
        raise ConfigError(
            f"backbone.path={path}: backbone.kind={backbone['kind']} is complete once its rounds"
            f" are done, and trains no further; start anew with backbone={kind.choice} and more of"
            " it, such as backbone.num_trees."
        )
    _refuse_other_start(found, path)
    try:
        with open_dict(found):
            OmegaConf.update(found, "server.start_from", path)
            found.backbone = OmegaConf.merge(OmegaConf.structured(kind.schema), backbone)
            found.tuning = OmegaConf.merge(
                OmegaConf.structured(TUNINGS[str(tuning["kind"])].schema), tuning
            )
    except OmegaConfBaseException as error:
        told = str(error).strip().splitlines()[0]
        raise ConfigError(f"backbone.path={path}: {_DESCRIPTION} is damaged: {told}") from None
    return found, _task_differences(found, described["task"], path)


def _refuse_other_start(composed: DictConfig, path: str) -> None:
    other = OmegaConf.select(composed, "server.start_from")
    if other not in (None, path):
        raise ConfigError(
            f"server.start_from={other}: {_CHOICE} starts from backbone.path={path}; leave one out."
        )


def _described(path: str) -> Mapping[str, Any]:
    """Read what a run says of its model, without the tensors."""
    folder = Path(path).expanduser()
    file = next(
        (one for one in (folder / _DESCRIPTION, folder / "model" / _DESCRIPTION) if one.is_file()),
        None,
    )
    if file is None:
        is_run = (folder / "config.yaml").is_file()
        raise ConfigError(
            f"backbone.path={path}: "
            + (
                "the run has no model (yet); resume it, or name a finished one."
                if is_run
                else "there is no run, nor a model; name a folder as `confide simulate` prints it."
            )
        )
    try:
        values = json.loads(file.read_text())
        parts = {name: values[name] for name in ("task", "backbone", "tuning")}
        if not all(isinstance(part, dict) for part in parts.values()):
            raise TypeError("a part is no mapping")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(
            f"backbone.path={path}: {file} cannot be read ({words_of(error)}); bring the folder"
            " that the run left."
        ) from None
    return {**parts, "backbone_sha256": values.get("backbone_sha256")}


def _task_differences(composed: DictConfig, theirs: Mapping[str, Any], path: str) -> list[str]:
    """List where the task of a config is another than the one that a model was trained for.

    Args:
        composed: the config.
        theirs: the model's task, as its description has it.
        path: of the earlier run, for the sentences.
    """
    try:
        task = OmegaConf.to_object(composed.task)
    except OmegaConfBaseException:
        return []  # told where it stands
    if not isinstance(task, TaskConfig):
        return []
    ours = {name: it for name, it in asdict(task).items() if name not in _FREE}
    flat_ours, flat_theirs = _flat(ours), _flat({k: v for k, v in theirs.items() if k in ours})
    if ours.get("kind") != theirs.get("kind"):
        flat_ours, flat_theirs = {"kind": ours.get("kind")}, {"kind": theirs.get("kind")}
    return [
        f"task.{key}={_short(flat_ours.get(key))}: the model of {path} was trained with"
        f" {_short(flat_theirs.get(key))}, and its tensors mean that; set the same, or start a"
        " model of its own with another backbone."
        for key in sorted(flat_ours.keys() | flat_theirs.keys())
        # What an older release did not write says what it did: the default
        if (key in flat_ours and flat_ours[key] != flat_theirs.get(key, flat_ours[key]))
        or key not in flat_ours
    ]


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(node, Mapping) or not node:
        return {prefix.removesuffix("."): node}
    return {
        key: value
        for name, child in node.items()
        for key, value in _flat(child, f"{prefix}{name}.").items()
    }


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def model_words(composed: DictConfig | None, overrides: Sequence[str]) -> list[str]:
    """List overrides that say of the model what the earlier run says already.

    Args:
        composed: before the earlier run's parts are in their place; None if it cannot be composed.
        overrides: as they were typed.
    """
    if composed is None or not is_going_on(composed):
        return []
    path = OmegaConf.select(composed, "backbone.path", throw_on_missing=False) or "RUN"
    problems = []
    for word in overrides:
        key = word.lstrip("+~").split("=")[0]
        if key.split(".")[0] == "tuning":
            problems.append(
                f"{word}: {_CHOICE} trains what {path} trained, in the same way; leave it out. To"
                " train more of the model from there, such as adapters on top of a head, name its"
                f" backbone and set server.start_from={path} {word}."
            )
        elif key.split(".")[0] == "backbone" and key not in ("backbone", "backbone.path"):
            problems.append(
                f"{word}: with {_CHOICE} the model is that of {path}, as it is; leave it out."
            )
    return problems


__all__ = ["going_on", "gone_on_from", "is_going_on", "model_words", "with_job_of_run"]
