"""Settings that suit what is learnt, and how privately: a rule of the config alone.

A config that says nothing of them holds ``${suited:KEY}``, resolved when all else is known;
``RUN/config.yaml`` and a plan hold values. No record is read for it.
"""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

LEARNING_RATES: dict[tuple[str, bool], float] = {
    ("logistic", False): 0.2,
    ("logistic", True): 0.5,
    ("mlp", False): 0.2,
    ("mlp", True): 0.5,
    ("head", False): 0.3,
    ("head", True): 1.0,
    ("lora", False): 0.1,
    ("lora", True): 0.5,
    ("full", False): 0.01,
    ("full", True): 0.1,
}
"""Client learning rate of SGD: (backbone without weights, or tuning of one with; private) -> rate.

Private steps are larger: a clipped gradient is at most clipping_norm long."""

SUITED = {
    "client.optimizer.learning_rate": "${suited:learning_rate}",
    "data.partitioner": "${suited:partitioner}",
}
"""Setting -> what stands for it where nothing else does."""


def register_rule() -> None:
    """Tell OmegaConf of the rule; again is the same."""
    OmegaConf.register_new_resolver("suited", _suited, replace=True)


def suited_words(composed: DictConfig) -> list[str]:
    """Return the overrides that set what the rule decides, for a config that is only shown."""
    words = []
    for key, rule in SUITED.items():
        group, _, name = key.rpartition(".")
        if OmegaConf.to_container(OmegaConf.select(composed, group)).get(name) == rule:  # type: ignore[union-attr]
            words.append(f"{key}={OmegaConf.select(composed, key)}")
    return words


def _suited(name: str, *, _root_: DictConfig) -> Any:
    if name == "partitioner":
        return _partitioner(_root_)
    if name == "tree_rounds":
        # One a level; a value that is no number is reported where it stands
        counts = [_of(_root_, f"backbone.{key}") for key in ("num_trees", "depth")]
        return counts[0] * counts[1] if all(isinstance(one, int) for one in counts) else 1
    backbone, tuning = _of(_root_, "backbone.kind"), _of(_root_, "tuning.kind")
    private = _of(_root_, "privacy.unit") not in (None, "none")
    model = tuning if backbone == "transformer" else backbone
    # What is unknown here is reported as such; it needs some value until then
    return LEARNING_RATES.get((str(model), private), 0.1)


def _partitioner(root: DictConfig) -> str:
    """Choose natural where a column or a folder names the institutions."""
    path = str(_of(root, "data.path") or "")
    # "" is the current folder to Path
    named = _of(root, "data.partition_by") is not None or (
        path != "" and "://" not in path and Path(path).expanduser().is_dir()
    )
    return "natural" if named else "iid"


def _of(root: DictConfig, key: str) -> Any:
    return OmegaConf.select(root, key, throw_on_missing=False)


__all__ = ["LEARNING_RATES", "SUITED", "register_rule", "suited_words"]
