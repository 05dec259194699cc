"""Hydra's state, which belongs to the process, and how schemas are told to it."""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf


@contextlib.contextmanager
def own_hydra() -> Iterator[None]:
    """Use Hydra as if nobody else did: a caller that uses it too finds it as it was."""
    Plugins.instance()  # they register their own schemas once, to stay
    store, running = ConfigStore.instance(), GlobalHydra.instance().hydra
    before, store.repo, GlobalHydra.instance().hydra = store.repo, _copied(store.repo), None
    try:
        yield
    finally:
        store.repo, GlobalHydra.instance().hydra = before, running


def _copied(tree: dict[str, Any]) -> dict[str, Any]:
    return {name: _copied(node) if isinstance(node, dict) else node for name, node in tree.items()}


@functools.cache
def with_open_dicts(node: type) -> DictConfig:
    """Make a schema whose dictionaries take new keys, as in ``data.partitioner_args={...}``.

    Hydra would want a + before it.
    """
    config = OmegaConf.structured(node)
    assert isinstance(config, DictConfig)
    _open_dicts(config)
    return config


def _open_dicts(config: DictConfig) -> None:
    for key in config:
        child = config._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            if child._metadata.object_type is not dict:
                _open_dicts(child)
            elif not dataclasses.is_dataclass(child._metadata.element_type):
                OmegaConf.set_struct(child, False)


__all__ = ["own_hydra", "with_open_dicts"]
