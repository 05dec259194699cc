"""What is wrong with the values of a composed config, in sentences."""

import dataclasses
import difflib
from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from confide.config.composing.main_job import MAIN_JOB
from confide.config.fields import range_problems
from confide.config.run import Config
from confide.config.tasks.table import TASKS
from confide.config.tunings.table import REFUSED

NAMED_IN_FILE = "which is not there"
"""What is said of a choice that an own file names."""
FEW_CHOICES = 8
"""So many choices are listed beside a guess."""
_HOW_TO_SET = {
    "data.path": (
        "name the records, data.path=FILE, or choose data or an experiment that does;"
        f" {MAIN_JOB} is the main job."
    ),
    "backbone.name": (
        "name the folder of a model in Hugging Face format (config.json, *.safetensors, and its"
        " tokenizer or preprocessor_config.json), backbone.name=FOLDER."
    ),
}
_CATALOGUE_FOLDER = (
    "name its folder, backbone.name=FOLDER; where it is not there, it is made of"
    " backbone.catalogue=FILE."
)

_OF_A_GUARANTEE = ("privacy.epsilon=", "privacy.delta=", "privacy.clipping_norm=")


def value_problems(composed: DictConfig) -> list[str]:
    """List every value that is missing, out of range or contradicted."""
    # Before to_object(), which stops at the first one.
    missing = sorted(str(key) for key in OmegaConf.missing_keys(composed))
    how = dict(_HOW_TO_SET)
    if OmegaConf.select(composed, "backbone.kind") == "items":
        how["backbone.name"] = _CATALOGUE_FOLDER
    unset = [
        f"{key} is not set; {how.get(key, 'choose a value or a group that sets it.')}"
        for key in missing
    ]
    try:
        composed = composed.copy() if missing else composed
        # With its own name as its value, so that everything else can be checked as well
        for key in missing:
            OmegaConf.update(composed, key, key)
        config = OmegaConf.to_object(composed)
    except OmegaConfBaseException as error:
        return unset or [first_line(error)]
    if not dataclasses.is_dataclass(config):
        return [f"Expected a composed {Config.__name__}, got {type(config).__name__}."]
    about_unset = tuple(f"{key}=" for key in missing)
    if "data.path" in missing:  # whose records they are is not known either
        about_unset += ("client.ledger=null",)
    return [*unset, *(p for p in range_problems(config) if not p.startswith(about_unset))]


def unasked_guarantees(composed: DictConfig, overrides: Sequence[str]) -> list[str]:
    """List overrides that ask for a guarantee where none is chosen, and would change nothing."""
    if OmegaConf.select(composed, "privacy.unit") != "none":
        return []
    asked = [word for word in overrides if word.lstrip("+").startswith(_OF_A_GUARANTEE)]
    return [
        f"{word} asks for a guarantee, and privacy=none trains without any; say privacy=record or"
        " privacy=group too, or leave it out."
        for word in asked
    ]


def without_consequences(found: Sequence[str], problems: Sequence[str]) -> list[str]:
    """Leave out what follows from a choice of task, records or experiment that is not there."""
    chosen = ("task=", "data=", "data/generator=", "experiment=")
    if not any(p.startswith(chosen) or NAMED_IN_FILE in p for p in problems):
        return list(found)
    return [p for p in found if not p.startswith(("task.", "data.", "backbone.", "client.ledger"))]


def setting_keys(node: DictConfig, prefix: str = "") -> list[str]:
    """List the dotted keys of every setting."""
    found: list[str] = []
    for key in map(str, node):
        found.append(f"{prefix}{key}")
        if (
            not OmegaConf.is_missing(node, key)
            # Not node[key], which would resolve interpolations and raise where it cannot.
            and isinstance(child := node._get_node(key), DictConfig)
            and not child._is_none()
        ):
            found += setting_keys(child, f"{prefix}{key}.")
    return found


def no_choice(group: str, choice: str, options: Sequence[str]) -> str:
    """Say that a group has no such choice, and why if that is on purpose."""
    if group == "tuning" and choice in REFUSED:
        return f"not offered: {REFUSED[choice]}"
    if group == "task" and choice in TASKS:
        begun = TASKS[choice].choice
        how = f"task={begun} begins one" if begun else "a file of your own begins with it"
        return f"{choice} is a kind of task, and {how}.{near('', options)}"
    return f"there is no {group} called {choice}.{near(choice, options)}"


def near(choice: str, options: Sequence[str]) -> str:
    """Name the choices that a word may have meant; all, if they are few or none is near."""
    close = difflib.get_close_matches(choice, options, n=2, cutoff=0.7)
    guess = f" Did you mean {' or '.join(close)}?" if close else ""
    if close and len(options) > FEW_CHOICES:
        return f"{guess} `--help` lists them all."
    return f"{guess} Choose one of: {', '.join(options)}."


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says."""
    return str(error).strip().splitlines()[0]


__all__ = [
    "NAMED_IN_FILE",
    "first_line",
    "near",
    "no_choice",
    "setting_keys",
    "unasked_guarantees",
    "value_problems",
    "without_consequences",
]
