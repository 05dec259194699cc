"""Hydra's global state, put aside and restored, and schemas as Hydra takes them."""

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
    """Use Hydra with a state of its own; a caller that uses Hydra too finds its state unchanged."""
    # Hydra keeps one state for the process. Plugins register their schemas when they are first
    # loaded, and never again: that has to happen before the state is copied.
    Plugins.instance()
    store, running = ConfigStore.instance(), GlobalHydra.instance().hydra
    before, store.repo, GlobalHydra.instance().hydra = store.repo, _copied(store.repo), None
    try:
        yield
    finally:
        store.repo, GlobalHydra.instance().hydra = before, running


def _copied(tree: dict[str, Any]) -> dict[str, Any]:
    return {name: _copied(node) if isinstance(node, dict) else node for name, node in tree.items()}


@functools.cache
def with_open_dicts(node: type, names: tuple[str, ...]) -> DictConfig:
    """Return a schema whose dictionaries take new keys, as in ``data.partitioner_args={...}``.

    Args:
        node: schema dataclass.
        names: names of the entries of the tables that its defaults are made from; others make it
            again.
    """
    # Hydra composes in struct mode, in which a new key would need a + before the override
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
