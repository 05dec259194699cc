"""What a served model is, as every answer says: its hashes, and the run that it came from."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from confide.errors import ConfigError
from confide.storage.files import read_regular

if TYPE_CHECKING:
    from confide.inference.predictor import Predictor

_VERSION = 12
"""Digits of the model's hash that name its version."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SUMMARY = "summary.json"
_LARGEST_SUMMARY = 2**26
"""Bytes; of a run with very many institutions."""
_HEADER = "confide-"
_TOLD = ("unit", "epsilon", "delta", "guarantee")
"""What a summary says of privacy that travels with every answer."""

Parameters = Mapping[str, str | float | bool]


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a served model is.

    Attributes:
        name: that it is asked by.
        model_sha256: of its run's trainable tensors.
        parameters: of every answer: hashes, run, and the privacy that the run's summary claims.
    """

    name: str
    model_sha256: str
    parameters: Parameters

    @property
    def version(self) -> str:
        """The one version that is served."""
        return self.model_sha256[:_VERSION]

    @property
    def headers(self) -> dict[str, str]:
        """The same for HTTP, percent-encoded where HTTP could not hold it."""
        return {
            _HEADER + name.replace("_", "-"): quote(str(value), safe=" :;,.()/")
            for name, value in self.parameters.items()
        }


def identity_of(predictor: "Predictor", folder: Path, name: str | None) -> Identity:
    """Return what a model is.

    Args:
        predictor: the model.
        folder: that it was named by: RUN, RUN/model or an exported one.
        name: that it is to be asked by; None: of its task and backbone.

    Raises:
        ConfigError: if the name could not stand in a URL.
    """
    plan, described = predictor.plan, predictor.description
    chosen = f"{plan.task.kind}-{plan.backbone.kind}" if name is None else name
    check_name(chosen)
    told: dict[str, str | float | bool] = {
        "model_sha256": described.model_sha256,
        "plan_sha256": plan.sha256,
        "run": plan.job,
        "form": described.form,
    }
    if plan.backbone_sha256 is not None:
        told["backbone_sha256"] = plan.backbone_sha256
    if plan.parents:
        told["parents"] = " ".join(one.model_sha256[:_VERSION] for one in plan.parents)
    told |= {f"privacy_{key}": it for key, it in _privacy(folder, described.model_sha256).items()}
    return Identity(name=chosen, model_sha256=described.model_sha256, parameters=told)


def check_name(name: str) -> None:
    """Check the name that a model is to be asked by.

    Raises:
        ConfigError: if it could not stand in a URL.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"--name {name}: expected 1 to 100 of letters, digits, '.', '_' and '-', a letter or"
            " a digit first, since it is a part of URLs."
        )


def _privacy(folder: Path, model_sha256: str) -> dict[str, str | float]:
    """Return what the run's summary claims of this very model; {} where there is none."""
    place = folder.absolute()
    for run in (place, place.parent, place.parent.parent):
        summary = _read(run / _SUMMARY)
        if summary.get("model_sha256") != model_sha256:
            continue
        privacy = summary.get("privacy")
        told = privacy if isinstance(privacy, dict) else {}
        return {key: told[key] for key in _TOLD if _is_told(told.get(key))}
    return {}


def _is_told(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, float) and math.isfinite(value))


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_regular(path, most=_LARGEST_SUMMARY))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


__all__ = ["Identity", "check_name", "identity_of"]
